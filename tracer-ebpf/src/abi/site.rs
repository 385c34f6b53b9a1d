//! Probed instructions.

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
    /// A moment of a process's start, which is in [`Site::origin`].
    Mark = 8,
    /// The branch after an inlined compare-and-swap of two statuses that are in [`Site::old_in`] and
    /// [`Site::new_in`] themselves, not in registers (`full`).
    SwappedConstants = 9,
    /// The entry of a function whose call is a transition: [`Site::origin`] is a [`full::What`](super::full::What),
    /// and arguments are still in registers (`full`).
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

/// One probed instruction: what the program looks up at a hit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Index of the target's [`TargetConfig`](super::TargetConfig) and [`Counters`](super::Counters).
    pub target: u32,
    /// A [`SiteKind`].
    pub kind: u8,
    /// An [`Origin`](super::Origin), for sites into Runnable. `Yielded` is turned into `Preempted` by the program when
    /// `g.preempt` is set. For [`SiteKind::Mark`] a [`start::Mark`](super::start::Mark).
    pub origin: u8,
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
    /// Run-time address of the instruction.
    pub ip: u64,
    /// Process id, in the initial PID namespace; for [`SiteKind::Mark`] the number of its binary.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = {
    assert!(core::mem::size_of::<Site>() == 16);
    assert!(core::mem::size_of::<SiteKey>() == 16);
};
