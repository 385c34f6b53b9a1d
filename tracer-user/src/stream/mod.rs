//! What a capture is made of: the type that every source yields ([`Observation`]), the steps between observations
//! ([`Step`]), and the trait of all that takes both ([`Consumer`]).

pub mod buckets;
pub mod causes;
mod consumer;
pub mod cpu_use;
pub mod ongoing;
pub mod plugin;
pub mod recording;
pub mod reorder;
pub mod start;
pub mod step;
mod symbolizer;
mod target_info;
pub mod transition;

pub use consumer::{Closing, Consumer, Flow};
pub use step::{EndedBy, SchedConfig, Step};
pub use symbolizer::{NoNames, Symbolizer};
pub use target_info::TargetInfo;

use serde::{Deserialize, Serialize};
pub use tracer_ebpf::Origin;

use self::{
    causes::CauseSamples,
    ongoing::OngoingSeen,
    start::{StartCall, StartHeld, StartMark},
    transition::{SchedSnapshot, StacksSeen, Transition},
};

/// Something that a source saw, at one moment of CLOCK_MONOTONIC.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The moment, in nanoseconds of CLOCK_MONOTONIC (the clock of Go's `nanotime` and `bpf_ktime_get_ns`).
    pub at_ns: u64,
    /// What was seen.
    pub kind: Kind,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// One thing that happened.
    Event(Event),
    /// Waits since the last delta of the same key, already counted into buckets.
    HistogramDelta(HistogramDelta),
    /// A reading of the runtime's state from memory.
    Snapshot(Box<Snapshot>),
    /// Transitions of goroutines, Ps, Ms and threads (`full`), in the order of their times. In batches, since there
    /// may be a million in a second; the observation's own time is that of the last.
    Transitions(Vec<Transition>),
    /// Stacks that transitions name (`full --stacks`).
    Stacks(StacksSeen),
    /// Transitions that the kernel side has seen since the last such observation (`full`): those that it has sent, and
    /// those that it has dropped.
    TransitionsSeen(u64),
    /// A reading of every goroutine, P and M from memory (`full`).
    Scheduler(Box<SchedSnapshot>),
    /// The target was throttled (`full`). It comes before every transition that is later than its own time.
    Throttling(Throttling),
    /// Something was not seen, or not kept; counted where that happened.
    Loss(Loss),
    /// Probe hits since the last such observation: their cost is the target's.
    Hits(u64),
    /// What has begun and is not over. At most one comes, when the window closes.
    Ongoing(OngoingSeen),
    /// Samples of the scheduler's state since the last such observation: how many goroutines waited to run, and why; the
    /// observation's own time is that of the last.
    CauseSamples(CauseSamples),
}

/// One thing that happened in the target.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A goroutine began to run after at least the asked-for time in Runnable.
    SlowWait(SlowWait),
    /// A process that starts has reached a mark; at that moment.
    StartMark(StartMark),
    /// A system call of a process that starts has returned; at that moment.
    StartCall(StartCall),
    /// A process that starts was held by us; at the moment when it was released.
    StartHeld(StartHeld),
}

/// A wait Runnable→Running that was at least as long as `--slower`.
#[derive(Clone, Debug, PartialEq)]
pub struct SlowWait {
    /// How long it was runnable and did not run.
    pub latency_ns: u64,
    /// The goroutine's id, where it was readable.
    pub goid: Option<u64>,
    /// `g.gopc` as an address of the running process; see [`HistogramKey::CreationSite`].
    pub gopc: Option<u64>,
    /// How it became runnable, where the mode knows.
    pub origin: Option<Origin>,
    /// Thread id of the M that began to run it.
    pub tid: u32,
    /// Id of the P.
    pub p: Option<u32>,
}

/// Which waits a histogram holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HistogramKey {
    /// All that the source sees (`passive`).
    All,
    /// By how the goroutine became runnable (`exact`).
    Origin(Origin),
    /// By the `go` statement (`sampled`): `g.gopc`, the address after its call, in the running process; 0 for all that
    /// did not fit into the kernel's table.
    CreationSite(u64),
}

