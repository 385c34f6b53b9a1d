//! Probed instructions.

use super::{Origin, full::What, start::Mark};

/// The kind of a probe site, which decides how the program reads it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SiteKind {
    /// `call runtime.casgstatus`: old and new status are the call's second and third argument
    /// (amd64 EBX, ECX; arm64 W1, W2), and the goroutine is the first (RAX; R0).
    StatusCall = 0,
    /// The conditional branch after an inlined `casgstatus`'s compare-and-swap to Runnable; it succeeded if
    /// the zero flag is [`Site::zf_when_swapped`].
    SwappedToRunnable = 1,
    /// Likewise for a compare-and-swap from Runnable to Running.
    SwappedToRunning = 2,
    /// `call runtime.nanotime1` in casgstatus's branch "tracked, and was Runnable": the end of a sampled
    /// wait whose begin is in `g.trackingStamp`.
    TrackedWaitEnds = 3,
    /// In `(*timeHistogram).record`: the latency is its second argument, and the receiver must be
    /// `&sched.timeToRun` (it has other callers).
    HistogramRecord = 4,
    /// Only a hit: the cost of an empty program, for comparison.
    Empty = 5,
    /// The branch after an inlined compare-and-swap whose statuses are not constants: they are in the registers
    /// [`Site::old_in`] and [`Site::new_in`].
    Swapped = 6,
    /// `call (*timeHistogram).record` in casgstatus's branch "tracked, and now Running" (Go ≥ 1.26), or, where that
    /// is inlined, its first branch. The latency is in the register [`Site::old_in`].
    WaitRecorded = 7,
    /// A moment of a process's start: [`Site::meaning`] says which.
    Mark = 8,
    /// The branch after an inlined compare-and-swap of two statuses that are in [`Site::old_in`] and
    /// [`Site::new_in`] themselves, not in registers (`full`).
    SwappedConstants = 9,
    /// The entry of a function whose call is a transition: [`Site::meaning`] says of what, and arguments are still in
    /// registers (`full`).
    Entry = 10,
    /// The entry of a function which changes the status of the goroutine that is its first argument
    /// (or of the current one, [`gp_in::CURRENT`]) as [`Site::old_in`] and [`Site::new_in`] say.
    StatusEntry = 11,
}

impl SiteKind {
    /// The kind with this number.
    pub fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            0 => Self::StatusCall,
            1 => Self::SwappedToRunnable,
            2 => Self::SwappedToRunning,
            3 => Self::TrackedWaitEnds,
            4 => Self::HistogramRecord,
            5 => Self::Empty,
            6 => Self::Swapped,
            7 => Self::WaitRecorded,
            8 => Self::Mark,
            9 => Self::SwappedConstants,
            10 => Self::Entry,
            11 => Self::StatusEntry,
            _ => return None,
        })
    }
}

/// Location of the goroutine's pointer when the probed instruction is reached.
///
/// 0..=15 name an amd64 register by its encoding (0 RAX, 1 RCX, 2 RDX, 3 RBX, 4 RSP, 5 RBP, 6 RSI, 7 RDI,
/// 8..15 R8..R15), 0..=30 an arm64 X register.
pub mod gp_in {
    /// Not in a register: follow the current g (R14, X28) to its m, and that to `m.curg`.
    pub const CURG: u8 = 0xff;
    /// The current g itself (R14, X28).
    pub const CURRENT: u8 = 0xfd;
    /// In the stack slot at stack pointer + [`super::Site::slot`].
    pub const STACK_SLOT: u8 = 0xfe;
}

/// What a hit of a site means: one of three kinds of number, of which the site's kind says which.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meaning(u8);

impl Meaning {
    /// A goroutine becomes runnable in this way; for sites into Runnable. The programs turn `Yielded` into `Preempted`
    /// where `g.preempt` is set.
    #[inline(always)]
    pub const fn runnable(origin: Origin) -> Self {
        Self(origin as u8)
    }

    /// A start has come to this moment; for [`SiteKind::Mark`].
    pub const fn mark(mark: Mark) -> Self {
        Self(mark as u8)
    }

    /// The call is a transition of this kind; for [`SiteKind::Entry`].
    pub const fn call(what: What) -> Self {
        Self(what as u8)
    }

    /// The number of the origin, mark or kind of transition.
    #[inline(always)]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// One probed instruction: what the program looks up at a hit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Index of the target's [`TargetConfig`](super::TargetConfig) and [`Counters`](super::Counters).
    pub target: u32,
    /// A [`SiteKind`].
    pub kind: u8,
    /// What a hit means.
    pub meaning: Meaning,
    /// A register's number, or one of [`gp_in`].
    pub gp_in: u8,
    /// Value of the zero flag (0 or 1) that says that the compare-and-swap succeeded, for the `Swapped…` kinds: 1 at a
    /// branch right after it, 0 after the `sete; test` that Go emits in between.
    pub zf_when_swapped: u8,
    /// Byte offset from the stack pointer, for [`gp_in::STACK_SLOT`]; for the `Swapped…` kinds how many bytes
    /// the register is past the goroutine's pointer.
    pub slot: u32,
    /// Register with the old status, for [`SiteKind::Swapped`]; with the latency, for [`SiteKind::WaitRecorded`].
    pub old_in: u8,
    /// Register with the new status, for [`SiteKind::Swapped`].
    pub new_in: u8,
    /// Number of its binary, for [`SiteKind::Mark`]; otherwise 0.
    pub binary: u16,
}

/// Key of `SITES_BY_IP`, which replaces attach cookies where the kernel does not have them (before 5.15).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteKey {
    address: u64,
    whose: u32,
    reserved: u32,
}

impl SiteKey {
    /// The key of an instruction at a run-time address of one process, whose id is that in the initial PID namespace.
    #[inline(always)]
    pub const fn of_process(address: u64, tgid: u32) -> Self {
        Self {
            address,
            whose: tgid,
            reserved: 0,
        }
    }

    /// The key of an instruction at a link-time address of a binary, in whatever process; for [`SiteKind::Mark`].
    #[inline(always)]
    pub const fn of_binary(address: u64, number: u32) -> Self {
        Self {
            address,
            whose: number,
            reserved: 0,
        }
    }
}

const _: () = {
    assert!(core::mem::size_of::<Site>() == 16);
    assert!(core::mem::size_of::<SiteKey>() == 16);
};
