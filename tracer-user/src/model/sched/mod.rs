//! The scheduler, rebuilt from its transitions: what each goroutine, P and M does at each moment.
//!
//! A pure state machine: it is shown observations and asked for answers. What does not fit is met by the transitions
//! that must have been between, which are marked as inferred and counted by kind; from a loss on, and until a
//! snapshot has told the states anew, nothing is measured that may have been interrupted.

mod change;
mod counts;
mod goroutine;
mod history;
mod reason;
mod report;
mod snapshot;
mod stacks;
mod state;
mod thread;
mod waits;
mod world;

pub use counts::Counts;
pub use goroutine::Goroutine;
pub use history::History;
pub use report::{MachineReport, ProcessorReport, Report, SiteReport};
pub use stacks::{Blocked, PlaceReport, Stacks, StacksReport};
pub use state::State;
pub use thread::{Machine, Processor, ThreadState};
pub use waits::Wait;
pub use world::World;

use serde::{Deserialize, Serialize};

use self::{
    goroutine::Table,
    reason::Reasons,
    thread::{Machines, Thread},
    waits::Waits,
};
use crate::stream::{
    Kind, LossCause, Observation,
    transition::{Transition, What},
};

/// State of a thread that is no more (`TASK_DEAD`, include/linux/sched.h).
const TASK_DEAD: u64 = 0x80;

/// What the model must know of a capture. It is part of recordings: what a later version adds must have a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedConfig {
    /// 27 of Go 1.27.3.
    pub minor: u32,
    /// Whether each system call is told, not only those that cost the goroutine its P.
    #[serde(default)]
    pub syscalls: bool,
    /// Waits Runnable→Running of at least so long are told one by one.
    #[serde(default)]
    pub slower_ns: Option<u64>,
}

/// What did not fit, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anomalies {
    /// Changes of state that must have been and were not seen: from the state that was believed to the one that the
    /// next event began from.
    pub inferred: [[u64; State::COUNT]; State::COUNT],
    /// The same after a loss, of whatever states.
    pub after_loss: u64,
    /// Changes of status that this version of Go does not make.
    pub illegal: u64,
    /// A goroutine was believed to run on a thread that began to run another.
    pub displaced: u64,
    /// Goroutines whose state a snapshot tells otherwise than the events.
    pub snapshot_differs: u64,
    /// Events earlier than the one before of the same goroutine.
    pub backwards: u64,
    /// Records that are none.
    pub garbage: u64,
}

impl Anomalies {
    /// All of them but those that a loss explains.
    pub fn total(&self) -> u64 {
        let inferred: u64 = self.inferred.iter().flatten().sum();
        inferred + self.illegal + self.displaced + self.snapshot_differs + self.backwards + self.garbage
    }
}

/// One change of a goroutine's state, as the model took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The g.
    pub g: u64,
    /// Which life of it.
    pub life: u32,
    /// Its id; 0 while it is not known.
    pub goid: u64,
    /// The thread that it happened on.
    pub tid: u32,
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
    /// Why it waits (into Waiting), how it became runnable (into Runnable).
    pub reason: u8,
    /// No event told it.
    pub inferred: bool,
}

/// The scheduler.
#[derive(Clone, Debug)]
pub struct Sched {
    config: SchedConfig,
    reasons: Reasons,
    goroutines: Table,
    machines: Machines,
    waits: Waits,
    stacks: Stacks,
    world: World,
    anomalies: Anomalies,
    /// Living goroutines by state.
    living: [u64; State::COUNT],
    /// The same over time.
    history: History,
    /// Nanoseconds that goroutines spent in each state, up to their last change.
    spent_ns: [u64; State::COUNT],
    lives: u32,
    created: u64,
    exited: u64,
    events: u64,
    begin_ns: u64,
    now_ns: u64,
    /// Since when every answer holds; `None`: not now.
    valid_from_ns: Option<u64>,
    /// What was seen before this may not be true any more.
    lost_ns: u64,
    losses: u64,
    /// By the kernel side.
    seen: u64,
    /// Observations for [`Self::take_derived`].
    derived: Vec<Observation>,
    changes: Option<Vec<Change>>,
    /// Running goroutines whose P was taken away: they must be in a system call.
    inferred_syscalls: u64,
}

