//! Atomic addition, for programs that are preempted by others on the same CPU, or run on several CPUs.

use core::arch::asm;

/// Adds `n` to `*counter`.
///
/// This is inline assembly, since the BPF target has no atomics in `core`, in the form without fetch, which kernels
/// before 5.12 know, too.
#[inline(always)]
pub fn add(counter: *mut u64, n: u64) {
    // SAFETY: callers pass a pointer into a map value that the verifier has checked for null; it also checks the
    // bounds of this instruction.
    unsafe { asm!("lock *(u64 *)({p} + 0) += {n}", p = in(reg) counter, n = in(reg) n) }
}

/// Increments a counter.
macro_rules! count {
    ($counters:expr, $field:ident) => {
        // SAFETY: the pointer comes from a map lookup; only the field's address is taken.
        $crate::programs::atomic::add(unsafe { &raw mut (*$counters).$field }, 1)
    };
}
pub(crate) use count;
