//! The only clock of the project: CLOCK_MONOTONIC, which is also Go's `nanotime`.

use aya_ebpf::helpers::bpf_ktime_get_ns;

/// The current time in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_ktime_get_ns() }
}
