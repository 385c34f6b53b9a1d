//! What `full` sees: transitions, in batches and in the order of time, and the states that they begin from.

pub use tracer_ebpf::full::{Transition, What, flag, status};
pub use tracer_ebpf::stacks::end;

/// What came of the stacks of goroutines that blocked (`--stacks`) since the last such observation. It comes before
/// the transitions that name the stacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StacksSeen {
    /// Those that had not been seen before.
    pub new: Vec<StackSeen>,
    /// Goroutines that blocked, and told where, or were lost by one of the causes for that.
    pub walked: u64,
}

/// A stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackSeen {
    /// What [`Transition::detail`] has, once it comes from a source: numbers from 1 on.
    pub id: u32,
    /// Return addresses in the running process, innermost first.
    pub pcs: Vec<u64>,
    /// One of [`end`].
    pub end: u32,
}

/// The state of the scheduler, read from the target's memory while it went on: each goroutine, P and M at one
/// moment between `begin_ns` and `end_ns`, not all at the same.
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
    /// Goroutines or Ms are missing, since there were too many or memory could not be read.
    pub cut_short: bool,
}

/// One g.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoroutineSeen {
    /// Its address.
    pub g: u64,
    /// `goid`.
    pub goid: u64,
    /// `atomicstatus` without the scan bit.
    pub status: u8,
    /// `waitreason`, of one that waits.
    pub reason: u8,
    /// Address of its m, or 0.
    pub m: u64,
    /// `gopc`: the address after the `go` statement's call, in the running process.
    pub gopc: u64,
    /// `startpc`: the function that it runs.
    pub startpc: u64,
}

/// One P.
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

/// One M.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineSeen {
    /// Its address.
    pub m: u64,
    /// `id`.
    pub id: u64,
    /// Its thread, as [`Transition::tid`] has it; 0 if it has none yet.
    pub tid: u32,
    /// Address of the goroutine that it runs, or 0.
    pub curg: u64,
    /// Address of its P, or 0.
    pub p: u64,
    /// Address of the P that it had when it went into a system call (Go ≤ 1.25), or 0.
    pub oldp: u64,
    /// It looks for work.
    pub spinning: bool,
    /// It sleeps.
    pub blocked: bool,
}
