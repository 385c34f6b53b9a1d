//! Events of starting processes that do not depend on the program: `execve`, CPU switches, and the end.

use aya_ebpf::{
    bindings::bpf_pidns_info,
    helpers::{
        bpf_get_current_pid_tgid, bpf_probe_read_kernel,
        generated::{bpf_get_current_task, bpf_get_ns_current_pid_tgid},
    },
    programs::RawTracePointContext,
};
use tracer_ebpf::start::{MAX_BINARIES, Mark, NO_TARGET, Start, StartConfig, StartEvent, exec, phase};

use super::{clock, maps, tree};

/// Flag that does not wake the reader: a wake-up costs more than the trap, and its work would take the CPU from the
/// start.
const NO_WAKEUP: u64 = 1;

/// The entry of this process, if its start is followed.
#[inline(always)]
pub fn start_of(tgid: u32) -> Option<&'static mut Start> {
    let start = maps::STARTS.get_ptr_mut(&tgid)?;
    // SAFETY: a value of the map. Programs of other threads change only its bit sets. A lost bit makes a mark be sent
    // twice, which the reader expects.
    Some(unsafe { &mut *start })
}

/// Handles a call of execve by the current process, which is followed if it is held, or in the tree of one that is.
#[inline(always)]
pub fn execve_entered(config: &StartConfig, pid_tgid: u64) {
    if config.tree != 0 {
        if tree::execve_entered(config, (pid_tgid >> 32) as u32) {
            begin(Mark::Execve, pid_tgid);
        }
        return;
    }
    let pid = own_pid(config.pidns_device, config.pidns_inode);
    // SAFETY: only the existence of the entry is tested.
    if pid == 0 || unsafe { maps::HELD.get(&pid) }.is_none() {
        return;
    }
    begin(Mark::Execve, pid_tgid);
}

/// Handles the return of a failed `execve`, after which the program is still the old one.
#[inline(always)]
pub fn execve_failed(tgid: u32) {
    let _ = maps::STARTS.remove(&tgid);
}

/// Handles an `execve` that is about to replace the program.
#[inline(always)]
pub fn prepared() {
    let pid_tgid = bpf_get_current_pid_tgid();
    if is_followed_once_open() {
        begin(Mark::ExecPrepared, pid_tgid);
    }
}

/// Handles an `execve` that has replaced the program.
#[inline(always)]
pub fn executed() {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tgid = (pid_tgid >> 32) as u32;
    let seen = start_of(tgid).is_some_and(|start| start.phase == phase::EXECUTING);
    if seen {
        let binary = tree::binary_of(tgid);
        if let Some(start) = start_of(tgid) {
            start.binary = binary;
            send(start, Mark::Executed as u32, u64::from(binary), pid_tgid);
        }
        if binary >= MAX_BINARIES {
            let _ = maps::STARTS.remove(&tgid);
        }
    } else if is_followed_once_open() {
        begin(Mark::Executed, pid_tgid);
    }
    if let Some(start) = start_of(tgid)
        && start.phase == phase::EXECUTING
    {
        start.phase = phase::CANDIDATE;
        // Times of the thread that had this id before do not count.
        start.off_since_ns = 0;
    }
}

/// Handles the end of a thread. The first thread of a process also ends when another one of it calls `execve`.
#[inline(always)]
pub fn exited() {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tgid = (pid_tgid >> 32) as u32;
    if pid_tgid as u32 != tgid {
        return;
    }
    let mut before_main = false;
    if let Some(start) = start_of(tgid)
        && start.phase != phase::EXECUTING
    {
        if start.phase != phase::DONE {
            before_main = true;
            send(start, Mark::Exited as u32, 0, pid_tgid);
        }
        let _ = maps::STARTS.remove(&tgid);
    }
    // While another thread executes a program, the process continues.
    if start_of(tgid).is_none() {
        tree::exited(tgid);
        forget_held(before_main);
    }
}

/// Forgets the current process, which ends, if it was held and never came to `main.main`: otherwise programs that end
/// early would fill the table in time. `before_main`: its start was followed until now.
///
/// With [`exec::GATED`] only such a process is forgotten. Before Linux 6.11 a start begins with `sched_process_exec`,
/// and if another thread has called `execve`, the first one ends between the opening, which made the entry, and that.
#[inline(always)]
fn forget_held(before_main: bool) {
    let Some(config) = maps::START_CONFIG.get(0) else {
        return;
    };
    if config.tree != 0
        || config.every_exec == exec::EVERY
        || (config.every_exec == exec::GATED && !before_main)
    {
        return;
    }
    let pid = own_pid(config.pidns_device, config.pidns_inode);
    // SAFETY: only the existence of the entry is tested. Most processes have none, and finding that takes no lock.
    if pid != 0 && unsafe { maps::HELD.get(&pid) }.is_some() {
        let _ = maps::HELD.remove(&pid);
    }
}

