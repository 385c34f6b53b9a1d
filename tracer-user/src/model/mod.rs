//! The runtime's state, rebuilt from observations: the gauges of the snapshots, what the scheduler did ([`sched`]) and
//! how the program started ([`start`]).
//!
//! State machines without I/O: a recording gives the same answers as the live process did.

pub mod sched;
pub mod start;

use self::sched::Sched;
use crate::stream::{Kind, Observation, SchedConfig, Snapshot};

/// The state of one process: gauges from the snapshots, and the scheduler where it is rebuilt.
#[derive(Clone, Debug, Default)]
pub struct Model {
    sched: Option<Sched>,
    first: Option<(u64, Snapshot)>,
    last: Option<(u64, Snapshot)>,
    snapshots: u64,
    most_queued: u64,
}

impl Model {
    /// Makes a model that also rebuilds the scheduler from its transitions.
    pub fn with_scheduler(config: SchedConfig) -> Self {
        Self {
            sched: Some(Sched::new(config)),
            ..Self::default()
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
        let Kind::Snapshot(snapshot) = &observation.kind else {
            return;
        };
        let stamped = (observation.at_ns, snapshot.clone());
        self.first.get_or_insert_with(|| stamped.clone());
        self.last = Some(stamped);
        self.snapshots += 1;
        self.most_queued = self.most_queued.max(queued(snapshot).unwrap_or(0));
    }

    /// The state at the last snapshot.
    pub fn last(&self) -> Option<&Snapshot> {
        self.last.as_ref().map(|(_, snapshot)| snapshot)
    }

    /// The number of snapshots.
    pub fn snapshots(&self) -> u64 {
        self.snapshots
    }

    /// The most goroutines that were in all run queues together, of all snapshots.
    pub fn most_queued(&self) -> u64 {
        self.most_queued
    }

    /// Goroutines alive at the last snapshot, those of the runtime included: those that were read or, where that was a
    /// sample, those that the runtime itself counts.
    pub fn live(&self) -> Option<u64> {
        let last = self.last()?;
        let states = &last.goroutines_by_state;
        let read = || (!states.is_empty()).then(|| states.iter().map(|(_, count)| count).sum());
        let counted = last.goroutines_live.filter(|_| last.goroutines_sampled);
        counted.or_else(read)
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

/// Goroutines in all run queues of a snapshot.
fn queued(snapshot: &Snapshot) -> Option<u64> {
    let local: u64 = snapshot.local_runqs.iter().map(|length| u64::from(*length)).sum();
    Some(snapshot.global_runq?.saturating_add(local))
}
