//! Explains waits Runnable→Running as they end, and everything as of one moment.

use tracer_ebpf::Origin;

use super::cause::Cause;
use super::causes::{LongWait, is_woken};
use super::change::Change;
use super::explained::{CausesReport, SlowestWait, Who};
use super::goroutine::Goroutine;
use super::state::State;
use super::{Sched, waker};

impl Sched {
    /// Explains the time in Runnable that a change ends.
    #[inline(always)]
    pub(super) fn explain(&mut self, change: &Change) {
        let causes = self.causes.end(change, change.from_reading);
        let is_wait = change.runnable_ns().is_some() && change.from_origin != Origin::Yielded as u8;
        if is_wait && self.causes.slowest.has_room_for(change.spent_ns) {
            self.keep_slow(change, causes);
        }
    }

    #[cold]
    fn keep_slow(&mut self, change: &Change, causes: [u64; Cause::COUNT]) {
        let Some(goroutine) = self.goroutines.get(change.slot) else {
            return;
        };
        let machine = self.machines.by_tid.get(&change.tid);
        let processor = machine.and_then(|machine| self.machines.processors.get(&machine.p));
        let last = processor.and_then(|processor| processor.last);
        let wait = LongWait {
            begin_ns: change.since_ns,
            duration_ns: change.spent_ns,
            g: change.g,
            life: change.life,
            who: change.who(),
            origin: change.from_origin,
            after: self.waited_before(goroutine),
            wakers: waker::chain(goroutine, &self.goroutines),
            causes,
            behind: last
                .filter(|(_, until_ns)| *until_ns >= change.since_ns)
                .map(|(who, _)| who),
            picture: self.causes.picture(self.runnable()),
        };
        self.causes.slowest.add(wait);
    }

    /// What a goroutine had waited for before it became runnable: the number of the reason.
    fn waited_before(&self, goroutine: &Goroutine) -> Option<u8> {
        (is_woken(goroutine.origin) && goroutine.reason != 0).then_some(goroutine.reason)
    }

    /// Adds the running stretch that a change ends to those of its `go` statement, and records who stops last while the
    /// world is being stopped.
    #[inline(always)]
    pub(super) fn end_stretch(&mut self, change: &Change) {
        if let Some(machine) = self.machines.by_tid.get(&change.from_tid)
            && machine.running == Some(change.slot)
        {
            self.culprits.add(change, machine.stretch, self.causes.held());
        }
        // From Go 1.26 on one that returns from a system call without a P says that it runs, and then that it does not.
        let returns = change.to == State::Runnable && change.reason == Origin::Syscall as u8;
        if self.causes.stops.is_under_way() && !change.inferred && !returns {
            self.causes.stops.record_stopped(change.at_ns, change.who());
        }
    }

    /// Reports why goroutines waited to run, as of `end_ns`, which is not before the last observation.
    pub(super) fn causes_report(&self, end_ns: u64) -> CausesReport {
        if self.opens_ns != 0 && self.opens_ns <= end_ns {
            // Nothing was observed since the window opened.
            let mut opened = self.clone();
            opened.open();
            return opened.causes_report(end_ns);
        }
        let mut causes = self.causes.clone();
        causes.advance(end_ns, end_ns.saturating_sub(self.now_ns), self.runnable());
        causes.finish(end_ns);
        let mut slowest: Vec<SlowestWait> = causes
            .slowest
            .waits()
            .iter()
            .map(|wait| self.slow_wait(wait))
            .collect();
        let mut ongoing_ns = [0u64; Cause::COUNT];
        for slot in self.goroutines.slots() {
            let Some(goroutine) = self.goroutines.get(slot).filter(|g| g.state == State::Runnable) else {
                continue;
            };
            let duration_ns = end_ns.saturating_sub(goroutine.since_ns);
            for (sum, ns) in ongoing_ns
                .iter_mut()
                .zip(causes.so_far_in_window(slot, goroutine, end_ns))
            {
                *sum = sum.saturating_add(ns);
            }
            let is_known = self
                .known_since(goroutine)
                .is_some_and(|(_, is_begin_known)| is_begin_known);
            let shortest = slowest.iter().map(|wait| wait.duration_ns).min().unwrap_or(0);
            let has_room = slowest.len() < super::causes::LongWaits::MOST || duration_ns > shortest;
            if is_known && has_room && goroutine.origin != Origin::Yielded as u8 {
                slowest.push(SlowestWait {
                    begin_ns: goroutine.since_ns,
                    duration_ns,
                    ongoing: true,
                    who: Who {
                        goid: goroutine.goid,
                        gopc: goroutine.gopc,
                    },
                    origin: Origin::from_u8(goroutine.origin),
                    after: self
                        .waited_before(goroutine)
                        .map(|reason| self.reasons.name(reason)),
                    wakers: waker::chain(goroutine, &self.goroutines),
                    causes: named(causes.so_far(slot, goroutine, duration_ns)),
                    behind: None,
                    picture: Some(self.causes.picture(self.runnable())),
                });
                keep_longest(&mut slowest);
            }
        }
        let running = self.machines.by_tid.values().filter_map(|machine| {
            let goroutine = self.goroutines.get(machine.running?)?;
            let held = self.culprits.so_far(machine.stretch, causes.held());
            (goroutine.state == State::Running).then_some((goroutine.gopc, held))
        });
        let mut report = causes.totals(ongoing_ns);
        report.culprits = self.culprits.report(running);
        report.after = causes
            .after()
            .map(|(reason, waits)| (self.reasons.name(reason), waits))
            .collect();
        report.stops = causes.stops.report(end_ns);
        report.stop_counts = causes.stops.counts();
        report.slowest = slowest;
        report
    }

    fn slow_wait(&self, wait: &LongWait) -> SlowestWait {
        // The id of a goroutine that was made in the capture is read later.
        let goid = self
            .goroutines
            .of_life(wait.g, wait.life)
            .map_or(wait.who.goid, |goroutine| goroutine.goid);
        SlowestWait {
            begin_ns: wait.begin_ns,
            duration_ns: wait.duration_ns,
            ongoing: false,
            who: Who { goid, ..wait.who },
            origin: Origin::from_u8(wait.origin),
            after: wait.after.map(|reason| self.reasons.name(reason)),
            wakers: wait.wakers.clone(),
            causes: named(wait.causes),
            behind: wait.behind,
            picture: Some(wait.picture),
        }
    }
}

fn keep_longest(waits: &mut Vec<SlowestWait>) {
    waits.sort_by_key(|wait| (std::cmp::Reverse(wait.duration_ns), wait.begin_ns));
    waits.truncate(super::causes::LongWaits::MOST);
}

/// The causes of a wait that are not 0, the largest first.
fn named(by_cause: [u64; Cause::COUNT]) -> Vec<(Cause, u64)> {
    let mut causes: Vec<(Cause, u64)> = Cause::ALL
        .into_iter()
        .zip(by_cause)
        .filter(|(_, ns)| *ns > 0)
        .collect();
    causes.sort_by_key(|(cause, ns)| (std::cmp::Reverse(*ns), *cause));
    causes
}