/// Handles a switch of a CPU from the current thread to another, to time main threads.
#[inline(always)]
pub fn switched(ctx: &RawTracePointContext) {
    let Some(config) = maps::START_CONFIG.get(0) else {
        return;
    };
    if config.task_pid == 0 {
        return;
    }
    let next: u64 = ctx.arg(2);
    // Only main threads are looked up: a start's key is its tgid, which is their tid.
    if let Some(tid) = field::<u32>(next, config.task_pid)
        && let Some(start) = start_of(tid)
        && start.off_since_ns != 0
    {
        let off = clock::now().wrapping_sub(start.off_since_ns);
        if start.asleep != 0 {
            start.asleep_ns += off;
        } else {
            start.waiting_ns += off;
        }
        start.off_since_ns = 0;
    }
    let tid = bpf_get_current_pid_tgid() as u32;
    if let Some(start) = start_of(tid)
        && start.phase != phase::DONE
    {
        let preempted: u64 = ctx.arg(0);
        let previous: u64 = ctx.arg(1);
        let state = field::<u32>(previous, config.task_state).unwrap_or(0);
        start.asleep = u32::from(preempted & 1 == 0 && state != 0);
        start.off_since_ns = clock::now();
    }
}

/// Begins to follow the current process.
#[inline(always)]
fn begin(mark: Mark, pid_tgid: u64) {
    let tgid = (pid_tgid >> 32) as u32;
    if maps::STARTS.insert(&tgid, &EMPTY, 0).is_err() {
        return;
    }
    if let Some(start) = start_of(tgid) {
        start.executing = pid_tgid as u32;
        send(start, mark as u32, 0, pid_tgid);
    }
}

/// The initial value of an entry, which is too large to be made on the stack.
static EMPTY: Start = Start {
    off_since_ns: 0,
    asleep_ns: 0,
    waiting_ns: 0,
    bias: 0,
    ps_bound: [0; tracer_ebpf::start::MAX_PS as usize / 64],
    seen: 0,
    go_statements: 0,
    asleep: 0,
    phase: phase::EXECUTING,
    target: NO_TARGET,
    binary: 0,
    executing: 0,
    reserved: 0,
};

/// Whether to follow the current process, whose program is open, from here on.
#[inline(always)]
fn is_followed_once_open() -> bool {
    let Some(config) = maps::START_CONFIG.get(0) else {
        return false;
    };
    match config.every_exec {
        exec::EVERY => true,
        exec::GATED => {
            let pid = own_pid(config.pidns_device, config.pidns_inode);
            // SAFETY: only the existence of the entry is tested.
            pid != 0 && unsafe { maps::HELD.get(&pid) }.is_some()
        }
        _ => false,
    }
}

/// Handles `main.main` in the current process: later programs of it are followed only in a tree.
#[inline(always)]
pub fn arrived() {
    if let Some(config) = maps::START_CONFIG.get(0)
        && config.tree == 0
        && config.every_exec != exec::EVERY
    {
        let _ = maps::HELD.remove(&own_pid(config.pidns_device, config.pidns_inode));
    }
}

/// Sends a mark. Returns false if the ring is full.
#[inline(always)]
pub fn send(start: &Start, mark: u32, value: u64, pid_tgid: u64) -> bool {
    let at_ns = clock::now();
    let Some(config) = maps::START_CONFIG.get(0) else {
        return false;
    };
    let Some(mut entry) = maps::EVENTS.reserve::<StartEvent>(0) else {
        return false;
    };
    // SAFETY: the helper takes no arguments.
    let task = unsafe { bpf_get_current_task() };
    let fault = |offset: u32| match offset {
        0 => 0,
        offset => field::<u64>(task, offset).unwrap_or(0),
    };
    entry.write(StartEvent {
        at_ns,
        value,
        asleep_ns: start.asleep_ns,
        waiting_ns: start.waiting_ns,
        minor_faults: fault(config.task_minor_faults),
        major_faults: fault(config.task_major_faults),
        tgid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
        mark,
        pid: own_pid(config.pidns_device, config.pidns_inode),
        target: start.target,
        reserved: 0,
    });
    entry.submit(NO_WAKEUP);
    true
}

/// Id of the current process in the PID namespace with this device and inode, gmpscope's own; 0 if it has no id there.
#[inline(always)]
pub fn own_pid(device: u64, inode: u64) -> u32 {
    let mut info = bpf_pidns_info { pid: 0, tgid: 0 };
    let size = core::mem::size_of::<bpf_pidns_info>() as u32;
    // SAFETY: the helper writes the given number of bytes, or fails.
    let done = unsafe { bpf_get_ns_current_pid_tgid(device, inode, &raw mut info, size) };
    if done == 0 { info.tgid } else { 0 }
}

/// Reads a field of a struct of the kernel's.
#[inline(always)]
pub fn field<T>(base: u64, offset: u32) -> Option<T> {
    let address = base.wrapping_add(u64::from(offset)) as *const T;
    // SAFETY: the helper checks the address; T is an integer in all callers.
    unsafe { bpf_probe_read_kernel(address) }.ok()
}
