//! Why goroutines waited to run: the time of each cause, who held the Ps meanwhile, stops of the world, and the longest
//! waits.

mod build;
pub mod words;

use std::collections::BTreeMap;

pub use self::build::{by_cause, culprits, slowest, stop_counts, stops};

use serde::{Deserialize, Serialize};

use crate::document::by_name::ByName;
use crate::document::hist::Hist;
use crate::escape::Untrusted;
use crate::model::sched::Cause;
use crate::stream::Origin;

/// The time that goroutines waited to run for one cause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CauseTime {
    /// The time that each wait that ended had of this cause. A wait with several causes is in the histogram of each.
    #[serde(flatten)]
    pub hist: Hist,
    /// Nanoseconds of all goroutines together, those that still waited included.
    pub total_ns: u64,
    /// Of them, the nanoseconds of goroutines that still waited.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ongoing_ns: u64,
}

/// All waiting to run, computed apart from its causes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CausesInfo {
    /// ∫ (runnable goroutines) dt, voluntary yields included.
    pub runnable_ns: u64,
    /// Time in which at least one goroutine was runnable.
    pub some_ns: u64,
    /// Of the cause `unknown`, the nanoseconds before every state was known for the first time. Voluntary yields are not in
    /// it, nor is what has another cause by then.
    pub before_known_ns: u64,
    /// The sum of all causes − `runnable_ns`: 0, unless events came out of order.
    pub imbalance_ns: i64,
}

/// A goroutine, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoroutineInfo {
    /// Goroutine id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goid: Option<u64>,
    /// Function of its `go` statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_site: Option<Untrusted>,
}

/// The goroutines that one function made, and what they kept from others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CulpritInfo {
    /// Function of the `go` statements; absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_site: Option<Untrusted>,
    /// The waiting of others while these ran, shared out over the Ps: ∫ (runnable goroutines ÷ Ps) dt over each
    /// stretch that one of them ran.
    pub held_ns: u64,
    /// `held_ns` as a share of all waiting to run.
    pub share: f64,
    /// How many stretches they ran.
    pub stretches: u64,
    /// How long they ran at a time, without the time in which their thread had no CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_cpu: Option<Hist>,
    /// The longest stretch.
    pub longest_ns: u64,
    /// When that one ended: nanoseconds since the capture's begin.
    pub longest_at_ns: u64,
    /// The goroutine of the longest stretch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_goid: Option<u64>,
}

/// One stop of the world.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopInfo {
    /// When it began: nanoseconds since the capture's begin.
    pub at_ns: u64,
    /// From its begin until the world was started again, or so far.
    pub total_ns: u64,
    /// From its begin until the last goroutine had stopped; 0 where none ran.
    pub stopping_ns: u64,
    /// The last goroutine to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<GoroutineInfo>,
    /// The runtime's name of the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Untrusted>,
    /// Whether it had not ended when the capture did.
    pub ongoing: bool,
}

/// How many stops of the world have ended, those that are not listed included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopCountsInfo {
    /// All of them.
    pub ended: u64,
    /// Of them, those that took more than 1 ms.
    pub long: u64,
}

/// Who or what made a goroutine runnable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WakerInfo {
    /// A goroutine that ran.
    Goroutine(GoroutineInfo),
    /// The network poller.
    Netpoll,
    /// The scheduler itself: a timer, or the return from a system call without a P.
    Scheduler,
    /// A thread without a P: sysmon, or a thread of C.
    WithoutP,
}

/// One of the longest waits to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunnableWait {
    /// When it began: nanoseconds since the capture's begin.
    pub at_ns: u64,
    /// How long it took, or has taken so far.
    pub duration_ns: u64,
    /// Whether it had not ended when the capture did.
    pub ongoing: bool,
    /// Who waited.
    #[serde(flatten)]
    pub who: GoroutineInfo,
    /// How it became runnable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ByName<Origin>>,
    /// What it had waited for before, in the runtime's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Untrusted>,
    /// Who woke it, who had woken that one, and so on: at most three steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wakers: Vec<WakerInfo>,
    /// Its causes: they add up to `duration_ns`.
    pub causes_ns: BTreeMap<ByName<Cause>, u64>,
    /// Who ran just before it on the P that it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<GoroutineInfo>,
    /// What the Ps did just before it began to run, or at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<PictureInfo>,
}

/// What the Ps did at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureInfo {
    /// Runnable goroutines.
    pub runnable: u64,
    /// Ps that ran a goroutine, on a CPU.
    pub busy: u64,
    /// Ps that ran the collector's work.
    pub gc: u64,
    /// Ps whose thread could run and had no CPU.
    pub os_preempted: u64,
    /// Ps whose thread was in a system call.
    pub in_syscall: u64,
    /// Ps whose thread slept.
    pub blocked: u64,
    /// Ps between two goroutines.
    pub scheduler: u64,
    /// Ps of which it was not known whether their thread had a CPU.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown: u64,
    /// Ps without a thread, or with one that looked for work or was on its way.
    pub idle: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests;
