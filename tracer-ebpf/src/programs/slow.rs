//! Slow waits, which are sent to the user side one by one.

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, programs::ProbeContext};
use aya_log_ebpf::debug;
use tracer_ebpf::{Counters, SlowWait, TargetConfig};

use super::{atomic::count, maps, memory, registers};

/// Flag that does not wake the reader, which reads several times a second anyway: a wake-up costs more than the trap.
const NO_WAKEUP: u64 = 1;

/// Puts one slow wait into the ring, with what can be read of its goroutine, M and P.
#[allow(
    clippy::too_many_arguments,
    reason = "BPF has no heap, and a struct of them would be copied"
)]
#[inline(always)]
pub fn send(
    ctx: &ProbeContext,
    config: &TargetConfig,
    counters: *mut Counters,
    target: u32,
    g: u64,
    latency_ns: u64,
    at_ns: u64,
    origin: u32,
) {
    let Some(mut entry) = maps::EVENTS.reserve::<SlowWait>(0) else {
        count!(counters, ring_full);
        return;
    };
    entry.write(SlowWait {
        at_ns,
        latency_ns,
        g,
        goid: field(g, config.g_goid),
        gopc: field(g, config.g_gopc),
        tid: bpf_get_current_pid_tgid() as u32,
        p: current_p(ctx, config).unwrap_or(-1),
        target,
        origin,
    });
    entry.submit(NO_WAKEUP);
    count!(counters, ring_sent);
    debug!(ctx, "slow wait: g {:x} {} ns", g, latency_ns);
}

/// A word of the g, or 0 if its offset is not known or it cannot be read.
#[inline(always)]
fn field(g: u64, offset: u32) -> u64 {
    if offset == 0 {
        return 0;
    }
    memory::word(g, offset).unwrap_or(0)
}

/// Id of the P of the thread that hit the probe.
#[inline(always)]
fn current_p(ctx: &ProbeContext, config: &TargetConfig) -> Option<i32> {
    if config.m_p == 0 {
        return None;
    }
    let m = memory::word(registers::g(ctx), config.g_m)?;
    let p = memory::word(m, config.m_p).filter(|&p| p != 0)?;
    memory::read::<i32>(p, config.p_id)
}
