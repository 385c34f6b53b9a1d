//! The one clock of the whole project: CLOCK_MONOTONIC, which is Go's `nanotime` too.

use aya_ebpf::helpers::bpf_ktime_get_ns;

/// Now, in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_ktime_get_ns() }
}