/// How bucket indexes map to nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BucketScheme {
    /// `runtime.timeHistogram` of Go 1.19 (and older): 45 × 16 buckets.
    Go119,
    /// `runtime.timeHistogram` of Go 1.21 and newer: 40 × 4 buckets, the first of them 0..64 ns.
    Go121,
    /// [`tracer_ebpf::histogram`].
    Kernel,
}

/// Waits that were added to one histogram since the last delta.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramDelta {
    /// The waits that the histogram holds.
    pub key: HistogramKey,
    /// The meaning of the indexes.
    pub scheme: BucketScheme,
    /// (bucket index, count), ascending, no zero counts. In the schemes of Go the runtime's own overflow
    /// bucket has the index one past the last.
    pub counts: Vec<(u16, u64)>,
    /// Sum of the waits in this delta, where the source knows it.
    pub sum_ns: Option<u64>,
    /// Smallest and largest wait since the capture began, where the source knows them.
    pub extremes_ns: Option<(u64, u64)>,
    /// Entries of the runtime's histogram that are not waits (Go ≤ 1.25: zeros of system calls, stack
    /// growth and GC), left out of `counts`.
    pub excluded_zero: u64,
}

/// What the kernel has counted of the throttling of the target's cgroup, or of one above it, between two readings: of
/// that level that counted most.
///
/// A stretch is counted when it ends, just before a thread gets a CPU again (kernel/sched/fair.c, `unthrottle_cfs_rq`).
/// The observation has the time of the earlier reading: the stretches ended after it, usually within 10 ms, and the
/// threads that got a CPU then follow in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Throttled time in nanoseconds, summed over CPUs: where two of them stood still, twice as much as passed.
    pub throttled_ns: u64,
    /// Periods in which the quota was used up. A period may be counted some time before its stretch has ended.
    pub periods: u64,
}

/// Events or waits that were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where, and why.
    pub cause: LossCause,
    /// How many events or waits.
    pub count: u64,
}

/// The cause of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossCause {
    /// A →Running without a stamped →Runnable (`exact`): the wait began before the capture.
    Unpaired,
    /// As `Unpaired`, but of more goroutines than there were when the capture began: they became runnable at a place
    /// that is not probed.
    Unseen,
    /// A wait whose begin the kernel's table had no room for: too many goroutines were runnable at once.
    StampsFull,
    /// There were more creation sites than the kernel's table holds; the waits of others are counted under "other".
    CreationSitesFull,
    /// A wait that no histogram had room for.
    HistogramsFull,
    /// A slow wait that the ring buffer had no room for.
    RingFull,
    /// The target's memory could not be read at a hit.
    Unreadable,
    /// A wait whose end was before its begin.
    Negative,
    /// A mark or a slow system call of a start that the ring buffer had no room for.
    StartsLost,
    /// A transition (`full`) that the ring buffer had no room for.
    TransitionsDropped,
    /// A transition that came so late that later ones were already released; it is released out of order.
    TransitionsLate,
    /// The stack of a goroutine that blocked was new, and the kernel's table of stacks (`full --stacks`) was full.
    StacksFull,
    /// The stack of a goroutine that blocked could not be read.
    StacksUnreadable,
}

impl LossCause {
    /// Every cause.
    pub const ALL: [LossCause; 13] = [
        Self::Unpaired,
        Self::Unseen,
        Self::StampsFull,
        Self::CreationSitesFull,
        Self::HistogramsFull,
        Self::RingFull,
        Self::Unreadable,
        Self::Negative,
        Self::StartsLost,
        Self::TransitionsDropped,
        Self::TransitionsLate,
        Self::StacksFull,
        Self::StacksUnreadable,
    ];

