//! `full`: Linux's scheduling of the target's threads. These programs run for every process of the host, so they
//! first check whose thread it is.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel, generated::bpf_get_smp_processor_id},
    macros::map,
    maps::Array,
    programs::RawTracePointContext,
};
use tracer_ebpf::full::{FullCounters, TaskConfig, Transition, What, flag};

use super::{atomic::count, maps, rings::Ring, transition};

/// The only entry.
#[map]
static TASK: Array<TaskConfig> = Array::with_max_entries(1, 0);

/// Handles a switch of a CPU from the current thread to another.
#[inline(always)]
pub fn switched<R: Ring>(ctx: &RawTracePointContext) {
    let Some(task) = task() else {
        return;
    };
    let pid_tgid = bpf_get_current_pid_tgid();
    if (pid_tgid >> 32) as u32 == task.followed
        && let Some(counters) = counters_of(task)
    {
        let preempted = ctx.arg::<u64>(0) & 1 != 0;
        let state = field::<u32>(ctx.arg(1), task.state).unwrap_or(0);
        let flags = if preempted { flag::PREEMPTED } else { 0 };
        let detail = if preempted { 0 } else { u64::from(state) };
        send::<R>(counters, What::ThreadOff, pid_tgid as u32, detail, flags);
    }
    let next: u64 = ctx.arg(2);
    if field(next, task.tgid) == Some(task.followed)
        && let Some(counters) = counters_of(task)
        && let Some(tid) = field::<u32>(next, task.pid)
    {
        // SAFETY: the helper takes no arguments.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        send::<R>(counters, What::ThreadOn, tid, u64::from(cpu), 0);
    }
}

/// Handles a thread that becomes runnable.
#[inline(always)]
pub fn woken<R: Ring>(ctx: &RawTracePointContext) {
    let Some(task) = task() else {
        return;
    };
    let thread: u64 = ctx.arg(0);
    if field(thread, task.tgid) == Some(task.followed)
        && let Some(counters) = counters_of(task)
        && let Some(tid) = field::<u32>(thread, task.pid)
    {
        let waker = bpf_get_current_pid_tgid() as u32;
        send::<R>(counters, What::ThreadWoken, tid, u64::from(waker), 0);
    }
}

/// Handles the end of the current thread.
#[inline(always)]
pub fn ended<R: Ring>(_ctx: &RawTracePointContext) {
    let Some(task) = task() else {
        return;
    };
    let pid_tgid = bpf_get_current_pid_tgid();
    if (pid_tgid >> 32) as u32 == task.followed
        && let Some(counters) = counters_of(task)
    {
        send::<R>(counters, What::ThreadEnded, pid_tgid as u32, 0, 0);
    }
}

/// What is followed; `None` where nothing is.
#[inline(always)]
fn task() -> Option<&'static TaskConfig> {
    TASK.get(0).filter(|task| task.followed != 0)
}

/// Counters of the target; `None` while it is switched off.
#[inline(always)]
fn counters_of(task: &TaskConfig) -> Option<*mut FullCounters> {
    if maps::TARGETS.get(task.target)?.enabled == 0 {
        return None;
    }
    transition::counters_of(task.target)
}

#[inline(always)]
fn send<R: Ring>(counters: *mut FullCounters, what: What, tid: u32, detail: u64, flags: u8) {
    count!(counters, seen_threads);
    let record = Transition {
        at_ns: 0,
        subject: 0,
        detail,
        tid,
        what: what as u8,
        status: 0,
        reason: 0,
        flags,
    };
    transition::put::<R>(counters, record);
}

/// Reads a field of a struct of the kernel's.
#[inline(always)]
fn field<T>(base: u64, offset: u32) -> Option<T> {
    let address = base.wrapping_add(u64::from(offset)) as *const T;
    // SAFETY: the helper checks the address; T is an integer in all callers.
    unsafe { bpf_probe_read_kernel(address) }.ok()
}
