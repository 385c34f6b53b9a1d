//! What `full` adds to a capture: waits by reason, Ps, Ms, the stopped world, and how reliable the figures are.

mod build;

use std::collections::BTreeMap;

pub use self::build::{by_creation_site, by_wait_reason};

use serde::{Deserialize, Serialize};

use crate::escape::Untrusted;

use crate::document::blocked::{BlockedAt, StacksInfo};
use crate::document::by_name::ByName;
use crate::document::causes::{CausesInfo, RunnableWait, StopCountsInfo, StopInfo};
use crate::model::sched::State;

/// The parts of a capture that only `full` has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Full {
    /// How reliable the figures are.
    pub model: ModelInfo,
    /// How many goroutines were in each state, over time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_time: Option<OverTime>,
    /// Nanoseconds that goroutines spent in each state, all together.
    pub time_in_state_ns: BTreeMap<ByName<State>, u64>,
    /// The longest waits of goroutines, the longest first.
    pub longest_waits: Vec<LongWait>,
    /// Where goroutines blocked (`--stacks`), the places with the longest total time first; at most
    /// [`StacksInfo::shown_at_most`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_at: Vec<BlockedAt>,
    /// How complete `blocked_at` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stacks: Option<StacksInfo>,
    /// Goroutines that were created and ended, by the function of their `go` statement, those with the most first.
    pub churn: Vec<Churn>,
    /// Ps, by id.
    pub processors: Vec<ProcessorInfo>,
    /// Ms, and why they were made.
    pub machines: MachineInfo,
    /// The garbage collector and the stopped world.
    pub world: WorldInfo,
    /// All waiting to run, by which the causes can be checked; absent in captures of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causes: Option<CausesInfo>,
    /// The longest waits to run, the longest first, without voluntary yields; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slowest: Vec<RunnableWait>,
    /// Stops of the world, the longest first; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stops: Vec<StopInfo>,
    /// How many stops of the world have ended; absent in captures of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_counts: Option<StopCountsInfo>,
}

/// How reliable the figures are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Transitions that were processed.
    pub transitions: u64,
    /// Transitions that were lost.
    pub lost: u64,
    /// Transitions that the kernel side saw: those that were processed and those that were lost.
    pub seen: u64,
    /// Nanoseconds from the capture's begin from which on all figures are exact; absent where something was lost and
    /// the states were not read anew after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from_ns: Option<u64>,
    /// Transitions that were not seen and were inferred, by kind: `waiting->running` is a goroutine in state waiting
    /// whose next event says that it had run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inferred: BTreeMap<Untrusted, u64>,
    /// Inferred transitions that a loss explains.
    pub inferred_after_loss: u64,
    /// Goroutines that lost their P while they ran, so that they must have been in a system call: without
    /// `--syscalls` no event says so.
    pub inferred_syscalls: u64,
}

/// Transitions that may fail to fit in any complete capture: a reading of memory that takes place during changes, or a
/// rare race, must not cost a capture its completeness.
const FEW_MISFITS: u64 = 10;
/// Beyond that, at most one transition in so many may fail to fit.
const TRANSITIONS_PER_MISFIT: u64 = 1_000;

impl ModelInfo {
    /// The transitions that did not fit what was known before, apart from those that a loss explains.
    pub fn misfits(&self) -> u64 {
        self.inferred
            .values()
            .fold(0u64, |sum, count| sum.saturating_add(*count))
    }

    /// Whether what the model inferred is within the bound that a complete capture has: one in 1,000 transitions, or 10.
    /// If it is more, there are places through which goroutines change their state, and that are not probed.
    pub fn fits(&self) -> bool {
        let misfits = self.misfits();
        misfits <= FEW_MISFITS || misfits.saturating_mul(TRANSITIONS_PER_MISFIT) <= self.transitions
    }

    /// Describes why the capture is not complete, if too much was inferred.
    pub fn shortcoming(&self) -> Option<String> {
        (!self.fits()).then(|| {
            format!(
                "{} of {} transitions did not fit what was seen before them, which is more than one in \
                 {TRANSITIONS_PER_MISFIT}: goroutines change their state in places that are not probed, and waits that \
                 begin or end there are not seen",
                self.misfits(),
                self.transitions
            )
        })
    }
}