    /// Returns the cause of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name() == name)
    }

    /// Returns the name that outputs and recordings use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unpaired => "began_before_capture",
            Self::Unseen => "unseen_runnable",
            Self::StampsFull => "stamps_full",
            Self::CreationSitesFull => "creation_sites_full",
            Self::HistogramsFull => "histograms_full",
            Self::RingFull => "ring_full",
            Self::Unreadable => "unreadable",
            Self::Negative => "negative",
            Self::StartsLost => "starts_lost",
            Self::TransitionsDropped => "transitions_dropped",
            Self::TransitionsLate => "transitions_late",
            Self::StacksFull => "stacks_full",
            Self::StacksUnreadable => "stacks_unreadable",
        }
    }

    /// Whether a wait is missing from the histograms because of this loss. A wait that began before the capture was
    /// never part of it, and one that is counted under "other", or without a stack, is still counted.
    pub const fn makes_incomplete(self) -> bool {
        !matches!(
            self,
            Self::Unpaired
                | Self::CreationSitesFull
                | Self::TransitionsLate
                | Self::StacksFull
                | Self::StacksUnreadable
        )
    }
}

/// Gauges of the Go runtime, read from the target's memory one after the other, not atomically. Each is absent where
/// the layout does not contain it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Goroutines by state, with the runtime's names (`runnable`, `running`, `syscall`, `waiting`, …), without dead
    /// ones, but including those that the runtime runs for itself.
    pub goroutines_by_state: Vec<(String, u64)>,
    /// Whether only a random sample of the gs was read, so that `goroutines_by_state` is an estimate.
    pub goroutines_sampled: bool,
    /// How many gs of `allgs` were read for `goroutines_by_state`.
    pub goroutines_read: Option<u64>,
    /// Where it is an estimate: each state with the ends of the interval in which its count lies in 95 of 100 samples.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub goroutines_by_state_range: Vec<(String, u64, u64)>,
    /// Live goroutines by the runtime's own counters, those of the runtime included: `allglen` without the lengths of
    /// the free lists, as `gcount` has it. In a program with cgo, gs that wait for a callback from C count as well.
    pub goroutines_live: Option<u64>,
    /// The same without those of the runtime (`sched.ngsys`): `runtime.NumGoroutine`.
    pub goroutines_user: Option<u64>,
    /// Where `goroutines_live` is not known and a sample was read: the interval of all that live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goroutines_live_range: Option<(u64, u64)>,
    /// `allglen`: g structs ever made, dead ones included.
    pub allgs: Option<u64>,
    /// Length of the global run queue.
    pub global_runq: Option<u64>,
    /// Lengths of the local run queues, by P id (`runnext` included).
    pub local_runqs: Vec<u32>,
    /// `gomaxprocs`.
    pub gomaxprocs: Option<u32>,
    /// Ps by state, with the runtime's names (`idle`, `running`, `syscall`, `gcstop`, `dead`).
    pub ps_by_state: Vec<(String, u64)>,
    /// `sched.npidle`.
    pub idle_ps: Option<u32>,
    /// `sched.nmspinning`.
    pub spinning_ms: Option<u32>,
    /// `sched.nmidle`.
    pub idle_ms: Option<u32>,
    /// `sched.gcwaiting`: the world is stopping or stopped.
    pub gc_waiting: Option<bool>,
    /// Time since sysmon or a scheduler last polled the network (`sched.lastpoll`), in nanoseconds; absent
    /// while a thread is blocked in the poll.
    pub since_last_poll_ns: Option<u64>,
    /// `sched.sysmonwait`: sysmon sleeps because nothing runs.
    pub sysmon_waiting: Option<bool>,
    /// Stop-the-world pauses since the process began: (GC, other). Go 1.22+.
    pub stw_pauses: Option<(u64, u64)>,
    /// Their time in nanoseconds: (GC, other). The runtime keeps a histogram (`sched.stwTotalTimeGC`,
    /// `…Other`), so each pause is counted with the middle of its bucket: within 12.5 %. Go 1.22+.
    pub stw_total_ns: Option<(u64, u64)>,
    /// Of it, the time until every P had stopped (`sched.stwStoppingTimeGC`, `…Other`), likewise. Go 1.22+.
    pub stw_stopping_ns: Option<(u64, u64)>,
}
