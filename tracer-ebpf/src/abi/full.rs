//! `full`: the record of one transition of a goroutine, a P, an M, the world or a thread, and the configuration of the
//! programs that send it.
//!
//! The record has pointers, not ids: everything that a program reads costs the target, and userspace reads goids and
//! the ids of Ps and Ms from memory. The record of a goroutine that ends has its goid, since its g is reused.

use super::counters::counters;

/// Version of [`Transition`] and of the numbers in it, as recordings contain it.
pub const VERSION: u32 = 1;

/// Default size of the ring buffers that carry transitions, of all together, in bytes.
pub const DEFAULT_RING_BYTES: u32 = 16 << 20;
/// Least and most bytes of the ring buffers. A size is a power of two and a multiple of a page (of 64 KiB on
/// some arm64 kernels).
pub const RING_BYTES_RANGE: (u32, u32) = (64 << 10, 1 << 30);

/// What a [`Transition`] is about. The meaning of a number never changes.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// The status of the goroutine `subject` changes, as [`Transition::status`] says. `reason` is, into
    /// Waiting, `g.waitreason`; into Runnable, an [`crate::Origin`]. `detail` is, out of Dead or Idle, `g.gopc`;
    /// into Dead, `g.goid`; out of Running into Waiting, if stacks are recorded, the key of its stack
    /// ([`crate::stacks`]). From Waiting to Running: a GC assist ends, during which it ran as well.
    Goroutine = 1,
    /// `coroswitch_m`: the goroutine `detail` stops and `subject` continues in its place, without having been
    /// Runnable. [`flag::EXITS`]: `detail` ends.
    Coroutine = 2,
    /// `acquirep`, `acquirepNoTrace`: this thread's M takes the P `subject`.
    ProcessorAcquired = 3,
    /// `releasep`, `releasepNoTrace`: this thread's M gives its P back.
    ProcessorReleased = 4,
    /// `handoffp`: the P `subject` is taken from an M that is blocked, by any thread.
    ProcessorHandedOff = 5,
    /// `procresize`: there are `subject` Ps from here on.
    ProcessorsResized = 6,
    /// `mstart1`: this thread begins to be an M.
    MachineStarted = 7,
    /// `mexit`: this thread ceases to be an M.
    MachineEnded = 8,
    /// `stopm`: this thread's M is idle and goes to sleep.
    MachineParked = 9,
    /// `startm`: an M is wanted for the P `subject` (0: any idle one). `reason` 1: it is to spin.
    MachineWanted = 10,
    /// `newm`: a thread is created, for the P `subject` (0: for none). `detail` is the function that it runs: 0 for
    /// the scheduler.
    MachineCreated = 11,
    /// `gcStart`: a cycle of the garbage collector is requested.
    GcStart = 12,
    /// `gcMarkTermination`: its marking is over.
    GcMarkTermination = 13,
    /// `stopTheWorldWithSema`. `reason` is the runtime's `stwReason` (Go ≥ 1.21).
    WorldStops = 14,
    /// `startTheWorldWithSema`.
    WorldStarts = 15,
    /// `sched_switch`: this thread leaves the CPU. `detail` is its state in the kernel ([`task_state`]), 0 if it is still
    /// runnable; [`flag::PREEMPTED`].
    ThreadOff = 16,
    /// `sched_switch`: this thread gets the CPU whose number is `detail`.
    ThreadOn = 17,
    /// `sched_wakeup`: this thread can run; `detail` is the thread that woke it.
    ThreadWoken = 18,
    /// `sched_process_exit`: this thread ends.
    ThreadEnded = 19,
    /// `startTheWorldWithSema` has given out the Ps again: its call of `wakep`.
    WorldStarted = 20,
    /// `startlockedm`: the scheduler has picked the goroutine `subject`, which may only run on the thread that it is
    /// locked to, and hands this thread's P to that one.
    GoroutineLocked = 21,
}

