//! Events of processes of the whole host: every `execve` and every end of a thread runs these programs.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_get_current_task};
use tracer_ebpf::host::{HostConfig, HostEvent, host_event};

use super::{atomic, clock, lifecycle, maps, target};

/// Flag that does not wake the reader, which reads several times a second anyway.
const NO_WAKEUP: u64 = 1;
/// Flag that wakes the reader, since the ring fills up.
const WAKEUP: u64 = 2;
/// Query of how many bytes of the ring were not read yet (`BPF_RB_AVAIL_DATA`).
const UNREAD: u64 = 0;

/// Reports that the current process has executed another program.
#[inline(always)]
pub fn executed() {
    if let Some(config) = maps::HOST_CONFIG.get(0) {
        target::executed(config);
        send(config, host_event::EXEC);
    }
}

/// Reports the end of the current process, if the current thread is the last one.
#[inline(always)]
pub fn exited() {
    let Some(config) = maps::HOST_CONFIG.get(0) else {
        return;
    };
    if is_last_thread(config) {
        send(config, host_event::EXIT);
    }
}

/// Whether the current thread is the last one: do_exit (kernel/exit.c) has decremented the number of live threads
/// before the tracepoint.
#[inline(always)]
fn is_last_thread(config: &HostConfig) -> bool {
    if config.signal_live == 0 {
        let pid_tgid = bpf_get_current_pid_tgid();
        return pid_tgid as u32 == (pid_tgid >> 32) as u32;
    }
    // SAFETY: the helper takes no arguments.
    let task = unsafe { bpf_get_current_task() };
    let Some(signal) = lifecycle::field::<u64>(task, config.task_signal) else {
        return false;
    };
    lifecycle::field::<u32>(signal, config.signal_live) == Some(0)
}

#[inline(always)]
fn send(config: &HostConfig, kind: u32) {
    let pid = lifecycle::own_pid(config.pidns_device, config.pidns_inode);
    if pid == 0 {
        return;
    }
    let Some(mut entry) = maps::HOST_EVENTS.reserve::<HostEvent>(0) else {
        if let Some(counters) = maps::HOST_COUNTERS.get_ptr_mut(0) {
            // SAFETY: a checked pointer into the map; only the field's address is taken.
            atomic::add(unsafe { &raw mut (*counters).processes_lost }, 1);
        }
        return;
    };
    entry.write(HostEvent {
        at_ns: clock::now(),
        subject: pid,
        kind,
    });
    if maps::HOST_EVENTS.query(UNREAD) >= config.wake_at {
        entry.submit(WAKEUP);
    } else {
        entry.submit(NO_WAKEUP);
    }
}
