//! System calls of starting processes: the slow ones, and the objects that they work on.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{
        bpf_get_current_pid_tgid, bpf_probe_read_kernel,
        generated::{bpf_probe_read_user, bpf_probe_read_user_str},
    },
    programs::RawTracePointContext,
};
use tracer_ebpf::start::{CALL_TEXT, Call, CallEvent, call_kind, phase};

use super::{atomic::count, clock, lifecycle, maps};

/// Do not wake the reader.
const NO_WAKEUP: u64 = 1;
/// Bytes of a `sockaddr_in6`: longer ones are paths (`sockaddr_un`).
const ADDRESS: u64 = 28;
/// Bytes of a socket address's family.
const FAMILY: usize = 2;

/// Handles the begin of a system call of any process. Returns at once for those that are not starting.
#[inline(always)]
pub fn entered(ctx: &RawTracePointContext) {
    let Some(config) = maps::START_CONFIG.get(0) else {
        return;
    };
    let number = ctx.arg::<u64>(1) as u32;
    let pid_tgid = bpf_get_current_pid_tgid();
    if number == config.execve || number == config.execveat {
        return lifecycle::execve_entered(config, pid_tgid);
    }
    let tgid = (pid_tgid >> 32) as u32;
    match lifecycle::start_of(tgid) {
        Some(start) if start.phase != phase::DONE => {}
        _ => return,
    }
    // A start makes hundreds of calls that are always fast, most of them rt_sigaction.
    if kind_of(number).is_none() {
        return;
    }
    let registers: u64 = ctx.arg(0);
    let call = Call {
        at_ns: clock::now(),
        args: arguments(registers),
        number,
        tgid,
    };
    let _ = maps::CALLS.insert(&(pid_tgid as u32), &call, 0);
}

/// Handles the end of a system call.
#[inline(always)]
pub fn returned(ctx: &RawTracePointContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
    match lifecycle::start_of(tgid) {
        Some(start) if start.phase == phase::EXECUTING && start.executing == tid => {
            return lifecycle::execve_failed(tgid);
        }
        Some(_) => {}
        None => return,
    }
    // SAFETY: only this thread's own programs change its entry.
    let Some(call) = (unsafe { maps::CALLS.get(&tid) }) else {
        return;
    };
    let call = *call;
    let _ = maps::CALLS.remove(&tid);
    let Some(config) = maps::START_CONFIG.get(0) else {
        return;
    };
    let duration_ns = clock::now().wrapping_sub(call.at_ns);
    let kind = kind_of(call.number).unwrap_or(call_kind::DESCRIPTOR);
    let slow = duration_ns >= config.slow_call_ns && (kind != call_kind::IDLE || tid == tgid);
    if slow || kind == call_kind::CONNECT || kind == call_kind::OPEN_0 || kind == call_kind::OPEN_1 {
        send(&call, duration_ns, ctx.arg::<u64>(1) as i64, kind, tid);
    }
}

/// The kind of a system call; `None` if it is not sent.
#[inline(always)]
fn kind_of(number: u32) -> Option<u32> {
    // SAFETY: written by the user side before anything is attached.
    unsafe { maps::CALL_KINDS.get(&number) }.copied()
}

#[inline(always)]
fn send(call: &Call, duration_ns: u64, result: i64, kind: u32, tid: u32) {
    let Some(mut entry) = maps::EVENTS.reserve::<CallEvent>(0) else {
        if let Some(counters) = maps::COUNTERS.get_ptr_mut(0) {
            count!(counters, calls_lost);
        }
        return;
    };
    let event = entry.write(CallEvent {
        at_ns: call.at_ns.wrapping_add(duration_ns),
        duration_ns,
        result,
        descriptor: call.args[0],
        tgid: call.tgid,
        tid,
        number: call.number,
        kind,
        text: [0; CALL_TEXT],
    });
    let to = event.text.as_mut_ptr().cast::<c_void>();
    // SAFETY: the helpers write at most the given number of bytes, and check the address that they read.
    let _ = unsafe {
        match kind {
            call_kind::PATH_0 | call_kind::OPEN_0 => {
                bpf_probe_read_user_str(to, CALL_TEXT as u32, call.args[0] as *const c_void)
            }
            call_kind::PATH_1 | call_kind::OPEN_1 => {
                bpf_probe_read_user_str(to, CALL_TEXT as u32, call.args[1] as *const c_void)
            }
            call_kind::CONNECT => {
                let length = call.args[2];
                // The verifier requires a visible bound.
                if length <= ADDRESS {
                    bpf_probe_read_user(to, length as u32, call.args[1] as *const c_void)
                } else {
                    // A path after the family; memory past its end may be unmapped.
                    let path = call.args[1].wrapping_add(FAMILY as u64) as *const c_void;
                    bpf_probe_read_user(to, FAMILY as u32, call.args[1] as *const c_void)
                        | bpf_probe_read_user_str(to.add(FAMILY), (CALL_TEXT - FAMILY) as u32, path)
                }
            }
            _ => 0,
        }
    };
    entry.submit(NO_WAKEUP);
}

/// The first three arguments of a system call, from the registers that it was entered with.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn arguments(registers: u64) -> [u64; 3] {
    use core::mem::offset_of;
    [
        register(registers, offset_of!(pt_regs, rdi)),
        register(registers, offset_of!(pt_regs, rsi)),
        register(registers, offset_of!(pt_regs, rdx)),
    ]
}

/// Likewise; argument n is in X n.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn arguments(registers: u64) -> [u64; 3] {
    let first = core::mem::offset_of!(pt_regs, regs);
    [
        register(registers, first),
        register(registers, first + 8),
        register(registers, first + 16),
    ]
}

#[inline(always)]
fn register(registers: u64, offset: usize) -> u64 {
    let address = registers.wrapping_add(offset as u64) as *const u64;
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address) }.unwrap_or(0)
}
