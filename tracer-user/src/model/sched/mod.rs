//! The scheduler, rebuilt from its transitions: what each goroutine, P and M does at each moment.
//!
//! A pure state machine: it is shown observations and asked for answers. What does not fit is met by the transitions
//! that must have been between, which are marked as inferred and counted by kind; from a loss on, and until a
//! snapshot has told the states anew, nothing is measured that may have been interrupted.

mod counts;
mod goroutine;
mod history;
mod machine;
mod reason;
mod report;
mod snapshot;
mod stacks;
mod state;
mod waits;
mod world;

pub use counts::Counts;
pub use goroutine::Goroutine;
pub use history::History;
pub use machine::{Machine, Processor, ThreadState};
pub use report::{MachineReport, ProcessorReport, Report, SiteReport};
pub use stacks::{Blocked, PlaceReport, Stacks, StacksReport};
pub use state::State;
pub use waits::Wait;
pub use world::World;

use serde::{Deserialize, Serialize};

use self::{
    goroutine::{Table, mark},
    machine::Machines,
    reason::Reasons,
    waits::Waits,
};
use crate::stream::{
    Event, Kind, LossCause, Observation, Origin, SlowWait,
    transition::{Transition, What, status},
};

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
    told: Vec<Observation>,
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
            told: Vec::new(),
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
                transitions.iter().for_each(|transition| self.happens(transition));
            }
            Kind::Scheduler(seen) => self.meet(seen),
            Kind::Stacks(seen) => self.stacks.observe(seen),
            Kind::TransitionsSeen(count) => self.seen = self.seen.saturating_add(*count),
            Kind::Loss(loss) if loss.cause == LossCause::TransitionsDropped => {
                self.losses = self.losses.saturating_add(loss.count);
                self.lose(observation.at_ns);
            }
            _ => {}
        }
    }

    /// What follows from what was observed since the last call: waits as histograms, slow ones as events.
    pub fn take_told(&mut self) -> Vec<Observation> {
        let mut told = std::mem::take(&mut self.told);
        let at_ns = self.now_ns;
        told.extend(self.waits.take().map(|delta| Observation {
            at_ns,
            kind: Kind::HistogramDelta(delta),
        }));
        told
    }

    /// Something was lost before `at_ns`.
    fn lose(&mut self, at_ns: u64) {
        self.lost_ns = self.lost_ns.max(at_ns);
        self.valid_from_ns = None;
    }

    /// Takes in one transition.
    pub fn happens(&mut self, transition: &Transition) {
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
                self.world.happens(what, at_ns);
            }
            What::ThreadOff | What::ThreadOn | What::ThreadWoken | What::ThreadEnded => {
                self.thread(what, transition);
            }
        }
    }

    fn goroutine(&mut self, transition: &Transition) {
        let (old, new) = transition.statuses();
        let (Some(from), Some(to)) = (State::of_status(old), State::of_status(new)) else {
            self.anomalies.garbage += 1;
            return;
        };
        if !state::is_legal(self.config.minor, old, new) {
            self.anomalies.illegal += 1;
        }
        // It says that it waits, so that its stack may be looked at, and goes on.
        if new == status::WAITING && from == State::Running && self.reasons.still_runs(transition.reason) {
            self.stacks.pretended(transition.detail);
            return;
        }
        if from == to {
            return;
        }
        let slot = self.goroutines.find_or_add(transition.subject);
        let at_ns = transition.at_ns;
        if from == State::Dead {
            self.born(slot, to, transition);
            return;
        }
        let switched = |goroutine: &Goroutine| goroutine.is(mark::SWITCHED);
        if to == State::Dead && self.goroutines.get(slot).is_some_and(switched) {
            // A coroutine that ends does so after it has switched, on the thread that runs the other now.
            self.dies(slot, transition);
            return;
        }
        self.reconcile(slot, from, at_ns, transition.tid);
        let reason = match new {
            status::PREEMPTED => self.reasons.preempted(),
            _ => transition.reason,
        };
        if to == State::Dead {
            self.dies(slot, transition);
        } else {
            self.change(slot, to, reason, transition.tid, at_ns, false);
            if (old, new) == (status::RUNNING, status::WAITING)
                && let Some(goroutine) = self.goroutines.get_mut(slot)
            {
                goroutine.stack = u32::try_from(transition.detail).unwrap_or(0);
            }
        }
    }

    /// A goroutine is made.
    fn born(&mut self, slot: u32, to: State, transition: &Transition) {
        let at_ns = transition.at_ns;
        let Some(goroutine) = self.goroutines.get(slot) else {
            return;
        };
        if goroutine.state != State::Dead {
            // Its end was not seen.
            self.infer(slot, State::Dead, at_ns, transition.tid);
        }
        self.lives = self.lives.wrapping_add(1);
        let life = self.lives;
        let gopc = transition.detail;
        if let Some(goroutine) = self.goroutines.get_mut(slot) {
            *goroutine = Goroutine {
                g: goroutine.g,
                gopc,
                since_ns: at_ns,
                born_ns: at_ns,
                life,
                state: State::Dead,
                marks: mark::SEEN_BORN,
                ..Goroutine::default()
            };
        }
        self.created += 1;
        self.waits.site(gopc).created += 1;
        self.change(slot, to, transition.reason, transition.tid, at_ns, false);
    }

    /// A goroutine ends.
    fn dies(&mut self, slot: u32, transition: &Transition) {
        let Some(goroutine) = self.goroutines.get_mut(slot) else {
            return;
        };
        if transition.detail != 0 {
            goroutine.goid = transition.detail;
        }
        let gopc = goroutine.gopc;
        self.change(slot, State::Dead, 0, transition.tid, transition.at_ns, false);
        self.exited += 1;
        self.waits.site(gopc).exited += 1;
    }

    /// One coroutine goes on in the place of another, on the same thread and P.
    fn coroutine(&mut self, transition: &Transition) {
        let Transition {
            at_ns,
            subject: next,
            detail: before,
            tid,
            ..
        } = *transition;
        let reason = self.reasons.coroutine();
        if before != 0 {
            let slot = self.goroutines.find_or_add(before);
            self.reconcile(slot, State::Running, at_ns, tid);
            self.change(slot, State::Waiting, reason, tid, at_ns, false);
            if let Some(goroutine) = self.goroutines.get_mut(slot) {
                goroutine.marks |= mark::SWITCHED;
            }
        }
        if next != 0 {
            let slot = self.goroutines.find_or_add(next);
            self.reconcile(slot, State::Waiting, at_ns, tid);
            self.change(slot, State::Running, 0, tid, at_ns, false);
        }
    }

    /// Makes the goroutine be in the state that an event begins from.
    fn reconcile(&mut self, slot: u32, from: State, at_ns: u64, tid: u32) {
        let Some(goroutine) = self.goroutines.get(slot) else {
            return;
        };
        let believed = goroutine.state;
        if believed == from {
            return;
        }
        let since_ns = goroutine.since_ns;
        let silent = match (believed, from) {
            // Never seen before; it was there, or was seen to end before the capture's first event of it.
            (State::Dead, _) if goroutine.life == 0 => true,
            (State::Unknown, _) => true,
            // System calls are not told one by one.
            (State::Running, State::Syscall) | (State::Syscall, State::Running) => !self.config.syscalls,
            _ => false,
        };
        if believed == State::Dead {
            self.lives = self.lives.wrapping_add(1);
            let life = self.lives;
            if let Some(goroutine) = self.goroutines.get_mut(slot) {
                *goroutine = Goroutine {
                    g: goroutine.g,
                    since_ns: at_ns,
                    life,
                    state: State::Dead,
                    ..Goroutine::default()
                };
            }
        }
        if !silent {
            if since_ns < self.lost_ns {
                self.anomalies.after_loss += 1;
            } else if let Some(count) = self
                .anomalies
                .inferred
                .get_mut(believed as usize)
                .and_then(|row| row.get_mut(from as usize))
            {
                *count += 1;
            }
        }
        self.change(slot, from, 0, tid, at_ns, true);
    }

    /// A goroutine must be in another state than was believed, and no event begins from it.
    fn infer(&mut self, slot: u32, to: State, at_ns: u64, tid: u32) {
        let Some(goroutine) = self.goroutines.get(slot) else {
            return;
        };
        let believed = goroutine.state;
        if goroutine.since_ns < self.lost_ns {
            self.anomalies.after_loss += 1;
        } else if let Some(count) = self
            .anomalies
            .inferred
            .get_mut(believed as usize)
            .and_then(|row| row.get_mut(to as usize))
        {
            *count += 1;
        }
        self.change(slot, to, 0, tid, at_ns, true);
    }

    /// The goroutine's M has lost its P: it is in a system call, whether or not that was told.
    fn without_processor(&mut self, slot: u32, at_ns: u64) {
        // Where each system call is told there is nothing to infer; from Go 1.26 on, a goroutine that comes back from
        // one is Running before it is known whether its P is still there.
        if self.config.syscalls {
            return;
        }
        let running = |goroutine: &&Goroutine| goroutine.state == State::Running;
        let Some(tid) = self.goroutines.get(slot).filter(running).map(|g| g.tid) else {
            return;
        };
        self.inferred_syscalls += 1;
        self.change(slot, State::Syscall, 0, tid, at_ns, true);
    }

    /// The one place where a goroutine's state changes.
    fn change(&mut self, slot: u32, to: State, reason: u8, tid: u32, at_ns: u64, inferred: bool) {
        let lost_ns = self.lost_ns;
        let Some(goroutine) = self.goroutines.get_mut(slot) else {
            return;
        };
        let (from, since_ns) = (goroutine.state, goroutine.since_ns);
        if at_ns < since_ns {
            self.anomalies.backwards += 1;
        }
        let spent = at_ns.saturating_sub(since_ns);
        if let Some(sum) = goroutine.spent_ns.get_mut(from as usize) {
            *sum += spent;
            if let Some(all) = self.spent_ns.get_mut(from as usize) {
                *all += spent;
            }
        }
        let is_sure = !inferred && !goroutine.is(mark::INFERRED) && since_ns >= lost_ns;
        let (g, life, goid, gopc) = (goroutine.g, goroutine.life, goroutine.goid, goroutine.gopc);
        let (was_tid, was_reason, origin) = (goroutine.tid, goroutine.reason, goroutine.origin);
        let stack = std::mem::take(&mut goroutine.stack);
        goroutine.state = to;
        goroutine.since_ns = goroutine.since_ns.max(at_ns);
        goroutine.marks =
            goroutine.marks & mark::SEEN_BORN | if inferred { mark::INFERRED } else { mark::SEEN };
        match to {
            State::Waiting => goroutine.reason = reason,
            State::Runnable => goroutine.origin = reason,
            State::Running | State::Syscall => goroutine.tid = tid,
            State::Unknown | State::Dead => {}
        }
        if let Some(count) = self.living.get_mut(from as usize) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.living.get_mut(to as usize) {
            *count += 1;
        }
        if is_sure && from == State::Runnable && to == State::Running {
            self.waits.ran(origin, gopc, spent);
            if self.config.slower_ns.is_some_and(|slower| spent >= slower) {
                self.tell_slow(at_ns, spent, goid, gopc, origin, tid);
            }
        }
        if is_sure && from == State::Waiting && to != State::Dead {
            let wait = Wait {
                begin_ns: since_ns,
                duration_ns: spent,
                g,
                life,
                goid,
                gopc,
                reason: was_reason,
                stack,
                ongoing: false,
            };
            self.waits.waited(wait);
            if self.stacks.are_told() {
                self.stacks.waited(&wait);
            }
        }
        let on_thread = |state| matches!(state, State::Running | State::Syscall);
        if on_thread(from) && (to != State::Running || was_tid != tid) {
            self.machines
                .stop(was_tid, slot, to == State::Syscall && was_tid == tid, at_ns);
        }
        if to == State::Running || to == State::Syscall && from != State::Running {
            let displaced = match to {
                State::Running => self.machines.run(tid, slot, at_ns),
                _ => self.machines.of(tid, at_ns).running.replace(slot),
            };
            if let Some(other) = displaced.filter(|other| *other != slot) {
                self.displace(other, tid, at_ns);
            }
        }
        if let Some(changes) = &mut self.changes {
            changes.push(Change {
                at_ns,
                g,
                life,
                goid,
                tid,
                from,
                to,
                reason,
                inferred,
            });
        }
    }

    /// A goroutine was believed to run on a thread that runs another now.
    fn displace(&mut self, slot: u32, tid: u32, at_ns: u64) {
        let on_thread = |goroutine: &&Goroutine| {
            goroutine.tid == tid && matches!(goroutine.state, State::Running | State::Syscall)
        };
        let Some(goroutine) = self.goroutines.get(slot).filter(on_thread) else {
            return;
        };
        if goroutine.since_ns < self.lost_ns {
            self.anomalies.after_loss += 1;
        } else {
            self.anomalies.displaced += 1;
        }
        self.change(slot, State::Unknown, 0, tid, at_ns, true);
    }

    fn tell_slow(&mut self, at_ns: u64, latency_ns: u64, goid: u64, gopc: u64, origin: u8, tid: u32) {
        let p = self.machines.by_tid.get(&tid).map_or(0, |machine| machine.p);
        let p = self
            .machines
            .processors
            .get(&p)
            .and_then(|processor| processor.id);
        self.told.push(Observation {
            at_ns,
            kind: Kind::Event(Event::SlowWait(SlowWait {
                latency_ns,
                goid: (goid != 0).then_some(goid),
                gopc: (gopc != 0).then_some(gopc),
                origin: Origin::from_u8(origin),
                tid,
                p,
            })),
        });
    }

    /// GOMAXPROCS is another: Ps past it are gone.
    fn resize(&mut self, count: u64, at_ns: u64) {
        self.world.resized += 1;
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

    /// A thread is gone, and with it its M.
    fn thread_ends(&mut self, tid: u32, at_ns: u64) {
        let Some(machine) = self.machines.by_tid.get(&tid) else {
            return;
        };
        let (running, p) = (machine.running, machine.p);
        // Whatever ran there ended, or a thread of C took its M away.
        if let Some(slot) = running {
            self.displace(slot, tid, at_ns);
        }
        if p != 0 {
            let _ = self.machines.release(p, at_ns);
        }
        self.machines.by_tid.remove(&tid);
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
