//! Applies snapshots of memory, each read while the program ran.
//!
//! A snapshot comes after all events that are earlier than its end, and maybe after later ones. A goroutine with an event
//! since the snapshot began is better known from that event; one without has not changed since.
//!
//! A reading of very many goroutines comes in parts. Each is applied as a snapshot of its own, so that what is compared
//! with events is the few milliseconds in which those goroutines were read, and not the second that all took. Only what
//! all parts say together, which goroutines are there no more, and that every state is known, waits for the last.

use super::class::Class;
use super::goroutine::{ByAddress, Goroutine, mark};
use super::reading::Reading;
use super::{Sched, State};
use crate::stream::transition::{GoroutineSeen, MachineSeen, SchedSnapshot, status};

/// An event comes just before the change that it announces; a thread that is interrupted between the two may make the
/// change late. An event within this time before a snapshot is believed more than the snapshot.
const CLOSE_NS: u64 = 20_000_000;

impl Sched {
    /// Applies a snapshot.
    pub(super) fn apply_snapshot(&mut self, snapshot: &SchedSnapshot) {
        self.advance_to(snapshot.end_ns);
        self.apply_states(snapshot);
        self.settle();
    }

    fn apply_states(&mut self, snapshot: &SchedSnapshot) {
        let from_ns = snapshot.begin_ns.saturating_sub(CLOSE_NS);
        let mut reading = std::mem::take(&mut self.reading);
        if reading.take_in(snapshot)
            && let Some(part) = snapshot.part
        {
            self.goroutines.reserve(part.gs);
        }
        self.apply_machines(snapshot, &reading.threads, from_ns);
        for goroutine in &snapshot.goroutines {
            let slot = self.goroutines.find_or_add(goroutine.g);
            reading.add(slot);
            let tid = reading.threads.get(&goroutine.m).copied().unwrap_or(0);
            self.apply_goroutine(slot, goroutine, tid, snapshot);
        }
        if snapshot.part.is_some_and(|part| !part.is_last) {
            self.reading = reading;
            return;
        }
        self.history.begin(self.now_ns);
        if reading.cut_short {
            return;
        }
        self.end_absent(&reading, snapshot.end_ns);
        // What was lost while it was read may have changed what had been read by then.
        if reading.begin_ns >= self.lost_ns {
            self.valid_from_ns.get_or_insert(self.now_ns);
        }
    }

    /// Applies what a snapshot says of Ms and Ps. `threads` are the threads by the address of their m.
    fn apply_machines(&mut self, snapshot: &SchedSnapshot, threads: &ByAddress<u32>, from_ns: u64) {
        for machine in snapshot.machines.iter().filter(|machine| machine.tid != 0) {
            let known = self.machines.by_tid.entry(machine.tid).or_default();
            (known.m, known.id) = (machine.m, Some(machine.id));
        }
        // After a loss it may have been changed unseen.
        if self.world.gomaxprocs == 0
            || self.lost_ns != 0 && snapshot.begin_ns >= self.lost_ns && !snapshot.processors.is_empty()
        {
            self.world.gomaxprocs = snapshot.processors.len() as u64;
        }
        for processor in &snapshot.processors {
            let known = self.machines.processors.entry(processor.p).or_default();
            known.id = Some(processor.id);
            if known.class == Class::Gone {
                self.machines.touch(processor.p);
            }
            let Some(known) = self.machines.processors.get_mut(&processor.p) else {
                continue;
            };
            let (sum, count, most) = known.queued;
            known.queued = (
                sum + u64::from(processor.queued),
                count + 1,
                most.max(processor.queued),
            );
            if known.seen_ns >= from_ns {
                continue;
            }
            // In a system call the P has no m any more (Go ≤ 1.25), but `m.oldp` still names it.
            let in_syscall = || {
                let left_it = |m: &&MachineSeen| m.p == 0 && m.oldp == processor.p;
                (processor.status == 2)
                    .then(|| snapshot.machines.iter().find(left_it).map(|m| m.tid))
                    .flatten()
            };
            let tid = match processor.m {
                0 => in_syscall(),
                m => threads.get(&m).copied(),
            };
            let now_ns = snapshot.end_ns;
            match tid {
                // An M has it, on a thread whose number was not read: events know better.
                Some(0) => {}
                Some(tid) if known.tid == tid => {}
                Some(tid) => {
                    let _ = self.machines.acquire(tid, processor.p, now_ns);
                    if let Some(known) = self.machines.processors.get_mut(&processor.p) {
                        known.acquired = known.acquired.saturating_sub(1);
                    }
                }
                None if known.tid != 0 => {
                    let _ = self.machines.release(processor.p, now_ns);
                }
                None => {}
            }
        }
    }

