//! Addition that is not lost when a program is preempted by another on the same CPU, or runs on two CPUs.

use core::arch::asm;

/// Adds `n` to `*counter`.
///
/// As inline assembly since the BPF target has no atomics in `core`, and in the form without fetch, which
/// kernels before 5.12 know too.
#[inline(always)]
pub fn add(counter: *mut u64, n: u64) {
    // SAFETY: callers pass a pointer into a map value that the verifier has checked for null; it also
    // checks the bounds of this very instruction.
    unsafe { asm!("lock *(u64 *)({p} + 0) += {n}", p = in(reg) counter, n = in(reg) n) }
}

/// Counts one.
macro_rules! count {
    ($counters:expr, $field:ident) => {
        // SAFETY: the pointer comes from a map lookup; only the field's address is taken.
        $crate::programs::atomic::add(unsafe { &raw mut (*$counters).$field }, 1)
    };
}
pub(crate) use count;
