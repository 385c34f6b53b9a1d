//! The runtime's state, rebuilt from observations: the gauges of the snapshots, what the scheduler did ([`sched`]), how
//! the program started ([`start`]), and what samples say of why goroutines waited ([`estimate`]).
//!
//! State machines without I/O: a recording gives the same answers as the live process did.

pub mod estimate;
pub mod ongoing;
pub mod sched;
pub mod start;

use self::estimate::{CauseEstimate, SampledCauses};
use self::ongoing::Ongoing;
use self::sched::Sched;
use crate::stream::ongoing::OngoingSeen;
use crate::stream::{Kind, Observation, SchedConfig, Snapshot};

/// The state of one process: gauges from the snapshots, and the scheduler where it is rebuilt.
#[derive(Clone, Debug, Default)]
pub struct Model {
    sched: Option<Sched>,
    first: Option<(u64, Snapshot)>,
    last: Option<(u64, Snapshot)>,
    snapshots: u64,
    most_queued: u64,
    ongoing: Option<(u64, OngoingSeen)>,
    polls: Polls,
    sampled_causes: SampledCauses,
}

impl Model {
    /// Makes a model that also rebuilds the scheduler from its transitions.
    pub fn with_scheduler(config: SchedConfig) -> Self {
        Self {
            sched: Some(Sched::new(config)),
            ..Self::default()
        }
    }

    /// Sets when the window opens, CLOCK_MONOTONIC.
    pub fn open_window(&mut self, at_ns: u64) {
        if let Some(sched) = &mut self.sched {
            sched.open_window(at_ns);
        }
    }

    /// The scheduler, where it is rebuilt.
    pub fn scheduler(&self) -> Option<&Sched> {
        self.sched.as_ref()
    }

    /// The scheduler, for taking what it has collected.
    pub fn scheduler_mut(&mut self) -> Option<&mut Sched> {
        self.sched.as_mut()
    }

    /// Returns the observations that were derived from transitions since the last call.
    pub fn take_derived(&mut self) -> Vec<Observation> {
        self.sched.as_mut().map(Sched::take_derived).unwrap_or_default()
    }

    /// Applies one observation.
    pub fn observe(&mut self, observation: &Observation) {
        if let Some(sched) = &mut self.sched {
            sched.observe(observation);
        }
        let snapshot = match &observation.kind {
            Kind::Snapshot(snapshot) => snapshot,
            Kind::Ongoing(seen) => {
                self.ongoing = Some((observation.at_ns, seen.clone()));
                return;
            }
            Kind::CauseSamples(seen) => {
                self.sampled_causes.add(seen);
                return;
            }
            _ => return,
        };
        self.polls.add(observation.at_ns, snapshot);
        let stamped = (observation.at_ns, Snapshot::clone(snapshot));
        self.first.get_or_insert_with(|| stamped.clone());
        self.last = Some(stamped);
        self.snapshots += 1;
        self.most_queued = self.most_queued.max(queued(snapshot).unwrap_or(0));
    }

    /// The state at the last snapshot.
    pub fn last(&self) -> Option<&Snapshot> {
        self.last.as_ref().map(|(_, snapshot)| snapshot)
    }

    /// Why goroutines waited to run, estimated from samples; `None` where none was taken.
    pub fn cause_estimate(&self) -> Option<CauseEstimate> {
        self.sampled_causes.estimate()
    }

    /// How old the last poll of the network was in snapshots without an idle P; nothing where the program was not seen to
    /// poll at all.
    pub fn late_polls(&self) -> LatePolls {
        match self.polls.in_use {
            true => self.polls.late,
            false => LatePolls::default(),
        }
    }

    /// How many more goroutines were alive at the last snapshot than at the first; `None` where that is not known.
    pub fn grown(&self) -> Option<u64> {
        if self.snapshots < 2 {
            return None;
        }
        let (_, first) = self.first.as_ref()?;
        Some(self.live()?.saturating_sub(live_in(first)?))
    }

    /// GOMAXPROCS at the first and at the last snapshot.
    pub fn gomaxprocs(&self) -> Option<(u32, u32)> {
        let (_, first) = self.first.as_ref()?;
        first.gomaxprocs.zip(self.last()?.gomaxprocs)
    }

    /// The number of snapshots.
    pub fn snapshots(&self) -> u64 {
        self.snapshots
    }

    /// The most goroutines that were in all run queues together, of all snapshots.
    pub fn most_queued(&self) -> u64 {
        self.most_queued
    }

    /// What had begun and was not over at the end of a window from `begin_ns` to `end_ns`; `None` where nothing of it is
    /// known.
    pub fn ongoing(&self, begin_ns: u64, end_ns: u64) -> Option<Ongoing> {
        let seen = self
            .ongoing
            .as_ref()
            .map(|(at_ns, seen)| Ongoing::of_seen(seen, *at_ns, begin_ns));
        let Some(sched) = &self.sched else { return seen };
        let mut ongoing = sched.ongoing(end_ns);
        let seen_stop = seen.and_then(|seen| seen.stop);
        if let Some(stop) = &mut ongoing.stop {
            stop.not_stopped = seen_stop.and_then(|seen| seen.not_stopped);
        } else if !sched.has_seen_a_stop() {
            // It began before the capture, and so has no event.
            ongoing.stop = seen_stop;
        }
        Some(ongoing)
    }

