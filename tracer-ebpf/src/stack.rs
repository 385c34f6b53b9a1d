//! The stack of our uprobe programs must be the thread's own.
//!
//! Since Linux 6.13 (arm64: 6.17) a program with 64 bytes of stack or more may get a *private stack*, one for each CPU. That is
//! sound where a program cannot be entered again on the same CPU before it has ended. A uprobe program can: it runs with
//! preemption on, so that on a preemptible kernel another thread may be put on the CPU and hit a probe, and the two
//! then write over each other's values. Seen on Linux 7.3: a page fault in the kernel.
//!
//! The kernel gives no private stack to a program that holds a tail call (`check_max_stack_depth`,
//! kernel/bpf/verifier.c). So each has one, on a way that is not taken, into a table that is empty. On x86_64 alone: for arm64
//! kernels before 6.0 refuse tail calls in programs that have functions, as ours do.

use aya_ebpf::{EbpfContext, macros::map, maps::ProgramArray};

/// Empty. The first program that is loaded decides which kind may be in it, and programs for uprobe_multi links are
/// another kind: they are loaded with [`NO_PROGRAM_MULTI`] in its place.
#[map]
pub static NO_PROGRAM: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// See [`NO_PROGRAM`].
#[map]
pub static NO_PROGRAM_MULTI: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Does nothing, where nothing is to be done.
#[inline(always)]
pub fn is_the_threads_own<C: EbpfContext>(ctx: &C) {
    if cfg!(bpf_target_arch = "x86_64") {
        // SAFETY: there is no program to go to, so that control comes back.
        unsafe { NO_PROGRAM.tail_call(ctx, 0) }
    }
}
