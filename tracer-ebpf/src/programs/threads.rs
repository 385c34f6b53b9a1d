//! `full`: Linux's scheduling of the target's threads. These programs run for every process of the host, so they
//! first check whose thread it is.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel, generated::bpf_get_smp_processor_id},
    macros::map,
    maps::{Array, HashMap},
    programs::RawTracePointContext,
};
use tracer_ebpf::{
    MAX_TARGETS,
    full::{FullCounters, TaskConfig, Transition, What, flag},
};

use super::{atomic::count, maps, transition};

/// Index of the target, by its process id in the initial PID namespace.
#[map]
static FOLLOWED: HashMap<u32, u32> = HashMap::with_max_entries(MAX_TARGETS, 0);

/// The only entry.
#[map]
static TASK: Array<TaskConfig> = Array::with_max_entries(1, 0);

/// Handles a switch of a CPU from the current thread to another.
#[inline(always)]
pub fn switched(ctx: &RawTracePointContext) {
    let Some(task) = TASK.get(0).filter(|task| task.tgid != 0) else {
        return;
    };
    let pid_tgid = bpf_get_current_pid_tgid();
    if let Some(counters) = followed((pid_tgid >> 32) as u32) {
        let preempted = ctx.arg::<u64>(0) & 1 != 0;
        let state = field::<u32>(ctx.arg(1), task.state).unwrap_or(0);
        let flags = if preempted { flag::PREEMPTED } else { 0 };
        let detail = if preempted { 0 } else { u64::from(state) };
        send(counters, What::ThreadOff, pid_tgid as u32, detail, flags);
    }
    let next: u64 = ctx.arg(2);
    if let Some(tgid) = field::<u32>(next, task.tgid)
        && let Some(counters) = followed(tgid)
        && let Some(tid) = field::<u32>(next, task.pid)
    {
        // SAFETY: the helper takes no arguments.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        send(counters, What::ThreadOn, tid, u64::from(cpu), 0);
    }
}

/// Handles a thread that becomes runnable.
#[inline(always)]
pub fn woken(ctx: &RawTracePointContext) {
    let Some(task) = TASK.get(0).filter(|task| task.tgid != 0) else {
        return;
    };
    let thread: u64 = ctx.arg(0);
    if let Some(tgid) = field::<u32>(thread, task.tgid)
        && let Some(counters) = followed(tgid)
        && let Some(tid) = field::<u32>(thread, task.pid)
    {
        let waker = bpf_get_current_pid_tgid() as u32;
        send(counters, What::ThreadWoken, tid, u64::from(waker), 0);
    }
}

/// Handles the end of the current thread.
#[inline(always)]
pub fn ended() {
    let pid_tgid = bpf_get_current_pid_tgid();
    if let Some(counters) = followed((pid_tgid >> 32) as u32) {
        send(counters, What::ThreadEnded, pid_tgid as u32, 0, 0);
    }
}

/// Counters of the target whose process this is; `None` for every other process, and while it is switched off.
#[inline(always)]
fn followed(tgid: u32) -> Option<*mut FullCounters> {
    // SAFETY: an entry is a number, which the user side writes as a whole.
    let target = *unsafe { FOLLOWED.get(&tgid) }?;
    if maps::TARGETS.get(target)?.enabled == 0 {
        return None;
    }
    transition::counters_of(target)
}

#[inline(always)]
fn send(counters: *mut FullCounters, what: What, tid: u32, detail: u64, flags: u8) {
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
    transition::put(counters, record);
}

/// Reads a field of a struct of the kernel's.
#[inline(always)]
fn field<T>(base: u64, offset: u32) -> Option<T> {
    let address = base.wrapping_add(u64::from(offset)) as *const T;
    // SAFETY: the helper checks the address; T is an integer in all callers.
    unsafe { bpf_probe_read_kernel(address) }.ok()
}