    /// Goroutines alive at the last snapshot, those of the runtime included: those that were read or, where that was a
    /// sample, those that the runtime itself counts.
    pub fn live(&self) -> Option<u64> {
        live_in(self.last()?)
    }

    /// Stop-the-world pauses between the first and the last snapshot.
    pub fn pauses(&self) -> Option<Pauses> {
        let ((from, first), (to, last)) = (self.first.as_ref()?, self.last.as_ref()?);
        let (count, count_before) = (last.stw_pauses?, first.stw_pauses?);
        let (time, time_before) = (last.stw_total_ns?, first.stw_total_ns?);
        let stopping = last.stw_stopping_ns.zip(first.stw_stopping_ns);
        Some(Pauses {
            window_ns: to.checked_sub(*from).filter(|ns| *ns > 0)?,
            gc: (
                count.0.saturating_sub(count_before.0),
                time.0.saturating_sub(time_before.0),
            ),
            other: (
                count.1.saturating_sub(count_before.1),
                time.1.saturating_sub(time_before.1),
            ),
            stopping: stopping
                .map(|(now, before)| (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1))),
        })
    }
}

/// Stop-the-world pauses in a stretch of time: their number, and their time in nanoseconds, accurate to 12.5 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// Length of the stretch.
    pub window_ns: u64,
    /// Pauses of the garbage collector.
    pub gc: (u64, u64),
    /// Pauses for other reasons (GOMAXPROCS, profiles, traces, ReadMemStats, goroutine dumps).
    pub other: (u64, u64),
    /// The time of it until every P had stopped: of the garbage collector, and for other reasons.
    pub stopping: Option<(u64, u64)>,
}

/// sysmon polls the network itself where nobody has for so long (proc.go, `sysmon`).
const SYSMON_POLLS_AFTER_NS: u64 = 10_000_000;
/// Where every P is busy and nobody has polled for so long, sysmon is late: it sleeps for at most 10 ms at a time, and
/// then polls where nobody has for 10 ms. Half as much again is for the kernel, which must wake it.
pub const SYSMON_LATE_NS: u64 = 30_000_000;
/// Where nobody has for so long, not even sysmon, the poller is not in use.
const UNUSED_NS: u64 = 1_000_000_000;

/// Readings in which every P was busy, and what they say of the last poll of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatePolls {
    /// Snapshots without an idle P in which a time of the last poll was known.
    pub busy: u64,
    /// Of them, those in which it was 10 ms ago or more.
    pub late: u64,
    /// The longest time since the last poll in those.
    pub longest_ns: u64,
    /// When that was, CLOCK_MONOTONIC; 0 where there are none.
    pub longest_at_ns: u64,
    /// Of them, those in which it was [`SYSMON_LATE_NS`] ago or more, and sysmon is known not to have been asleep for want
    /// of work.
    pub sysmon_late: u64,
    /// The longest time since the last poll in those.
    pub sysmon_longest_ns: u64,
    /// When that was, CLOCK_MONOTONIC; 0 where there are none.
    pub sysmon_longest_at_ns: u64,
}

/// What the snapshots say of polls.
#[derive(Clone, Copy, Debug, Default)]
struct Polls {
    late: LatePolls,
    /// The moment of the last poll, at the last snapshot that knew it.
    last_ns: Option<u64>,
    /// Whether the network was polled between two snapshots: a program that uses neither timers nor the network never
    /// does, and then its last poll is its begin.
    in_use: bool,
}

impl Polls {
    fn add(&mut self, now_ns: u64, snapshot: &Snapshot) {
        let Some(since_ns) = snapshot.since_last_poll_ns else {
            return;
        };
        let polled_ns = now_ns.saturating_sub(since_ns);
        self.in_use |= self.last_ns.is_some_and(|last_ns| last_ns != polled_ns);
        self.last_ns = Some(polled_ns);
        if snapshot.idle_ps != Some(0) || since_ns >= UNUSED_NS {
            return;
        }
        self.late.busy += 1;
        if since_ns >= SYSMON_POLLS_AFTER_NS {
            self.late.late += 1;
            if since_ns > self.late.longest_ns {
                (self.late.longest_ns, self.late.longest_at_ns) = (since_ns, now_ns);
            }
        }
        if since_ns >= SYSMON_LATE_NS && snapshot.sysmon_waiting == Some(false) {
            self.late.sysmon_late += 1;
            if since_ns > self.late.sysmon_longest_ns {
                (self.late.sysmon_longest_ns, self.late.sysmon_longest_at_ns) = (since_ns, now_ns);
            }
        }
    }
}

/// Goroutines alive at a snapshot: see [`Model::live`].
fn live_in(snapshot: &Snapshot) -> Option<u64> {
    let states = &snapshot.goroutines_by_state;
    let read = || (!states.is_empty()).then(|| states.iter().map(|(_, count)| count).sum());
    let counted = snapshot.goroutines_live.filter(|_| snapshot.goroutines_sampled);
    counted.or_else(read)
}

/// Goroutines in all run queues of a snapshot.
fn queued(snapshot: &Snapshot) -> Option<u64> {
    let local: u64 = snapshot.local_runqs.iter().map(|length| u64::from(*length)).sum();
    Some(snapshot.global_runq?.saturating_add(local))
}
