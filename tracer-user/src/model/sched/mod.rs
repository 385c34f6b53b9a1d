//! The scheduler, rebuilt from its transitions: what each goroutine, P and M does at each moment.
//!
//! A pure state machine: it takes observations and answers questions. Where an event does not fit the state that is
//! believed, the changes that must have been between are inferred, marked as such and counted by kind. From a loss on,
//! and until a snapshot has given the states anew, nothing is measured that may have been interrupted.

mod apply;
mod cause;
mod causes;
mod change;
mod class;
mod counts;
mod culprits;
mod explain;
mod explained;
mod follow;
mod goroutine;
mod history;
mod ongoing;
mod reading;
mod reason;
mod report;
mod search;
mod settle;
mod snapshot;
mod stacks;
mod state;
mod status;
mod thread;
mod waits;
mod waker;
mod woken;
mod world;

pub use cause::Cause;
pub use change::Change;
pub use counts::Counts;
pub use explained::{
    CauseReport, CausesReport, Culprit, LONG_STOP_NS, Peak, Picture, SlowestWait, StopCounts, StopReport,
    Waker, Who,
};
pub use goroutine::Goroutine;
pub use history::History;
pub use reason::Reasons;
pub use report::{MachineReport, ProcessorReport, Report, SiteReport};
pub use search::Searches;
pub use stacks::{Blocked, PlaceReport, Stacks, StacksReport};
pub use state::State;
pub use thread::{Machine, Processor, ThreadState};
pub use waits::Wait;
pub use world::World;

use self::{
    causes::Causes,
    culprits::Culprits,
    goroutine::Table,
    reading::Reading,
    thread::{Machines, Thread},
    waits::Waits,
};
use crate::stream::{Kind, LossCause, Observation, SchedConfig};

/// What did not fit, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anomalies {
    /// Changes of state that were inferred: from the state that was believed to the one that the next event began
    /// from.
    pub inferred: [[u64; State::COUNT]; State::COUNT],
    /// Changes that were inferred after a loss, of any states.
    pub after_loss: u64,
    /// Changes of status that this version of Go does not make.
    pub illegal: u64,
    /// Goroutines that were believed to run on a thread that began to run another.
    pub displaced: u64,
    /// Goroutines whose state in a snapshot differs from what the events say.
    pub snapshot_differs: u64,
    /// Events that are earlier than the one before of the same goroutine.
    pub backwards: u64,
    /// Records that cannot be interpreted.
    pub garbage: u64,
}

impl Anomalies {
    /// The number of all but those that a loss explains.
    pub fn total(&self) -> u64 {
        let inferred: u64 = self.inferred.iter().flatten().sum();
        inferred + self.illegal + self.displaced + self.snapshot_differs + self.backwards + self.garbage
    }
}

/// The model of a process's scheduler.
#[derive(Clone, Debug)]
pub struct Sched {
    config: SchedConfig,
    reasons: Reasons,
    goroutines: Table,
    machines: Machines,
    waits: Waits,
    stacks: Stacks,
    world: World,
    causes: Causes,
    culprits: Culprits,
    /// When the window opens, CLOCK_MONOTONIC; 0 once it has.
    opens_ns: u64,
    anomalies: Anomalies,
    /// Living goroutines by state.
    living: [u64; State::COUNT],
    /// `living` over time.
    history: History,
    /// Nanoseconds that goroutines spent in each state, up to their last change.
    spent_ns: [u64; State::COUNT],
    lives: u32,
    created: u64,
    exited: u64,
    events: u64,
    begin_ns: u64,
    now_ns: u64,
    /// Since when every answer holds; `None` while it does not.
    valid_from_ns: Option<u64>,
    /// When something was lost last: what was seen before may not be true any more.
    lost_ns: u64,
    losses: u64,
    /// Transitions that the kernel side saw.
    seen: u64,
    /// Observations for [`Self::take_derived`].
    derived: Vec<Observation>,
    /// Changes for [`Self::take_changes`], where they are kept.
    changes: Option<Vec<Change>>,
    /// Running goroutines whose P was taken away: they must be in a system call.
    inferred_syscalls: u64,
    /// The reading that comes in parts, until its last one.
    reading: Reading,
}

