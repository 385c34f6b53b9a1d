//! The registers of Go's internal ABI (cmd/compile/abi-internal.md), per architecture. aya's `ctx.arg` reads those of
//! the C ABI.

use aya_ebpf::programs::ProbeContext;

/// Reads the saved register at a constant offset.
///
/// This is inline assembly: the compiler merges the arms of a `match` into one read at a computed offset, even
/// volatile ones, and the verifier refuses that for a context.
macro_rules! load {
    ($ctx:expr, $offset:expr) => {{
        let value: u64;
        // SAFETY: the context of a uprobe program is the saved registers; the verifier checks the offset.
        unsafe {
            core::arch::asm!(
                "{value} = *(u64 *)({ctx} + {offset})",
                value = out(reg) value,
                ctx = in(reg) $ctx.regs,
                offset = const $offset,
                options(pure, readonly, nostack, preserves_flags),
            )
        };
        value
    }};
}

/// The register of this name in `pt_regs`.
#[cfg(bpf_target_arch = "x86_64")]
macro_rules! field {
    ($ctx:expr, $field:ident) => {
        load!($ctx, core::mem::offset_of!(aya_ebpf::bindings::pt_regs, $field))
    };
}

/// The register of this name, or the general register of this number, in `user_pt_regs`.
#[cfg(bpf_target_arch = "aarch64")]
macro_rules! field {
    ($ctx:expr, regs[$n:literal]) => {
        load!(
            $ctx,
            core::mem::offset_of!(aya_ebpf::bindings::pt_regs, regs) + 8 * $n
        )
    };
    ($ctx:expr, $field:ident) => {
        load!($ctx, core::mem::offset_of!(aya_ebpf::bindings::pt_regs, $field))
    };
}

#[cfg(bpf_target_arch = "x86_64")]
mod arch {
    use super::ProbeContext;

    /// Address of the probed instruction.
    #[inline(always)]
    pub fn ip(ctx: &ProbeContext) -> u64 {
        field!(ctx, rip)
    }
    /// Stack pointer.
    #[inline(always)]
    pub fn sp(ctx: &ProbeContext) -> u64 {
        field!(ctx, rsp)
    }
    /// The current g.
    #[inline(always)]
    pub fn g(ctx: &ProbeContext) -> u64 {
        field!(ctx, r14)
    }
    /// First, second and third integer argument.
    #[inline(always)]
    pub fn args(ctx: &ProbeContext) -> (u64, u64, u64) {
        (field!(ctx, rax), field!(ctx, rbx), field!(ctx, rcx))
    }
    /// The zero flag.
    #[inline(always)]
    pub fn zero_flag(ctx: &ProbeContext) -> bool {
        field!(ctx, eflags) & (1 << 6) != 0
    }
    /// A general register by its encoding.
    #[inline(always)]
    pub fn general(ctx: &ProbeContext, number: u8) -> u64 {
        match number {
            0 => field!(ctx, rax),
            1 => field!(ctx, rcx),
            2 => field!(ctx, rdx),
            3 => field!(ctx, rbx),
            5 => field!(ctx, rbp),
            6 => field!(ctx, rsi),
            7 => field!(ctx, rdi),
            8 => field!(ctx, r8),
            9 => field!(ctx, r9),
            10 => field!(ctx, r10),
            11 => field!(ctx, r11),
            12 => field!(ctx, r12),
            13 => field!(ctx, r13),
            15 => field!(ctx, r15),
            _ => 0,
        }
    }
}

#[cfg(bpf_target_arch = "aarch64")]
mod arch {
    use super::ProbeContext;

    /// Address of the probed instruction.
    #[inline(always)]
    pub fn ip(ctx: &ProbeContext) -> u64 {
        field!(ctx, pc)
    }
    /// Stack pointer.
    #[inline(always)]
    pub fn sp(ctx: &ProbeContext) -> u64 {
        field!(ctx, sp)
    }
    /// The current g.
    #[inline(always)]
    pub fn g(ctx: &ProbeContext) -> u64 {
        field!(ctx, regs[28])
    }
    /// First, second and third integer argument.
    #[inline(always)]
    pub fn args(ctx: &ProbeContext) -> (u64, u64, u64) {
        (field!(ctx, regs[0]), field!(ctx, regs[1]), field!(ctx, regs[2]))
    }
    /// The Z flag of PSTATE.
    #[inline(always)]
    pub fn zero_flag(ctx: &ProbeContext) -> bool {
        field!(ctx, pstate) & (1 << 30) != 0
    }
    /// A general register by its number: those that the compiler allocates.
    #[inline(always)]
    pub fn general(ctx: &ProbeContext, number: u8) -> u64 {
        macro_rules! pick {
            ($($n:literal)+) => {
                match number {
                    $($n => field!(ctx, regs[$n]),)+
                    _ => 0,
                }
            };
        }
        pick!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 19 20 21 22 23 24 25 26)
    }
}

pub use arch::*;
