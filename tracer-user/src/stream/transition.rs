//! What `full` observes: transitions, in batches and in the order of time, and the states that they begin from.

pub use tracer_ebpf::full::{Transition, What, flag, status, task_state};
pub use tracer_ebpf::stacks::end;

/// Whether a thread that leaves its CPU with this state ([`What::ThreadOff`], [`task_state`]) sleeps so that no signal
/// wakes it, but for a fatal one.
pub const fn sleeps_uninterruptibly(detail: u64) -> bool {
    detail & (task_state::UNINTERRUPTIBLE | task_state::RTLOCK_WAIT) != 0
}

/// Stacks of goroutines that blocked (`--stacks`) since the last such observation. It comes before the transitions that
/// refer to the stacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StacksSeen {
    /// Stacks that had not been seen before.
    pub new: Vec<StackSeen>,
    /// Goroutines that blocked: those whose stack is known, and those that were lost by
    /// [`super::LossCause::StacksFull`] or [`super::LossCause::StacksUnreadable`].
    pub walked: u64,
}

/// A stack of a goroutine that blocked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackSeen {
    /// The number, from 1 on, by which [`Transition::detail`] refers to it.
    pub id: u32,
    /// Return addresses in the running process, innermost first.
    pub pcs: Vec<u64>,
    /// One of [`end`].
    pub end: u32,
}

/// The state of the scheduler, read from the target's memory while it was running: each goroutine, P and M at some
/// moment between `begin_ns` and `end_ns`, not all at the same. It may come some time after its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedSnapshot {
    /// When reading began, CLOCK_MONOTONIC.
    pub begin_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// Every g that is neither dead nor idle.
    pub goroutines: Vec<GoroutineSeen>,
    /// Every P of `allp`.
    pub processors: Vec<ProcessorSeen>,
    /// Every M of `allm`.
    pub machines: Vec<MachineSeen>,
    /// Whether goroutines or Ms are missing, since there were too many or memory could not be read.
    pub cut_short: bool,
    /// The reading that this is a part of; `None` where it is all of one.
    pub part: Option<ReadingPart>,
}

/// Which part of a reading a [`SchedSnapshot`] is. A reading of very many goroutines takes a second, and applying it half
/// of one: in parts, each has only the transitions of a few milliseconds beside it. Ps and Ms are in the first part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadingPart {
    /// When the reading began: that is also when its first part did.
    pub begin_ns: u64,
    /// How many gs there were then, dead ones included.
    pub gs: u64,
    /// Whether it is the last: a goroutine that was in no part of a whole reading has ended.
    pub is_last: bool,
}

/// A goroutine that was read from memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoroutineSeen {
    /// Its address.
    pub g: u64,
    /// `goid`.
    pub goid: u64,
    /// `atomicstatus` without the scan bit.
    pub status: u8,
    /// `waitreason`, if it waits.
    pub reason: u8,
    /// Address of its m, or 0.
    pub m: u64,
    /// `gopc`: the address after the `go` statement's call, in the running process.
    pub gopc: u64,
    /// `startpc`: the function that it runs.
    pub startpc: u64,
}

/// A P that was read from memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessorSeen {
    /// Its address.
    pub p: u64,
    /// `id`.
    pub id: u32,
    /// `status` (0 idle, 1 running, 2 syscall, 3 gcstop, 4 dead).
    pub status: u8,
    /// Address of its m, or 0.
    pub m: u64,
    /// Goroutines in its local run queue, `runnext` included.
    pub queued: u32,
}

/// An M that was read from memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineSeen {
    /// Its address.
    pub m: u64,
    /// `id`.
    pub id: u64,
    /// The id of its thread, as in [`Transition::tid`]; 0 if it has none yet.
    pub tid: u32,
    /// Address of the goroutine that it runs, or 0.
    pub curg: u64,
    /// Address of its P, or 0.
    pub p: u64,
    /// Address of the P that it had when it went into a system call (Go ≤ 1.25), or 0.
    pub oldp: u64,
    /// Whether it is looking for work.
    pub spinning: bool,
    /// Whether it sleeps.
    pub blocked: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// States as kernels combine them: include/linux/sched.h.
    #[test]
    fn a_thread_that_no_signal_wakes_is_known_on_every_kernel() {
        const WAKEKILL: u64 = 0x100;
        const NOLOAD: u64 = 0x400;
        const FREEZABLE: u64 = 0x2000;
        for uninterruptible in [
            0x2,
            WAKEKILL | 0x2,
            NOLOAD | 0x2,
            FREEZABLE | 0x2,
            FREEZABLE | WAKEKILL | 0x2,
            0x1000,
        ] {
            assert!(sleeps_uninterruptibly(uninterruptible), "{uninterruptible:#x}");
        }
        // Runnable, interruptible, stopped, traced, parked, dead, being woken, frozen.
        for other in [
            0,
            0x1,
            FREEZABLE | 0x1,
            WAKEKILL | 0x4,
            0x8,
            0x40,
            0x80,
            0x200,
            0x8000,
        ] {
            assert!(!sleeps_uninterruptibly(other), "{other:#x}");
        }
    }
}
