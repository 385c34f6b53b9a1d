//! The only clock of the project: CLOCK_MONOTONIC of the host. Go's `nanotime` is the same, but for the offset of the
//! target's time namespace ([`TargetConfig::clock_offset_ns`](tracer_ebpf::TargetConfig::clock_offset_ns)).

use aya_ebpf::helpers::bpf_ktime_get_ns;

/// The current time in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_ktime_get_ns() }
}
