//! The ABI between the kernel side and the user side of gmpscope: keys and values of the BPF maps, and
//! the events of the ring buffer. No code but what both sides must compute alike.
//!
//! What differs between two traced processes (struct offsets, thresholds) lies in a [`TargetConfig`],
//! and what differs between two probed instructions in a [`Site`]; both are map values, so one loaded
//! object serves many targets.
#![no_std]

pub mod full;
pub mod histogram;
pub mod host;
pub mod stacks;
pub mod start;

pub use histogram::Histogram;

/// How many processes one loaded object can serve.
pub const MAX_TARGETS: u32 = 256;
/// How many probe sites a target may have; those of target n have the cookies from n times as many on.
pub const SITES_PER_TARGET: u32 = 64;
/// How many probe sites all targets of one loaded object may have together.
pub const MAX_SITES: u32 = MAX_TARGETS * SITES_PER_TARGET;
/// How many creation sites (functions that hold a `go` statement) are told apart, over all targets; the user
/// side sizes the map. What does not fit, or is more than [`TargetConfig::creation_sites`], is added to
/// [`OTHER_CREATION_SITES`] and counted in [`Counters::creation_sites_full`].
pub const MAX_CREATION_SITES: u32 = 1_024;
/// `gopc` under which waits are aggregated when the table of creation sites is full.
pub const OTHER_CREATION_SITES: u64 = 0;
/// Default number of goroutines whose →Runnable stamps the kernel can hold; the user side sizes the map
/// for its target. What does not fit is counted in [`Counters::stamps_full`].
pub const DEFAULT_STAMPS: u32 = 65_536;
/// Bytes of the ring buffer that carries slow waits.
pub const RING_BYTES: u32 = 1 << 20;

/// How a goroutine became runnable. The numbers are indexes into `EXACT_HISTOGRAMS`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// `newproc1`: a `go` statement.
    Created = 0,
    /// `ready` and the few places that do the same: the thing it waited for happened.
    Unblocked = 1,
    /// `goschedImpl`, `goyield_m`: it gave up its P by itself.
    Yielded = 2,
    /// `goschedImpl` with `g.preempt` set: the scheduler took its P away.
    Preempted = 3,
    /// `exitsyscall0`, `exitsyscallNoP`: it came back from a system call and found no P.
    Syscall = 4,
    /// `injectglist`, and `findRunnable` after `netpoll`: the network poller found it ready.
    Netpoll = 5,
}

impl Origin {
    /// Every origin, in the order of its number.
    pub const ALL: [Origin; 6] = [
        Origin::Created,
        Origin::Unblocked,
        Origin::Yielded,
        Origin::Preempted,
        Origin::Syscall,
        Origin::Netpoll,
    ];
    /// How many there are.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// The name as JSON and text show it.
    pub const fn name(self) -> &'static str {
        match self {
            Origin::Created => "created",
            Origin::Unblocked => "unblocked",
            Origin::Yielded => "yielded",
            Origin::Preempted => "preempted",
            Origin::Syscall => "syscall",
            Origin::Netpoll => "netpoll",
        }
    }

    /// The origin with this number.
    pub fn from_u8(n: u8) -> Option<Self> {
        Self::ALL.get(n as usize).copied()
    }
}