impl Sched {
    /// Makes a model that knows of no goroutine yet.
    pub fn new(config: SchedConfig) -> Self {
        Self {
            config,
            reasons: Reasons::of(config.minor),
            goroutines: Table::default(),
            machines: Machines::default(),
            waits: Waits::default(),
            stacks: Stacks::default(),
            world: World::default(),
            causes: Causes::default(),
            culprits: Culprits::default(),
            opens_ns: 0,
            anomalies: Anomalies::default(),
            living: [0; State::COUNT],
            history: History::default(),
            spent_ns: [0; State::COUNT],
            lives: 0,
            created: 0,
            exited: 0,
            events: 0,
            begin_ns: 0,
            now_ns: 0,
            valid_from_ns: None,
            lost_ns: 0,
            losses: 0,
            seen: 0,
            derived: Vec::new(),
            changes: None,
            inferred_syscalls: 0,
            reading: Reading::default(),
        }
    }

    /// Keeps each change of a goroutine's state from now on, for [`Self::take_changes`].
    pub fn keep_changes(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// Returns the changes since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Applies one observation.
    pub fn observe(&mut self, observation: &Observation) {
        match &observation.kind {
            Kind::Transitions(transitions) => {
                transitions.iter().for_each(|transition| self.apply(transition));
            }
            Kind::Scheduler(snapshot) => self.apply_snapshot(snapshot),
            Kind::Stacks(seen) => self.stacks.observe(seen),
            Kind::Throttling(seen) => self.apply_throttling(seen, observation.at_ns),
            Kind::TransitionsSeen(count) => self.seen = self.seen.saturating_add(*count),
            Kind::Loss(loss) if loss.cause == LossCause::TransitionsDropped => {
                self.losses = self.losses.saturating_add(loss.count);
                self.record_loss(observation.at_ns);
            }
            _ => {}
        }
    }

    /// Returns the observations that were derived since the last call: waits as histograms, slow ones as events.
    pub fn take_derived(&mut self) -> Vec<Observation> {
        let mut derived = std::mem::take(&mut self.derived);
        let at_ns = self.now_ns;
        derived.extend(self.waits.take().map(|delta| Observation {
            at_ns,
            kind: Kind::HistogramDelta(delta),
        }));
        derived
    }

    /// Records that something was lost before `at_ns`.
    fn record_loss(&mut self, at_ns: u64) {
        self.lost_ns = self.lost_ns.max(at_ns);
        self.valid_from_ns = None;
        self.world.record_loss();
        for machine in self.machines.by_tid.values_mut() {
            (machine.thread, machine.search) = (Thread::default(), None);
        }
        self.settle_loss();
    }

    /// The number of gs, Ps and threads that it keeps.
    pub fn known(&self) -> usize {
        self.goroutines.slots().len() + self.machines.by_tid.len() + self.machines.processors.len()
    }

    /// What did not fit.
    pub fn anomalies(&self) -> &Anomalies {
        &self.anomalies
    }

    /// The goroutine that has this g, or had it last.
    pub fn goroutine_of(&self, g: u64) -> Option<&Goroutine> {
        self.goroutines.get(self.goroutines.find(g)?)
    }

    /// The living goroutines, in no particular order.
    pub fn goroutines(&self) -> impl Iterator<Item = &Goroutine> {
        self.goroutines.living()
    }

    /// The goroutine that has this g, as long as it is this life of it.
    pub fn goroutine_of_life(&self, g: u64, life: u32) -> Option<&Goroutine> {
        self.goroutines.of_life(g, life)
    }

    /// The number of transitions that were applied.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Since when every answer holds; `None` while something that was lost may make them wrong.
    pub fn valid_from_ns(&self) -> Option<u64> {
        self.valid_from_ns
    }
}

#[cfg(test)]
mod tests;