    /// Applies what a snapshot says of a goroutine, the one of `slot`. `tid` is the thread of its M; 0 where there is none
    /// or it is not known.
    fn apply_goroutine(&mut self, slot: u32, seen: &GoroutineSeen, tid: u32, snapshot: &SchedSnapshot) {
        let end_ns = snapshot.end_ns;
        let from_ns = snapshot.begin_ns.saturating_sub(CLOSE_NS);
        let Some(goroutine) = self.goroutines.get(slot) else {
            return;
        };
        let Some(mut state) = State::of_status(seen.status) else {
            return;
        };
        if seen.status == status::WAITING && seen.m != 0 {
            // It says that it waits, so that its stack may be read, and keeps running: one that waits has given up its M
            // (`dropg`). The reason does not show it: Go 1.19 sets it after the status, or leaves that of the last wait.
            state = State::Running;
        }
        let believed = goroutine.state;
        // What was seen before a loss may have been followed by what was lost.
        let is_unsure = goroutine.since_ns < self.lost_ns;
        let is_recent = goroutine.life != 0
            && (goroutine.since_ns > end_ns || goroutine.since_ns >= from_ns && !is_unsure);
        if believed == State::Dead && is_recent {
            return;
        }
        if goroutine.created_ns >= from_ns && goroutine.created_ns != 0 && goroutine.goid != 0 && !is_unsure {
            return;
        }
        let reason = if seen.status == status::PREEMPTED {
            self.reasons.preempted()
        } else {
            seen.reason
        };
        if believed == State::Dead {
            if goroutine.life != 0 && !is_unsure {
                self.anomalies.snapshot_differs += 1;
            }
            let _ = self.begin_life(slot, end_ns);
        }
        let identify = |goroutine: &mut Goroutine| {
            // Its g may have been read while another goroutine still had it.
            if goroutine.created_ns >= snapshot.begin_ns {
                return;
            }
            if seen.goid != 0 && (goroutine.goid == 0 || goroutine.created_ns < from_ns) {
                goroutine.goid = seen.goid;
            }
            if goroutine.gopc == 0 {
                goroutine.gopc = seen.gopc;
            }
        };
        if is_recent || believed == state {
            if let Some(goroutine) = self.goroutines.get_mut(slot) {
                identify(goroutine);
                if is_unsure {
                    goroutine.marks |= mark::INFERRED;
                }
                if believed == state && believed == State::Waiting {
                    goroutine.reason = reason;
                    if self.reasons.is_collectors(reason) {
                        goroutine.marks |= mark::COLLECTOR;
                    }
                }
            }
            return;
        }
        if !matches!(believed, State::Unknown | State::Dead) && !is_unsure {
            let syscalls = matches!(
                (believed, state),
                (State::Running, State::Syscall) | (State::Syscall, State::Running)
            );
            self.anomalies.snapshot_differs += u64::from(self.config.syscalls || !syscalls);
        }
        if state.has_thread() && tid == 0 {
            // It runs on a thread that was not read: it cannot be placed.
            state = State::Unknown;
        }
        let detail = if state == State::Waiting { reason } else { 0 };
        self.change(slot, state, detail, tid, end_ns, true);
        if let Some(goroutine) = self.goroutines.get_mut(slot) {
            identify(goroutine);
        }
    }

    /// Ends the goroutines that are not in a reading any more, which ended at `end_ns`.
    fn end_absent(&mut self, reading: &Reading, end_ns: u64) {
        let from_ns = reading.begin_ns.saturating_sub(CLOSE_NS);
        for slot in self.goroutines.slots() {
            let Some(goroutine) = self.goroutines.get(slot) else {
                continue;
            };
            // Its g may have been read before that event, whatever was lost after it.
            let is_recent = goroutine.since_ns >= reading.begin_ns
                || goroutine.since_ns >= from_ns && goroutine.since_ns >= self.lost_ns;
            if goroutine.state == State::Dead || is_recent || reading.has(slot) {
                continue;
            }
            let gopc = goroutine.gopc;
            let tid = goroutine.tid;
            if goroutine.since_ns >= self.lost_ns {
                self.anomalies.snapshot_differs += 1;
            } else {
                self.anomalies.after_loss += 1;
            }
            self.change(slot, State::Dead, 0, tid, end_ns, true);
            self.count_exit(gopc);
        }
    }
}