/// What a probe site is, which decides how the program reads it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SiteKind {
    /// `call runtime.casgstatus`: old and new status are the call's second and third argument
    /// (amd64 EBX, ECX; arm64 W1, W2), and the goroutine is the first (RAX; R0).
    StatusCall = 0,
    /// The conditional branch after an inlined `casgstatus`'s compare-and-swap to Runnable; it was done if
    /// the zero flag is [`Site::zf_when_swapped`].
    SwappedToRunnable = 1,
    /// The same for a compare-and-swap from Runnable to Running.
    SwappedToRunning = 2,
    /// `call runtime.nanotime1` in casgstatus's branch "tracked, and was Runnable": the end of a sampled
    /// wait whose begin is in `g.trackingStamp`.
    TrackedWaitEnds = 3,
    /// In `(*timeHistogram).record`: the latency is its second argument, and the receiver must be
    /// `&sched.timeToRun` (it has other callers).
    HistogramRecord = 4,
    /// Nothing but a hit: what an empty program costs, to compare with.
    Empty = 5,
    /// The branch after an inlined compare-and-swap whose statuses the code does not name: they are in the
    /// registers [`Site::old_in`] and [`Site::new_in`].
    Swapped = 6,
    /// `call (*timeHistogram).record` in casgstatus's branch "tracked, and now Running" (Go ≥ 1.26), or, where that
    /// is inlined, its first branch. The latency is in the register [`Site::old_in`].
    WaitRecorded = 7,
    /// A moment of a process's start: which one is in [`Site::origin`].
    Mark = 8,
    /// The branch after an inlined compare-and-swap of two statuses that are in [`Site::old_in`] and
    /// [`Site::new_in`] themselves, not in registers (`full`).
    SwappedConstants = 9,
    /// The entry of a function whose call is a transition: [`Site::origin`] is a [`full::What`], and arguments are
    /// still in registers (`full`).
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

/// Where the goroutine's pointer is when the probed instruction is reached.
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

/// One probed instruction: what the program must know when it is hit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Index of the target's [`TargetConfig`] and [`Counters`].
    pub target: u32,
    /// A [`SiteKind`].
    pub kind: u8,
    /// An [`Origin`], for sites into Runnable. `Yielded` is turned into `Preempted` by the program when
    /// `g.preempt` is set. For [`SiteKind::Mark`] a [`start::Mark`].
    pub origin: u8,
    /// A register's number, or one of [`gp_in`].
    pub gp_in: u8,
    /// Value of the zero flag (0 or 1) that says the compare-and-swap was done, for the `Swapped…` kinds:
    /// 1 at a branch right behind it, 0 behind the `sete; test` that Go emits in between.
    pub zf_when_swapped: u8,
    /// Byte offset from the stack pointer, for [`gp_in::STACK_SLOT`]; for the `Swapped…` kinds how many bytes
    /// the register is past the goroutine's pointer.
    pub slot: u32,
    /// Register with the old status, for [`SiteKind::Swapped`]; with the latency, for [`SiteKind::WaitRecorded`].
    pub old_in: u8,
    /// Register with the new status, for [`SiteKind::Swapped`].
    pub new_in: u8,
    /// Number of its binary, for [`SiteKind::Mark`]; else 0.
    pub binary: u16,
}

/// Key of `SITES_BY_IP`, which stands in for attach cookies where the kernel has none (before 5.15).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteKey {
    /// Run-time address of the instruction.
    pub ip: u64,
    /// Process id, in the initial PID namespace; of [`SiteKind::Mark`] the number of its binary.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
}

/// What the programs must know of one target. All offsets are in bytes; 0 where the layout of this Go
/// version is not known, except for `p_id`, which is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetConfig {
    /// Waits of at least this many nanoseconds go through the ring one by one; `u64::MAX` for none.
    pub slower_ns: u64,
    /// Run-time address of `runtime.sched.timeToRun`, for [`SiteKind::HistogramRecord`].
    pub time_to_run: u64,
    /// The hit cap: with more [`TargetState::hits`] than this the programs switch the target off; 0 for none.
    pub hit_limit: u64,
    /// 0: the programs return at once. The way to stop a target's cost before its probes are gone.
    pub enabled: u32,
    /// `g.m`.
    pub g_m: u32,
    /// `g.trackingStamp` (Go 1.19: `g.runnableStamp`).
    pub g_tracking_stamp: u32,
    /// `g.gopc`; at most [`G_BLOCK`] - 8 past `g_tracking_stamp`.
    pub g_gopc: u32,
    /// `g.goid`.
    pub g_goid: u32,
    /// `g.preempt`, or 0 where unknown: then nothing is told to be preempted.
    pub g_preempt: u32,
    /// `m.curg`.
    pub m_curg: u32,
    /// `m.p`.
    pub m_p: u32,
    /// `p.id`.
    pub p_id: u32,
    /// Creation sites that may have histograms of their own.
    pub creation_sites: u32,
}

