//! The stack of our uprobe programs must be the thread's own.
//!
//! Since Linux 6.13 (arm64: 6.17) a program with 64 bytes of stack or more may get a *private stack*, one for each CPU. That is
//! sound where a program cannot be entered again on the same CPU before it has ended. A uprobe program can: it runs with
//! preemption on, so that on a preemptible kernel another thread may be put on the CPU and hit a probe, and the two
//! then write over each other's values. Seen on Linux 7.3: a page fault in the kernel.
//!
//! The kernel gives no private stack to a program that holds a tail call (`check_max_stack_depth`,
//! kernel/bpf/verifier.c). So each has one, on a way that is not taken, into a table that is empty.

use aya_ebpf::{EbpfContext, macros::map, maps::ProgramArray};

/// Empty. The first program that is loaded decides which kind may be in it, and programs for uprobe_multi links are
/// another kind: they are loaded with [`NO_PROGRAM_MULTI`] in its place.
#[map]
pub static NO_PROGRAM: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// See [`NO_PROGRAM`].
#[map]
pub static NO_PROGRAM_MULTI: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Whether programs may hold a tail call. Not so on arm64 before Linux 6.0, which refuses one in a program that has
/// functions, as ours do; what cannot be reached is not looked at. Userspace sets it before the programs are loaded.
#[unsafe(no_mangle)]
static TAIL_CALLS: u8 = 1;

/// Does nothing, where nothing is to be done.
#[inline(always)]
pub fn is_the_threads_own<C: EbpfContext>(ctx: &C) {
    // SAFETY: a static of the object, which userspace changes before it is loaded: the compiler may not take its
    // value from here.
    if unsafe { core::ptr::read_volatile(&raw const TAIL_CALLS) } != 0 {
        // SAFETY: there is no program to go to, so that control comes back.
        unsafe { NO_PROGRAM.tail_call(ctx, 0) }
    }
}
