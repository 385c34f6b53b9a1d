//! What the model answers about waits Runnable→Running: why, behind whom, and who woke the goroutine.

use tracer_ebpf::Origin;

use super::cause::Cause;
use crate::stream::HistogramDelta;

/// Why goroutines waited to run, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct CausesReport {
    /// ∫ (runnable goroutines) dt in nanoseconds, computed apart from the causes.
    pub runnable_ns: u64,
    /// Nanoseconds in which at least one goroutine was runnable.
    pub some_ns: u64,
    /// When the most goroutines were runnable at once.
    pub peak: Peak,
    /// Waits by what the goroutine had waited for before, in the runtime's words.
    pub after: Vec<(String, HistogramDelta)>,
    /// Each cause with its time, in the order of [`Cause::ALL`]; only those that were seen.
    pub by_cause: Vec<CauseReport>,
    /// Of [`Cause::Unknown`], the nanoseconds before every state was known for the first time. What has a cause of the
    /// goroutine's own by then ([`Cause::Yielded`], [`Cause::LockedThread`]) is not in it.
    pub before_known_ns: u64,
    /// Σ causes − `runnable_ns`: 0, unless events came out of order.
    pub imbalance_ns: i64,
    /// Who held the Ps while others waited, the longest first.
    pub culprits: Vec<Culprit>,
    /// The longest stops of the world, the longest first, with the one that has not ended.
    pub stops: Vec<StopReport>,
    /// How many stops of the world have ended, those that are not in the list included.
    pub stop_counts: StopCounts,
    /// The longest waits Runnable→Running, the longest first, those that have not ended included. No voluntary yields.
    pub slowest: Vec<SlowestWait>,
}

/// The most goroutines that were runnable at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// How many there were.
    pub runnable: u64,
    /// Of them, those that had been woken: what they waited for had happened.
    pub woken: u64,
    /// When, CLOCK_MONOTONIC.
    pub at_ns: u64,
}

/// The time that goroutines waited for one cause.
#[derive(Clone, Debug)]
pub struct CauseReport {
    /// The cause.
    pub cause: Cause,
    /// Nanoseconds, of all goroutines together, those that still wait included.
    pub total_ns: u64,
    /// Of them, the nanoseconds of those that still wait.
    pub ongoing_ns: u64,
    /// How long each wait that ended was due to this cause; `None` where none was.
    pub waits: Option<HistogramDelta>,
}

/// A goroutine, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Its id; 0: not known.
    pub goid: u64,
    /// `g.gopc`; 0: not known.
    pub gopc: u64,
}

/// The goroutines of one `go` statement, and what they kept from others.
#[derive(Clone, Debug)]
pub struct Culprit {
    /// `g.gopc`; 0 where it is not known.
    pub gopc: u64,
    /// Σ over their running stretches of ∫ (runnable goroutines ÷ Ps) dt, in nanoseconds.
    pub held_ns: u64,
    /// How long they ran at a time, without the time in which their thread had no CPU.
    pub on_cpu: Option<HistogramDelta>,
    /// The longest of those, in nanoseconds.
    pub longest_ns: u64,
    /// When that one ended, CLOCK_MONOTONIC.
    pub longest_at_ns: u64,
    /// The goroutine of the longest; 0: not known.
    pub longest_goid: u64,
}

/// One stop of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopReport {
    /// When it began, CLOCK_MONOTONIC.
    pub begin_ns: u64,
    /// From then until the world was started again, or so far.
    pub total_ns: u64,
    /// From its begin until the last goroutine had stopped; 0 where none ran.
    pub stopping_ns: u64,
    /// The last goroutine to stop.
    pub last: Option<Who>,
    /// The runtime's `stwReason`; 0: not known.
    pub reason: u8,
    /// Whether it had not ended.
    pub ongoing: bool,
}

/// A stop of the world that takes longer is a long one: usually it is over after some tens of microseconds.
pub const LONG_STOP_NS: u64 = 1_000_000;

/// How many stops of the world have ended in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopCounts {
    /// All of them.
    pub ended: u64,
    /// Of them, those that took more than [`LONG_STOP_NS`].
    pub long: u64,
}

/// Who or what made a goroutine runnable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waker {
    /// A goroutine that ran.
    Goroutine(Who),
    /// The network poller.
    Netpoll,
    /// The scheduler itself: a timer, or the return from a system call without a P.
    Scheduler,
    /// A thread without a P: sysmon, or a thread of C.
    WithoutP,
}

/// One long wait Runnable→Running.
#[derive(Clone, Debug)]
pub struct SlowestWait {
    /// When it began, CLOCK_MONOTONIC.
    pub begin_ns: u64,
    /// How long it took, or has taken so far.
    pub duration_ns: u64,
    /// Whether it had not ended.
    pub ongoing: bool,
    /// Who waited.
    pub who: Who,
    /// How it became runnable.
    pub origin: Option<Origin>,
    /// What it had waited for before, in the runtime's words; `None` where it had not, or that was not seen.
    pub after: Option<String>,
    /// Who woke it, who had woken that one, and so on: at most three steps.
    pub wakers: Vec<Waker>,
    /// Its causes, in nanoseconds: they add up to `duration_ns`.
    pub causes: Vec<(Cause, u64)>,
    /// Who ran just before it on the P that it ran on.
    pub behind: Option<Who>,
    /// What the Ps did just before it began to run, or do now.
    pub picture: Option<Picture>,
}

/// What the Ps did at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Runnable goroutines.
    pub runnable: u64,
    /// Ps that ran a goroutine, on a CPU.
    pub busy: u32,
    /// Ps that ran the collector's work.
    pub gc: u32,
    /// Ps whose thread could run and had no CPU.
    pub os_preempted: u32,
    /// Ps whose thread was in a system call.
    pub in_syscall: u32,
    /// Ps whose thread slept.
    pub blocked: u32,
    /// Ps between two goroutines.
    pub scheduler: u32,
    /// Ps of which it was not known whether their thread had a CPU.
    pub unknown: u32,
    /// Ps without a thread, or with one that looked for work or was on its way.
    pub idle: u32,
}