/// What the programs keep of one target for all CPUs together, on a cache line of its own size. Counted up
/// only: the user side begins a new window by a higher [`TargetConfig::hit_limit`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetState {
    /// Hits while the target was switched on and had a cap.
    pub hits: u64,
    /// Histograms of creation sites that were made.
    pub creation_sites: u64,
    /// Zero.
    pub reserved: [u64; 6],
}

/// The sampled program reads `g.trackingStamp` to `g.gopc` as one block of this many bytes: one helper
/// call in place of two.
pub const G_BLOCK: usize = 112;

/// Key of `STAMPS`: the address of a g in the low 48 bits, the target's index above. Addresses of user
/// space have 47 bits (amd64, 4-level) or 48 (arm64); Go's heap lies in the lower part on 5-level too.
pub const fn stamp_key(target: u32, g: u64) -> u64 {
    ((target as u64) << 48) | (g & 0xffff_ffff_ffff)
}

/// Value of `STAMPS`: since when a goroutine is runnable.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// CLOCK_MONOTONIC; 0 when it is not runnable.
    pub at_ns: u64,
    /// An [`Origin`].
    pub origin: u64,
}

/// Key of `SAMPLED_HISTOGRAMS`: `g.gopc`, a return address in the function with the `go` statement at run
/// time, in the low 48 bits, the target's index above. One word, since hashing it is part of a hit's cost.
pub const fn creation_site_key(target: u32, gopc: u64) -> u64 {
    stamp_key(target, gopc)
}

/// (target, gopc) of a [`creation_site_key`].
pub const fn creation_site_of(key: u64) -> (u32, u64) {
    ((key >> 48) as u32, key & 0xffff_ffff_ffff)
}

/// What happened in the kernel for one target, per CPU. Every hit of a probe adds to exactly one of the
/// fields that [`Counters::hits`] sums up, or to a histogram of `sampled`; the others say what came of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Hits while the target was switched off.
    pub disabled: u64,
    /// Hits whose status change neither enters nor leaves Runnable, or `record` on another histogram.
    pub unrelated: u64,
    /// Hits of inlined compare-and-swaps that had not swapped.
    pub failed_swaps: u64,
    /// →Runnable transitions seen.
    pub into_runnable: u64,
    /// Runnable→Running transitions seen.
    pub into_running: u64,
    /// Runnable→Running whose →Runnable was not stamped: it lay before the attaching, or did not fit.
    pub unpaired: u64,
    /// Runnable→ transitions to another status than Running (Go 1.22's `newcoro`): the wait is dropped.
    pub out_of_runnable: u64,
    /// →Runnable that found no room in `STAMPS`.
    pub stamps_full: u64,
    /// Waits that went to [`OTHER_CREATION_SITES`].
    pub creation_sites_full: u64,
    /// Waits of `exact` that could be added to no histogram at all.
    pub histograms_full: u64,
    /// The same of `sampled`.
    pub samples_full: u64,
    /// Slow waits that found no room in the ring buffer.
    pub ring_full: u64,
    /// Slow waits put into the ring buffer.
    pub ring_sent: u64,
    /// Ends of tracked waits whose goroutine could not be read from the target's memory.
    pub unreadable: u64,
    /// Waits of `exact` whose end lay before their begin (clock or stamp trouble); not in any histogram.
    pub negative: u64,
    /// The same of `sampled`.
    pub negative_samples: u64,
    /// Hits of empty programs, while calibrating.
    pub empty: u64,
    /// Marks of starts that were sent.
    pub marks: u64,
    /// Marks of starts that found no room in the ring buffer.
    pub marks_lost: u64,
    /// Slow system calls of starts that found no room in the ring buffer.
    pub calls_lost: u64,
    /// Processes that found no room in the table of those that are followed.
    pub tree_full: u64,
}

