//! How goroutines change: what an event says, what must have been before it, and what follows from it.

use super::{Change, Goroutine, Sched, State, Wait, goroutine::mark, state};
use crate::stream::{
    Event, Kind, Observation, Origin, SlowWait,
    transition::{Transition, status},
};

impl Sched {
    /// A status of a goroutine changes.
    pub(super) fn goroutine(&mut self, transition: &Transition) {
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
    pub(super) fn coroutine(&mut self, transition: &Transition) {
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
        let after_loss = self.is_after_loss(slot);
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
            self.was_inferred(believed, from, after_loss);
        }
        self.change(slot, from, 0, tid, at_ns, true);
    }

    /// A goroutine must be in another state than was believed, and no event begins from it.
    fn infer(&mut self, slot: u32, to: State, at_ns: u64, tid: u32) {
        let Some(believed) = self.goroutines.get(slot).map(|goroutine| goroutine.state) else {
            return;
        };
        self.was_inferred(believed, to, self.is_after_loss(slot));
        self.change(slot, to, 0, tid, at_ns, true);
    }

    /// Counts a change of state that must have been.
    fn was_inferred(&mut self, from: State, to: State, after_loss: bool) {
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

    /// The goroutine's M has lost its P: it is in a system call, whether or not that was told.
    pub(super) fn without_processor(&mut self, slot: u32, at_ns: u64) {
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
    pub(super) fn change(&mut self, slot: u32, to: State, reason: u8, tid: u32, at_ns: u64, inferred: bool) {
        let lost_ns = self.lost_ns;
        let Some(goroutine) = self.goroutines.get_mut(slot) else {
            return;
        };
        let (from, since_ns) = (goroutine.state, goroutine.since_ns);
        if at_ns < since_ns {
            self.anomalies.backwards += 1;
        }
        let spent = at_ns.saturating_sub(since_ns);
        // What was believed through a loss was wrong, if it is contradicted.
        let was = if inferred && since_ns < lost_ns && from != State::Dead {
            State::Unknown
        } else {
            from
        };
        if let Some(sum) = goroutine.spent_ns.get_mut(was as usize) {
            *sum += spent;
            if let Some(all) = self.spent_ns.get_mut(was as usize) {
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
        self.goroutines.get(slot).is_some_and(|goroutine| {
            goroutine.tid == tid && matches!(goroutine.state, State::Running | State::Syscall)
        })
    }

    /// Whether a loss explains that the goroutine is in another state than was believed: it has not been heard of
    /// since, or only by the snapshot that was taken for the loss, in the middle of changes.
    fn is_after_loss(&self, slot: u32) -> bool {
        self.goroutines.get(slot).is_some_and(|goroutine| {
            let by_snapshot = goroutine.is(mark::INFERRED)
                && self.valid_from_ns.is_none_or(|valid| goroutine.since_ns <= valid);
            goroutine.since_ns < self.lost_ns || self.lost_ns != 0 && by_snapshot
        })
    }

    fn tell_slow(&mut self, at_ns: u64, latency_ns: u64, goid: u64, gopc: u64, origin: u8, tid: u32) {
        let p = self.machines.by_tid.get(&tid).map_or(0, |machine| machine.p);
        let p = self
            .machines
            .processors
            .get(&p)
            .and_then(|processor| processor.id);
        self.derived.push(Observation {
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
}