impl What {
    /// A short name for output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Goroutine => "goroutine changes",
            Self::Coroutine => "coroutines switch",
            Self::ProcessorAcquired => "P is acquired",
            Self::ProcessorReleased => "P is released",
            Self::ProcessorHandedOff => "P is handed off",
            Self::ProcessorsResized => "GOMAXPROCS is set",
            Self::MachineStarted => "M starts",
            Self::MachineEnded => "M ends",
            Self::MachineParked => "M parks",
            Self::MachineWanted => "M is wanted",
            Self::MachineCreated => "M is made",
            Self::GcStart => "GC starts",
            Self::GcMarkTermination => "GC has marked",
            Self::WorldStops => "world stops",
            Self::WorldStarts => "world starts",
            Self::ThreadOff => "thread leaves the CPU",
            Self::ThreadOn => "thread gets a CPU",
            Self::ThreadWoken => "thread is woken",
            Self::ThreadEnded => "thread ends",
            Self::WorldStarted => "world has started",
            Self::GoroutineLocked => "locked goroutine is picked",
        }
    }

    /// The value with this number.
    pub const fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::Goroutine,
            2 => Self::Coroutine,
            3 => Self::ProcessorAcquired,
            4 => Self::ProcessorReleased,
            5 => Self::ProcessorHandedOff,
            6 => Self::ProcessorsResized,
            7 => Self::MachineStarted,
            8 => Self::MachineEnded,
            9 => Self::MachineParked,
            10 => Self::MachineWanted,
            11 => Self::MachineCreated,
            12 => Self::GcStart,
            13 => Self::GcMarkTermination,
            14 => Self::WorldStops,
            15 => Self::WorldStarts,
            16 => Self::ThreadOff,
            17 => Self::ThreadOn,
            18 => Self::ThreadWoken,
            19 => Self::ThreadEnded,
            20 => Self::WorldStarted,
            21 => Self::GoroutineLocked,
            _ => return None,
        })
    }
}

/// Bits of [`Transition::flags`].
pub mod flag {
    /// Something was lost on this CPU just before.
    pub const AFTER_LOSS: u8 = 1;
    /// [`super::What::Coroutine`]: the goroutine that stops ends.
    pub const EXITS: u8 = 2;
    /// [`super::What::ThreadOff`]: the kernel took the CPU away.
    pub const PREEMPTED: u8 = 4;
    /// Memory of the target for a field of the record could not be read: the field is 0.
    pub const UNREADABLE: u8 = 8;
}

/// One transition, as it is in the ring. 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transition {
    /// When, CLOCK_MONOTONIC, taken just before the transition.
    pub at_ns: u64,
    /// Address of the g or p that it is about; see [`What`].
    pub subject: u64,
    /// More, by [`What`].
    pub detail: u64,
    /// The thread that it happened on, in the initial PID namespace.
    pub tid: u32,
    /// A [`What`].
    pub what: u8,
    /// For a goroutine: old status in the upper four bits, new status in the lower, without the scan bit; see
    /// [`status`].
    pub status: u8,
    /// By [`What`].
    pub reason: u8,
    /// Bits of [`flag`].
    pub flags: u8,
}

impl Transition {
    /// Old and new status.
    pub const fn statuses(&self) -> (u8, u8) {
        (self.status >> 4, self.status & 0xf)
    }
}

/// Old and new status in one byte. The scan bit is dropped.
pub const fn statuses(old: u32, new: u32) -> u8 {
    ((old & 0xf) << 4 | (new & 0xf)) as u8
}

/// Status of a g (`runtime/runtime2.go`), unchanged from Go 1.19 to 1.27 where there.
pub mod status {
    /// `_Gidle`: just allocated.
    pub const IDLE: u8 = 0;
    /// `_Grunnable`.
    pub const RUNNABLE: u8 = 1;
    /// `_Grunning`.
    pub const RUNNING: u8 = 2;
    /// `_Gsyscall`.
    pub const SYSCALL: u8 = 3;
    /// `_Gwaiting`.
    pub const WAITING: u8 = 4;
    /// `_Gdead`.
    pub const DEAD: u8 = 6;
    /// `_Gcopystack`: running, while its stack is moved.
    pub const COPYSTACK: u8 = 8;
    /// `_Gpreempted`: stopped for a stack scan, waiting to be made ready again.
    pub const PREEMPTED: u8 = 9;
    /// `_Gleaked` (Go ≥ 1.26): waiting for what cannot happen any more.
    pub const LEAKED: u8 = 10;
    /// `_Gdeadextra` (Go ≥ 1.26): dead, kept for a callback from C.
    pub const DEADEXTRA: u8 = 11;
    /// `_Gscan`, over any other.
    pub const SCAN: u32 = 0x1000;
}