impl Counters {
    /// Field by field.
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            disabled: self.disabled + other.disabled,
            unrelated: self.unrelated + other.unrelated,
            failed_swaps: self.failed_swaps + other.failed_swaps,
            into_runnable: self.into_runnable + other.into_runnable,
            into_running: self.into_running + other.into_running,
            unpaired: self.unpaired + other.unpaired,
            out_of_runnable: self.out_of_runnable + other.out_of_runnable,
            stamps_full: self.stamps_full + other.stamps_full,
            creation_sites_full: self.creation_sites_full + other.creation_sites_full,
            histograms_full: self.histograms_full + other.histograms_full,
            samples_full: self.samples_full + other.samples_full,
            ring_full: self.ring_full + other.ring_full,
            ring_sent: self.ring_sent + other.ring_sent,
            unreadable: self.unreadable + other.unreadable,
            negative: self.negative + other.negative,
            negative_samples: self.negative_samples + other.negative_samples,
            empty: self.empty + other.empty,
            marks: self.marks + other.marks,
            marks_lost: self.marks_lost + other.marks_lost,
            calls_lost: self.calls_lost + other.calls_lost,
            tree_full: self.tree_full + other.tree_full,
        }
    }

    /// What has come since `other`, an earlier reading.
    pub const fn since(&self, other: &Self) -> Self {
        Self {
            disabled: self.disabled.wrapping_sub(other.disabled),
            unrelated: self.unrelated.wrapping_sub(other.unrelated),
            failed_swaps: self.failed_swaps.wrapping_sub(other.failed_swaps),
            into_runnable: self.into_runnable.wrapping_sub(other.into_runnable),
            into_running: self.into_running.wrapping_sub(other.into_running),
            unpaired: self.unpaired.wrapping_sub(other.unpaired),
            out_of_runnable: self.out_of_runnable.wrapping_sub(other.out_of_runnable),
            stamps_full: self.stamps_full.wrapping_sub(other.stamps_full),
            creation_sites_full: self.creation_sites_full.wrapping_sub(other.creation_sites_full),
            histograms_full: self.histograms_full.wrapping_sub(other.histograms_full),
            samples_full: self.samples_full.wrapping_sub(other.samples_full),
            ring_full: self.ring_full.wrapping_sub(other.ring_full),
            ring_sent: self.ring_sent.wrapping_sub(other.ring_sent),
            unreadable: self.unreadable.wrapping_sub(other.unreadable),
            negative: self.negative.wrapping_sub(other.negative),
            negative_samples: self.negative_samples.wrapping_sub(other.negative_samples),
            empty: self.empty.wrapping_sub(other.empty),
            marks: self.marks.wrapping_sub(other.marks),
            marks_lost: self.marks_lost.wrapping_sub(other.marks_lost),
            calls_lost: self.calls_lost.wrapping_sub(other.calls_lost),
            tree_full: self.tree_full.wrapping_sub(other.tree_full),
        }
    }

    /// Times that a probe stopped a thread of the target while it was switched on; those of `sampled` that reached a histogram are
    /// counted there alone, and come on top.
    pub const fn hits(&self) -> u64 {
        self.unrelated
            + self.failed_swaps
            + self.into_runnable
            + self.into_running
            + self.out_of_runnable
            + self.unreadable
            + self.negative_samples
            + self.samples_full
            + self.empty
            + self.marks
            + self.marks_lost
    }
}

/// The event of the ring buffer for a wait of at least [`TargetConfig::slower_ns`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlowWait {
    /// When it began to run, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// How long it had been runnable.
    pub latency_ns: u64,
    /// Address of its g.
    pub g: u64,
    /// Its goid, or 0 where it could not be read.
    pub goid: u64,
    /// Its `g.gopc`, or 0.
    pub gopc: u64,
    /// Thread that began to run it (an M), in the initial PID namespace.
    pub tid: u32,
    /// Id of the P that it ran on, or -1.
    pub p: i32,
    /// Index of the target.
    pub target: u32,
    /// An [`Origin`], or 0xff where the mode does not know it.
    pub origin: u32,
}

const _: () = {
    assert!(core::mem::size_of::<Site>() == 16);
    assert!(core::mem::size_of::<SiteKey>() == 16);
    assert!(core::mem::size_of::<TargetConfig>() == 64);
    assert!(core::mem::size_of::<TargetState>() == 64);
    assert!(core::mem::size_of::<SlowWait>() == 56);
};
