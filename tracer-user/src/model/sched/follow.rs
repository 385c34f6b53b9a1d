//! Changes goroutines' states: each change is applied to its goroutine and then handed to all that follow changes
//! (counts, waits, stacks, threads).
//!
//! Followers are inlined, across files too, so that a change need not be written to memory: a busy program makes a
//! million of them a second.

use super::{Change, Sched, goroutine::mark, state::State, woken::WokenBy};
use crate::stream::{Event, Kind, Observation, Origin, SlowWait};

impl Sched {
    /// Changes a goroutine's state: the one place that does.
    #[inline]
    pub(super) fn change(&mut self, slot: u32, to: State, reason: u8, tid: u32, at_ns: u64, inferred: bool) {
        let lost_ns = self.lost_ns;
        let Some(goroutine) = self.goroutines.get_mut(slot) else {
            return;
        };
        let (from, since_ns) = (goroutine.state, goroutine.since_ns);
        let from_reading = std::mem::take(&mut goroutine.reading);
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
            from_reading,
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
        if to == State::Waiting && self.reasons.is_collectors(reason) {
            goroutine.marks |= mark::COLLECTOR;
        }
        if from != State::Runnable && to == State::Runnable {
            goroutine.reading = self.causes.read(goroutine.origin);
            self.record_waker(&change);
        }
        self.follow(&change);
    }

    /// Keeps who made a goroutine runnable.
    #[inline(always)]
    fn record_waker(&mut self, change: &Change) {
        let (by, at_ns) = match change.inferred {
            false => (
                WokenBy::of(change.reason, change.tid, &self.machines, &self.goroutines),
                change.at_ns,
            ),
            true => (WokenBy::default(), 0),
        };
        if let Some(goroutine) = self.goroutines.get_mut(change.slot) {
            (goroutine.woken_by, goroutine.woken_ns) = (by, at_ns);
        }
    }

    /// Hands a change to all that follow changes. A goroutine that it displaces from its thread is changed before this
    /// change is kept.
    #[inline(always)]
    fn follow(&mut self, change: &Change) {
        self.count(change);
        self.waits.follow(change);
        self.stacks.follow(change);
        self.report_slow(change);
        if change.from == State::Runnable {
            self.explain(change);
        } else if change.from == State::Running {
            self.end_stretch(change);
        }
        if let Some(displaced) = self.machines.follow(change, self.causes.held()) {
            self.displace(displaced, change.tid, change.at_ns);
        }
        if let Some(changes) = &mut self.changes {
            changes.push(*change);
        }
    }

    /// Counts goroutines by state, and the time that they spent there.
    #[inline(always)]
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

    /// Reports a wait Runnable→Running if it was slow.
    #[inline(always)]
    fn report_slow(&mut self, change: &Change) {
        if let (Some(slower_ns), Some(latency_ns)) = (self.config.slower_ns, change.runnable_ns())
            && latency_ns >= slower_ns
        {
            self.report_wait(change, latency_ns);
        }
    }

    #[cold]
    fn report_wait(&mut self, change: &Change, latency_ns: u64) {
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
