//! Keeps our uprobe programs on the stack of the thread.
//!
//! Since Linux 6.13 (arm64: 6.17) a program with 64 bytes of stack or more may get a *private stack*, one for each
//! CPU. That is safe if a program cannot be entered again on the same CPU before it has ended. A uprobe program can:
//! it is preemptible, so that on a preemptible kernel another thread may get the CPU and hit a probe, and the two
//! then overwrite each other's values. Seen on Linux 7.3: a page fault in the kernel.
//!
//! The kernel gives no private stack to a program with a tail call (`check_max_stack_depth`, kernel/bpf/verifier.c).
//! So each has one, into an empty table, which has no effect.

use aya_ebpf::{EbpfContext, macros::map, maps::ProgramArray};

/// An empty table. The first program that is loaded decides which kind may be in it, and programs for uprobe_multi
/// links are of another kind: they are loaded with [`NO_PROGRAM_MULTI`] instead.
#[map]
pub static NO_PROGRAM: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Replaces [`NO_PROGRAM`] for uprobe_multi links.
#[map]
pub static NO_PROGRAM_MULTI: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Whether programs may have a tail call: arm64 before Linux 6.0 refuses one in a program with functions, such as
/// ours, unless it is unreachable. Userspace sets this before the programs are loaded.
#[unsafe(no_mangle)]
static TAIL_CALLS: u8 = 1;

/// Makes the tail call that keeps the program on the thread's own stack. It has no effect otherwise.
#[inline(always)]
pub fn is_the_threads_own<C: EbpfContext>(ctx: &C) {
    // SAFETY: a static of the object, which userspace changes before it is loaded: the compiler must not assume its
    // value.
    if unsafe { core::ptr::read_volatile(&raw const TAIL_CALLS) } != 0 {
        // SAFETY: the table is empty, so control returns.
        unsafe { NO_PROGRAM.tail_call(ctx, 0) }
    }
}