/// Bits of a thread's state in the kernel (`task_struct.__state`, before 5.14 `state`, whose lower half is read). Source:
/// include/linux/sched.h, 5.10 to 6.18: those here have not changed since 4.14.
///
/// A state has others besides: 0x100 TASK_WAKEKILL (with 0x2: TASK_KILLABLE, which a fatal signal wakes), 0x200
/// TASK_WAKING, 0x400 TASK_NOLOAD (with 0x2: TASK_IDLE), from 6.1 on 0x2000 TASK_FREEZABLE and 0x8000 TASK_FROZEN. So a
/// bit has to be tested, and not the whole.
///
/// The state is read when the thread has left its queue, so that one that is woken at that moment by another CPU may
/// show 0 or TASK_WAKING (kernel/sched/core.c, `try_to_wake_up`).
pub mod task_state {
    /// `TASK_INTERRUPTIBLE`: it sleeps until it is woken or gets a signal.
    pub const INTERRUPTIBLE: u64 = 0x1;
    /// `TASK_UNINTERRUPTIBLE`: it sleeps until it is woken, as in a page fault that waits for a disk.
    pub const UNINTERRUPTIBLE: u64 = 0x2;
    /// `TASK_DEAD`: it has ended.
    pub const DEAD: u64 = 0x80;
    /// `TASK_RTLOCK_WAIT` (5.15 and newer, with PREEMPT_RT): it waits for a lock of the kernel. Older kernels have no
    /// state with this bit.
    pub const RTLOCK_WAIT: u64 = 0x1000;
}

/// Configuration of the programs of `full` for a target, besides its [`crate::TargetConfig`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FullConfig {
    /// By old status: a bit for each new status that is recorded.
    pub wanted: [u16; 16],
    /// `g.waitreason`; 0 where not known.
    pub g_waitreason: u32,
    /// `g.coroarg`; 0 where there is none.
    pub g_coroarg: u32,
}

/// The bit of [`Transition::at_ns`] that says, in a slot of a ring, in which lap its record was written: it is set in the
/// first, the third, and so on. A slot has no record of the reader's lap until the bit is as it is in that lap.
pub const LAP: u64 = 1 << 63;

/// How far a ring of slots was written and read, in records since the beginning. Each has a cache line to itself, since
/// programs change the one and the reader the other.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingPosition {
    /// Slots that programs have taken. Their records may not be there yet.
    pub written: u64,
    /// Zero.
    pub reserved: [u64; 7],
    /// Records that were read: their slots may be taken again.
    pub read: u64,
    /// Zero.
    pub reserved_too: [u64; 7],
}

/// Whose threads the tracepoints' programs follow, and the offsets within the kernel's `task_struct` of what they read of a
/// thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskConfig {
    /// The process, in the initial PID namespace; 0: none is followed.
    pub followed: u32,
    /// Index of its target.
    pub target: u32,
    /// `tgid`.
    pub tgid: u32,
    /// `pid`.
    pub pid: u32,
    /// `__state` (before 5.14 `state`).
    pub state: u32,
}

counters! {
    /// Counters of the transitions of one target, per CPU. `seen` = records that were put into the ring + those that
    /// were dropped, by cause.
    pub struct FullCounters {
        /// Recorded transitions of the runtime.
        pub seen: u64,
        /// Recorded transitions of Linux's scheduler.
        pub seen_threads: u64,
        /// Of both, those for which the ring had no room.
        pub ring_full: u64,
        /// Hits that are not recorded.
        pub unrelated: u64,
        /// Hits of an inlined compare-and-swap that failed.
        pub failed_swaps: u64,
        /// Records that are incomplete, since memory of the target could not be read.
        pub unreadable: u64,
        /// Not 0 if the next record of this CPU must say that something was lost before it.
        pub lost: u64,
    }
}

impl FullCounters {
    /// Number of times that a probe stopped a thread of the target.
    pub const fn hits(&self) -> u64 {
        self.seen + self.unrelated + self.failed_swaps
    }
}

const _: () = {
    assert!(core::mem::size_of::<Transition>() == 32);
    assert!(core::mem::size_of::<FullConfig>() == 40);
    assert!(core::mem::size_of::<RingPosition>() == 128);
    assert!(core::mem::size_of::<FullCounters>() == 56);
    assert!(core::mem::size_of::<TaskConfig>() == 20);
};
