//! What an event says of a goroutine: the state that it must have been in before, and the one that it is in now.
//!
//! Events may be missing. The change that must have been between is then inferred, marked as such and counted.

use super::{Goroutine, Sched, State, goroutine::mark, state};
use crate::stream::transition::{Transition, status};

impl Sched {
    /// Applies a change of a goroutine's status.
    pub(super) fn apply_status(&mut self, transition: &Transition) {
        let (old, new) = transition.statuses();
        let (Some(from), Some(to)) = (State::of_status(old), State::of_status(new)) else {
            self.anomalies.garbage += 1;
            return;
        };
        if !state::is_legal(self.config.minor, old, new) {
            self.anomalies.illegal += 1;
        }
        // It says that it waits, so that its stack may be read, and keeps running.
        if new == status::WAITING && from == State::Running && self.reasons.still_runs(transition.reason) {
            self.stacks.skip_walk(transition.detail);
            if self.config.assists
                && self.reasons.is_assist(transition.reason)
                && let Some(slot) = self.goroutines.find(transition.subject)
            {
                self.apply_assist(slot, true);
            }
            return;
        }
        if (old, new) == (status::WAITING, status::RUNNING) {
            self.end_assist(transition);
            return;
        }
        if from == to {
            return;
        }
        let slot = self.goroutines.find_or_add(transition.subject);
        let at_ns = transition.at_ns;
        if from == State::Dead {
            self.create(slot, to, transition);
            return;
        }
        let switched = |goroutine: &Goroutine| goroutine.is(mark::SWITCHED);
        if to == State::Dead && self.goroutines.get(slot).is_some_and(switched) {
            // A coroutine that ends does so after it has switched, on the thread that runs the other now.
            self.exit(slot, transition);
            return;
        }
        self.reconcile(slot, from, at_ns, transition.tid);
        let reason = match new {
            status::PREEMPTED => self.reasons.preempted(),
            _ => transition.reason,
        };
        if to == State::Dead {
            self.exit(slot, transition);
        } else {
            self.change(slot, to, reason, transition.tid, at_ns, false);
            if (old, new) == (status::RUNNING, status::WAITING)
                && let Some(goroutine) = self.goroutines.get_mut(slot)
            {
                goroutine.stack = u32::try_from(transition.detail).unwrap_or(0);
            }
        }
    }

    /// Applies the end of a GC assist: the goroutine said that it waited, and has run all the time. Nothing else is
    /// reported as a change from Waiting to Running: a coroutine has an event of its own.
    fn end_assist(&mut self, transition: &Transition) {
        let Transition {
            at_ns, subject, tid, ..
        } = *transition;
        let slot = self.goroutines.find_or_add(subject);
        self.reconcile(slot, State::Running, at_ns, tid);
        self.apply_assist(slot, false);
    }

    /// Creates the goroutine that a `go` statement made.
    fn create(&mut self, slot: u32, to: State, transition: &Transition) {
        let at_ns = transition.at_ns;
        let Some(goroutine) = self.goroutines.get(slot) else {
            return;
        };
        if goroutine.state != State::Dead {
            // Its end was not seen.
            self.infer(slot, State::Dead, at_ns, transition.tid);
        }
        let gopc = transition.detail;
        if let Some(goroutine) = self.begin_life(slot, at_ns) {
            goroutine.gopc = gopc;
            goroutine.created_ns = at_ns;
            goroutine.marks = mark::SEEN_CREATED;
        }
        self.created += 1;
        self.waits.site(gopc).created += 1;
        self.change(slot, to, transition.reason, transition.tid, at_ns, false);
    }

    /// Replaces the goroutine of a slot by a new one, which is Dead until it is changed.
    pub(super) fn begin_life(&mut self, slot: u32, at_ns: u64) -> Option<&mut Goroutine> {
        self.lives = self.lives.wrapping_add(1);
        let goroutine = self.goroutines.get_mut(slot)?;
        *goroutine = Goroutine {
            g: goroutine.g,
            since_ns: at_ns,
            life: self.lives,
            state: State::Dead,
            ..Goroutine::default()
        };
        Some(goroutine)
    }