/// How many goroutines were in each state, at regular moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OverTime {
    /// The first moment: nanoseconds since the capture's begin.
    pub from_ns: u64,
    /// Nanoseconds from each moment to the next.
    pub step_ns: u64,
    /// Counts by state, one for each moment; of states in which there ever was one.
    pub goroutines: BTreeMap<ByName<State>, Vec<u64>>,
}

/// One wait of a goroutine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LongWait {
    /// When it began: nanoseconds since the capture's begin. Absent where that was not seen, since it was before the
    /// capture or within a loss; `duration_ns` is then a lower bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ns: Option<u64>,
    /// How long it took, or has taken so far.
    pub duration_ns: u64,
    /// Goroutine id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goid: Option<u64>,
    /// Function of its `go` statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_site: Option<Untrusted>,
    /// The runtime's name of the reason.
    pub reason: Untrusted,
    /// Whether it had not ended when the capture did.
    pub ongoing: bool,
}

/// Goroutines of one creation site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Churn {
    /// Function of the `go` statement.
    pub creation_site: Untrusted,
    /// Goroutines that were created in the capture.
    pub created: u64,
    /// Goroutines that ended in it.
    pub exited: u64,
    /// Whether many more were created than ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grows: bool,
}

/// One P.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessorInfo {
    /// Its id.
    pub id: u32,
    /// Share of the capture in which it ran a goroutine.
    pub utilization: f64,
    /// Nanoseconds in which it ran a goroutine.
    pub busy_ns: u64,
    /// Nanoseconds in which an M had it.
    pub held_ns: u64,
    /// Times that an M took it.
    pub acquired: u64,
    /// Times that it was taken from an M in a system call.
    pub handed_off: u64,
    /// Mean length of its run queue at the readings of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_runq: Option<f64>,
    /// Largest length of its run queue at the readings of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runq: Option<u32>,
}

/// Ms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// Ms that are known at the capture's end.
    pub known: u64,
    /// Of them, those that sleep for want of work.
    pub parked: u64,
    /// Ms that started.
    pub started: u64,
    /// Ms that ended.
    pub ended: u64,
    /// Times that an M went to sleep for want of work.
    pub parks: u64,
    /// Why threads were made.
    #[serde(default, skip_serializing_if = "CreatedBecause::is_empty")]
    pub created_because: CreatedBecause,
    /// What Linux's scheduler did with them.
    #[serde(default, skip_serializing_if = "ThreadTime::is_empty")]
    pub thread_time_ns: ThreadTime,
}

/// Threads that were created, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedBecause {
    /// Threads for a P whose M was blocked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub handed_off: u64,
    /// Other threads: sysmon, the template thread.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub other: u64,
    /// Threads for a goroutine that became runnable while a P was idle.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spinning: u64,
}

impl CreatedBecause {
    /// Whether no thread was created.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Nanoseconds of all threads together, by what Linux's scheduler did with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadTime {
    /// Asleep.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub asleep: u64,
    /// On a CPU.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub on_cpu: u64,
    /// Runnable, but without a CPU.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waiting_for_cpu: u64,
}

impl ThreadTime {
    /// Whether nothing is known about the threads.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The garbage collector and the stopped world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorldInfo {
    /// Cycles of the garbage collector that ended.
    pub gc_cycles: u64,
    /// Their total time, from the start to the end of marking.
    pub gc_ns: u64,
    /// Times that the world was stopped.
    pub stops: u64,
    /// Total time from the calls of `stopTheWorldWithSema` to those of `startTheWorldWithSema`.
    pub stopped_ns: u64,
    /// Pauses as the runtime counts them (`/sched/pauses/total`), by events: compare [`RuntimePauses`]. Absent where
    /// their end was not seen: in recordings of earlier versions, and where the compiler has left no place to probe.
    ///
    /// [`RuntimePauses`]: crate::document::gauges::RuntimePauses
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pauses: Option<EventPauses>,
    /// Times that GOMAXPROCS was changed.
    pub gomaxprocs_set: u64,
}

/// Stop-the-world pauses that were seen from begin to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPauses {
    /// How many there were.
    pub count: u64,
    /// Their total time, from the call of `stopTheWorldWithSema` until the Ps have been given out again; the pause for
    /// mark termination ends at the call of `startTheWorldWithSema`.
    pub total_ns: u64,
}
