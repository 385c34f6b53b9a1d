//! The changes of goroutines' states: each is one [`Change`], applied to its goroutine and then handed to all that
//! follow changes (counts, waits, stacks, threads).
//!
//! A follower gets everything from the change and asks nothing of the goroutine, which is in its new state already.

use super::{
    Sched, State,
    goroutine::{Goroutine, mark},
};
use crate::stream::{Event, Kind, Observation, Origin, SlowWait};

/// One change of a goroutine's state, with what was known of the goroutine before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The goroutine's slot in the table.
    pub(super) slot: u32,
    /// Its g.
    pub g: u64,
    /// Which life of the g it is.
    pub life: u32,
    /// Its id; 0 while it is not known.
    pub goid: u64,
    /// `g.gopc`; 0 while it is not known.
    pub gopc: u64,
    /// The thread that changed it.
    pub tid: u32,
    /// The thread that it ran on, or had last run on; 0: none is known.
    pub from_tid: u32,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Why it waits (into Waiting), how it became runnable (into Runnable).
    pub reason: u8,
    /// Why it had waited last.
    pub from_reason: u8,
    /// How it had become runnable last, an `Origin`.
    pub from_origin: u8,
    /// Where it waited, as [`StackSeen::id`]; 0: not known.
    ///
    /// [`StackSeen::id`]: crate::stream::transition::StackSeen::id
    pub from_stack: u32,
    /// Since when it was in the state before.
    pub since_ns: u64,
    /// Nanoseconds since then.
    pub spent_ns: u64,
    /// The state that these count for: Unknown, where a loss explains that `from` was wrong.
    pub spent_in: State,
    /// No event reported it.
    pub inferred: bool,
    /// Events reported this change and the one before it, and nothing was lost between them: `spent_ns` is the length
    /// of a wait.
    pub exact: bool,
}

impl Change {
    /// Nanoseconds from Runnable to Running, if it ends such a wait and its length is known.
    pub fn runnable_ns(&self) -> Option<u64> {
        (self.exact && self.from == State::Runnable && self.to == State::Running).then_some(self.spent_ns)
    }

    fn apply_to(&self, goroutine: &mut Goroutine) {
        if let Some(sum) = goroutine.spent_ns.get_mut(self.spent_in as usize) {
            *sum += self.spent_ns;
        }
        goroutine.state = self.to;
        goroutine.since_ns = self.since_ns.max(self.at_ns);
        goroutine.stack = 0;
        let source = if self.inferred { mark::INFERRED } else { mark::SEEN };
        goroutine.marks = goroutine.marks & mark::SEEN_CREATED | source;
        match self.to {
            State::Waiting => goroutine.reason = self.reason,
            State::Runnable => goroutine.origin = self.reason,
            State::Running | State::Syscall => goroutine.tid = self.tid,
            State::Unknown | State::Dead => {}
        }
    }
}

impl Sched {
    /// Changes a goroutine's state: the one place that does.
    pub(super) fn change(&mut self, slot: u32, to: State, reason: u8, tid: u32, at_ns: u64, inferred: bool) {
        let lost_ns = self.lost_ns;
        let Some(goroutine) = self.goroutines.get_mut(slot) else {
            return;
        };
        let (from, since_ns) = (goroutine.state, goroutine.since_ns);
        if at_ns < since_ns {
            self.anomalies.backwards += 1;
        }
        let change = Change {
            at_ns,
            slot,
            g: goroutine.g,
            life: goroutine.life,
            goid: goroutine.goid,
            gopc: goroutine.gopc,
            tid,
            from_tid: goroutine.tid,
            from,
            to,
            reason,
            from_reason: goroutine.reason,
            from_origin: goroutine.origin,
            from_stack: goroutine.stack,
            since_ns,
            spent_ns: at_ns.saturating_sub(since_ns),
            // What was believed through a loss was wrong, if it is contradicted.
            spent_in: if inferred && since_ns < lost_ns && from != State::Dead {
                State::Unknown
            } else {
                from
            },
            inferred,
            exact: !inferred && !goroutine.is(mark::INFERRED) && since_ns >= lost_ns,
        };
        change.apply_to(goroutine);
        self.follow(&change);
    }

    /// Hands a change to all that follow changes. A goroutine that it displaces from its thread is changed before this
    /// change is kept.
    fn follow(&mut self, change: &Change) {
        self.count(change);
        self.waits.follow(change);
        self.stacks.follow(change);
        self.report_slow(change);
        if let Some(displaced) = self.machines.follow(change) {
            self.displace(displaced, change.tid, change.at_ns);
        }
        if let Some(changes) = &mut self.changes {
            changes.push(*change);
        }
    }

    /// Counts goroutines by state, and the time that they spent there.
    fn count(&mut self, change: &Change) {
        if let Some(count) = self.living.get_mut(change.from as usize) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.living.get_mut(change.to as usize) {
            *count += 1;
        }
        if change.spent_in != State::Dead
            && let Some(sum) = self.spent_ns.get_mut(change.spent_in as usize)
        {
            *sum += change.spent_ns;
        }
    }

    /// Reports a wait Runnable→Running that was slow.
    fn report_slow(&mut self, change: &Change) {
        let Some(latency_ns) = change.runnable_ns() else {
            return;
        };
        if self
            .config
            .slower_ns
            .is_none_or(|slower_ns| latency_ns < slower_ns)
        {
            return;
        }
        let p = self
            .machines
            .by_tid
            .get(&change.tid)
            .map_or(0, |machine| machine.p);
        let p = self
            .machines
            .processors
            .get(&p)
            .and_then(|processor| processor.id);
        self.derived.push(Observation {
            at_ns: change.at_ns,
            kind: Kind::Event(Event::SlowWait(SlowWait {
                latency_ns,
                goid: (change.goid != 0).then_some(change.goid),
                gopc: (change.gopc != 0).then_some(change.gopc),
                origin: Origin::from_u8(change.from_origin),
                tid: change.tid,
                p,
            })),
        });
    }
}