    /// Ends a goroutine.
    fn exit(&mut self, slot: u32, transition: &Transition) {
        let Some(goroutine) = self.goroutines.get_mut(slot) else {
            return;
        };
        if transition.detail != 0 {
            goroutine.goid = transition.detail;
        }
        let gopc = goroutine.gopc;
        self.change(slot, State::Dead, 0, transition.tid, transition.at_ns, false);
        self.count_exit(gopc);
    }

    /// Counts a goroutine that has ended, made by this `go` statement.
    pub(super) fn count_exit(&mut self, gopc: u64) {
        self.exited += 1;
        self.waits.site(gopc).exited += 1;
    }

    /// Applies a switch of coroutines: one continues in the place of another, on the same thread and P.
    pub(super) fn apply_coroutine_switch(&mut self, transition: &Transition) {
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

    /// Puts the goroutine into the state that an event begins from.
    fn reconcile(&mut self, slot: u32, from: State, at_ns: u64, tid: u32) {
        let Some(goroutine) = self.goroutines.get(slot) else {
            return;
        };
        let believed = goroutine.state;
        if believed == from {
            return;
        }
        let after_loss = self.is_after_loss(slot);
        let expected = match (believed, from) {
            // Never seen before: it existed, or was seen to end before the capture's first event of it.
            (State::Dead, _) if goroutine.life == 0 => true,
            (State::Unknown, _) => true,
            // Not every system call is recorded.
            (State::Running, State::Syscall) | (State::Syscall, State::Running) => !self.config.syscalls,
            _ => false,
        };
        if believed == State::Dead {
            let _ = self.begin_life(slot, at_ns);
        }
        if !expected {
            self.count_inferred(believed, from, after_loss);
        }
        self.change(slot, from, 0, tid, at_ns, true);
    }

    /// Puts a goroutine into another state than was believed, where no event begins from it.
    fn infer(&mut self, slot: u32, to: State, at_ns: u64, tid: u32) {
        let Some(believed) = self.goroutines.get(slot).map(|goroutine| goroutine.state) else {
            return;
        };
        self.count_inferred(believed, to, self.is_after_loss(slot));
        self.change(slot, to, 0, tid, at_ns, true);
    }

    /// Counts a change of state that was inferred.
    fn count_inferred(&mut self, from: State, to: State, after_loss: bool) {
        if after_loss {
            self.anomalies.after_loss += 1;
        } else if let Some(count) = self
            .anomalies
            .inferred
            .get_mut(from as usize)
            .and_then(|row| row.get_mut(to as usize))
        {
            *count += 1;
        }
    }

    /// Applies that the goroutine's M has lost its P: the goroutine is in a system call, whether or not an event
    /// reported that.
    pub(super) fn lose_processor(&mut self, slot: u32, at_ns: u64) {
        // Where each system call is recorded there is nothing to infer; from Go 1.26 on, a goroutine that returns from
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

    /// Takes a goroutine off a thread that it was believed to run on, and that runs another now.
    pub(super) fn displace(&mut self, slot: u32, tid: u32, at_ns: u64) {
        if !self.is_on(slot, tid) {
            return;
        }
        if self.is_after_loss(slot) {
            self.anomalies.after_loss += 1;
        } else {
            self.anomalies.displaced += 1;
        }
        self.change(slot, State::Unknown, 0, tid, at_ns, true);
    }

    /// Whether the goroutine is believed to be on this thread.
    pub(super) fn is_on(&self, slot: u32, tid: u32) -> bool {
        let on_thread = |goroutine: &Goroutine| goroutine.tid == tid && goroutine.state.has_thread();
        self.goroutines.get(slot).is_some_and(on_thread)
    }

    /// Whether a loss explains that the goroutine is in another state than was believed: nothing was seen of it
    /// since, or only the snapshot that was taken for the loss, in the middle of changes.
    fn is_after_loss(&self, slot: u32) -> bool {
        self.goroutines.get(slot).is_some_and(|goroutine| {
            let by_snapshot = goroutine.is(mark::INFERRED)
                && self.valid_from_ns.is_none_or(|valid| goroutine.since_ns <= valid);
            goroutine.since_ns < self.lost_ns || self.lost_ns != 0 && by_snapshot
        })
    }
}