impl Sched {
    /// Knows nothing yet.
    pub fn new(config: SchedConfig) -> Self {
        Self {
            config,
            reasons: Reasons::of(config.minor),
            goroutines: Table::default(),
            machines: Machines::default(),
            waits: Waits::default(),
            stacks: Stacks::default(),
            world: World::default(),
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
        }
    }

    /// Keeps each change of a goroutine's state, until [`Self::take_changes`].
    pub fn keep_changes(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// The changes since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes in one observation.
    pub fn observe(&mut self, observation: &Observation) {
        match &observation.kind {
            Kind::Transitions(transitions) => {
                transitions.iter().for_each(|transition| self.apply(transition));
            }
            Kind::Scheduler(seen) => self.apply_snapshot(seen),
            Kind::Stacks(seen) => self.stacks.observe(seen),
            Kind::TransitionsSeen(count) => self.seen = self.seen.saturating_add(*count),
            Kind::Loss(loss) if loss.cause == LossCause::TransitionsDropped => {
                self.losses = self.losses.saturating_add(loss.count);
                self.lose(observation.at_ns);
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

    /// Something was lost before `at_ns`.
    fn lose(&mut self, at_ns: u64) {
        self.lost_ns = self.lost_ns.max(at_ns);
        self.valid_from_ns = None;
        self.world.lose();
        for machine in self.machines.by_tid.values_mut() {
            machine.thread = Thread::default();
        }
    }

    /// Takes in one transition.
    pub fn apply(&mut self, transition: &Transition) {
        let Transition {
            at_ns, subject, tid, ..
        } = *transition;
        let Some(what) = What::from_u8(transition.what) else {
            self.anomalies.garbage += 1;
            return;
        };
        self.events += 1;
        if self.begin_ns == 0 {
            self.begin_ns = at_ns;
        }
        self.now_ns = self.now_ns.max(at_ns);
        self.history.pass(self.now_ns, &self.living);
        if transition.flags & crate::stream::transition::flag::AFTER_LOSS != 0 {
            self.lose(at_ns);
        }
        match what {
            What::Goroutine => self.goroutine(transition),
            What::Coroutine => self.coroutine(transition),
            What::ProcessorAcquired => {
                if let Some(robbed) = self.machines.acquire(tid, subject, at_ns) {
                    self.without_processor(robbed, at_ns);
                }
            }
            What::ProcessorReleased => {
                let p = match subject {
                    0 => self.machines.of(tid, at_ns).p,
                    p => p,
                };
                if p != 0 {
                    // Whoever gives a P back does so itself, on the way into a system call or off its goroutine.
                    let _ = self.machines.release(p, at_ns);
                }
            }
            What::ProcessorHandedOff => {
                let robbed = self.machines.release(subject, at_ns);
                if let Some(processor) = self.machines.processors.get_mut(&subject) {
                    processor.handed_off += 1;
                }
                if let Some(robbed) = robbed {
                    self.without_processor(robbed, at_ns);
                }
            }
            What::ProcessorsResized => self.resize(subject, at_ns),
            What::MachineStarted => {
                let machine = self.machines.of(tid, at_ns);
                (machine.started, machine.parked) = (true, false);
                self.world.machines_started += 1;
            }
            What::MachineEnded => {
                self.world.machines_ended += 1;
                // Whatever ran there has ended.
                if let Some(slot) = self.machines.by_tid.get(&tid).and_then(|machine| machine.running) {
                    self.displace(slot, tid, at_ns);
                }
                self.thread_ends(tid, at_ns);
            }
            What::MachineParked => {
                let machine = self.machines.of(tid, at_ns);
                machine.parked = true;
                self.world.parks += 1;
            }
            What::MachineWanted => {
                self.machines.of(tid, at_ns).wanted = Some(transition.reason);
                self.world.wanted(transition.reason);
            }
            What::MachineCreated => {
                let wanted = self.machines.of(tid, at_ns).wanted.take();
                self.world.created(wanted, transition.detail);
            }
            What::GcStart | What::GcMarkTermination | What::WorldStops | What::WorldStarts => {
                self.world.apply(what, at_ns);
            }
            What::ThreadOff | What::ThreadOn | What::ThreadWoken | What::ThreadEnded => {
                self.thread(what, transition);
            }
        }
    }

    /// There are `count` Ps: those past it are gone. The runtime says so each time that the world starts again, also
    /// where nothing has changed.
    fn resize(&mut self, count: u64, at_ns: u64) {
        let before = std::mem::replace(&mut self.world.gomaxprocs, count);
        self.world.resized += u64::from(before != 0 && before != count);
        let gone: Vec<u64> = self
            .machines
            .processors
            .iter()
            .filter(|(_, p)| p.id.is_some_and(|id| u64::from(id) >= count))
            .map(|(address, _)| *address)
            .collect();
        for p in gone {
            let _ = self.machines.release(p, at_ns);
            if let Some(processor) = self.machines.processors.get_mut(&p) {
                processor.gone = true;
            }
        }
    }

    fn thread(&mut self, what: What, transition: &Transition) {
        let Transition {
            at_ns, tid, detail, ..
        } = *transition;
        let to = match what {
            What::ThreadOn => ThreadState::OnCpu,
            // What is preempted, or could run all the same, waits for a CPU.
            What::ThreadOff if detail == 0 => ThreadState::Waiting,
            // Its last: it was told to have ended.
            What::ThreadOff if detail & TASK_DEAD != 0 => {
                self.thread_ends(tid, at_ns);
                return;
            }
            What::ThreadOff => ThreadState::Asleep,
            What::ThreadWoken => ThreadState::Waiting,
            _ => {
                self.thread_ends(tid, at_ns);
                return;
            }
        };
        let thread = &mut self.machines.of(tid, at_ns).thread;
        // Woken before it was off the CPU: it goes on.
        if what == What::ThreadWoken && thread.state == ThreadState::OnCpu {
            return;
        }
        self.world
            .thread_was(thread.state, at_ns.saturating_sub(thread.since_ns));
        (thread.state, thread.since_ns) = (to, at_ns);
    }

    /// A thread is gone, and with it its M. A process that ends takes along what runs, which is nothing amiss.
    fn thread_ends(&mut self, tid: u32, at_ns: u64) {
        let Some(machine) = self.machines.by_tid.get(&tid) else {
            return;
        };
        let (running, p, thread) = (machine.running, machine.p, machine.thread);
        self.world
            .thread_was(thread.state, at_ns.saturating_sub(thread.since_ns));
        if let Some(slot) = running
            && self.is_on(slot, tid)
        {
            self.change(slot, State::Unknown, 0, tid, at_ns, true);
        }
        if p != 0 {
            let _ = self.machines.release(p, at_ns);
        }
        self.machines.by_tid.remove(&tid);
    }

    /// How many gs, Ps and threads it has something of.
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

    /// The living goroutines, in no order that means anything.
    pub fn goroutines(&self) -> impl Iterator<Item = &Goroutine> {
        self.goroutines.living()
    }

    /// The goroutine of this g, as long as it is that life.
    pub fn goroutine_of_life(&self, g: u64, life: u32) -> Option<&Goroutine> {
        self.goroutines.of_life(g, life)
    }

    /// How many transitions it was shown.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Since when every answer holds; `None` while that cannot be said.
    pub fn valid_from_ns(&self) -> Option<u64> {
        self.valid_from_ns
    }
}

#[cfg(test)]
mod tests;
