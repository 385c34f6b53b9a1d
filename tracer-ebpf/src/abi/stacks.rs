//! `full --stacks`: stacks of goroutines that block, as the kernel side keeps them.
//!
//! A stack is walked by its frame pointers when its goroutine becomes Waiting, and kept once: the record of the
//! transition has its key ([`key_of`]) in [`crate::full::Transition::detail`], or 0 if there is no stack.

use super::counters::counters;

/// Most frames of a stack that are kept: those of the functions that were called last.
pub const DEPTH: usize = 32;
/// Default number of different stacks that are kept.
pub const DEFAULT_STACKS: u32 = 8_192;
/// Fewest and most stacks that are kept: the largest table takes 20 MB.
pub const STACKS_RANGE: (u32, u32) = (1, 65_536);

/// How a walk ended.
pub mod end {
    /// At the goroutine's first function, whose frame pointer is 0.
    pub const WHOLE: u32 = 0;
    /// After [`super::DEPTH`] frames: the functions that were called first are missing.
    pub const CUT: u32 = 1;
    /// At a frame pointer that does not point up the goroutine's stack, or at unreadable memory: the functions that
    /// were called first are missing.
    pub const BROKEN: u32 = 2;
}

/// A stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Return addresses in the running process, innermost first; 0 after the last.
    pub frames: [u64; DEPTH],
    /// Number of frames.
    pub depth: u32,
    /// One of [`end`].
    pub end: u32,
}

impl Stack {
    /// A stack without frames.
    pub const EMPTY: Self = Self {
        frames: [0; DEPTH],
        depth: 0,
        end: end::WHOLE,
    };
}

/// Adds a frame to the key of the frames before it, beginning with [`FIRST_KEY`].
#[inline(always)]
pub const fn key_with(key: u64, frame: u64) -> u64 {
    // Each step is a bijection of `frame`, so stacks that differ in one frame never have the same key.
    let mixed = (key ^ frame).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// The key of an empty stack.
pub const FIRST_KEY: u64 = 0x51_7cc1_b727_220a;

/// The key of a stack, from that of its frames and the end of the walk; never 0.
#[inline(always)]
pub const fn key_of(frames: u64, end: u32) -> u64 {
    let key = key_with(frames, end as u64);
    if key == 0 { 1 } else { key }
}

/// Configuration of the programs for a target's stacks. Offsets in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackConfig {
    /// `g.stack.hi`.
    pub g_stack_hi: u32,
    /// `g.sched.pc`.
    pub g_sched_pc: u32,
    /// `g.sched.bp`; 0 if stacks are not walked.
    pub g_sched_bp: u32,
    /// Zero.
    pub reserved: u32,
}

counters! {
    /// Counters of the stacks of one target, per CPU. `walked` = sent with a key + `full` + `unreadable`.
    pub struct StackCounters {
        /// Goroutines that became Waiting with their registers saved.
        pub walked: u64,
        /// Of them, those whose stack was new and found no room in the table.
        pub full: u64,
        /// Of them, those whose g could not be read.
        pub unreadable: u64,
    }
}

const _: () = {
    assert!(core::mem::size_of::<Stack>() == 8 * DEPTH + 8);
    assert!(core::mem::size_of::<StackConfig>() == 16);
    assert!(core::mem::size_of::<StackCounters>() == 24);
};
