//! Reads targets when they are due, and acts on the results.

use std::time::Duration;

use super::Host;
use crate::{
    clock::now_ns,
    daemon::{
        discovery::census::Outcome,
        job::{Done, Job, What},
        targets::{ReadFailure, Target, sample_delay},
    },
};

/// How long due targets are dealt with before the loop turns.
const TURN_NS: u64 = 5_000_000;
/// CPU time per second that counting the goroutines of all targets may cost us.
const WALKS: Duration = Duration::from_millis(1);
/// How many readings of a target may fail in a row until it is given up.
const MAX_READ_FAILURES: u32 = 5;

impl Host {
    /// Reads what is due, and gives up a reading that does not end.
    pub(super) fn read_targets(&mut self, now_ns: u64) {
        let walk = WALKS / u32::try_from(self.targets.len()).unwrap_or(u32::MAX).max(1);
        let mut jobs = Vec::new();
        let mut at_ns = now_ns;
        while at_ns.saturating_sub(now_ns) < TURN_NS
            && let Some(pid) = self.targets.pop_due(at_ns)
        {
            let Some(target) = self.targets.get_mut(pid) else {
                continue;
            };
            target.read_system(at_ns, &self.hierarchies);
            match target.job(What::All, walk) {
                Some(job) => jobs.push(job),
                // The governor has it read at this moment.
                None if target.watching().is_some() => self.targets.read_soon(pid, at_ns),
                None => {}
            }
            at_ns = self::now_ns();
        }
        self.reader.read(jobs);
        if let Some((pid, stuck)) = self.reader.give_up(at_ns) {
            let is_it = |target: &mut Target| target.id() == stuck;
            self.errors.add(
                "memory_stuck",
                &format!("reading the memory of process {pid} does not end: it is not read any more"),
                at_ns,
            );
            if self.targets.get_mut(pid).is_some_and(is_it) {
                self.census.set_outcome(pid, Outcome::Nothing);
                self.remove_target(pid, "reading its memory does not end");
            }
        }
    }

    /// Takes the samples that are due, after all readings: the first of them has the others wait with it, see
    /// [`sample_delay`].
    pub(super) fn sample_targets(&mut self, now_ns: u64) {
        let mut jobs = Vec::new();
        let mut delay = sample_delay(now_ns);
        while let Some(pid) = self.targets.pop_sample(now_ns) {
            let Some(target) = self.targets.get_mut(pid) else {
                continue;
            };
            match target.job(What::Causes, Duration::ZERO) {
                Some(job) => jobs.push(Job {
                    delay: std::mem::take(&mut delay),
                    ..job
                }),
                // It is being sampled.
                None => self.targets.schedule_sample(pid, now_ns, Duration::ZERO),
            }
        }
        self.reader.read(jobs);
    }

    pub(super) fn handle_reading(&mut self, done: Done, now_ns: u64) {
        let pid = done.job.pid;
        let target = self.targets.get_mut(pid);
        // The target may have been removed meanwhile.
        let Some(target) = target.filter(|target| target.id() == done.job.target) else {
            return;
        };
        let (was_sampled, cost) = (done.job.causes.is_some(), done.cost);
        match target.finish_reading(done) {
            Ok(()) => {
                target.read_failures = 0;
                if was_sampled {
                    self.targets.schedule_sample(pid, now_ns, cost);
                }
            }
            Err(failure) => self.handle_read_failure(pid, failure, now_ns),
        }
    }

    pub(super) fn handle_read_failure(&mut self, pid: u32, failure: ReadFailure, now_ns: u64) {
        match failure {
            ReadFailure::Ended => {
                self.census.exit(pid, now_ns);
                self.remove_target(pid, "it has ended");
            }
            ReadFailure::Replaced => {
                self.census.exec(pid, now_ns);
                self.remove_target(pid, "it runs another program");
            }
            ReadFailure::Unreadable(e) => {
                self.errors.add("memory_unreadable", &e, now_ns);
                let Some(target) = self.targets.get_mut(pid) else {
                    return;
                };
                target.read_failures += 1;
                if target.read_failures > MAX_READ_FAILURES {
                    self.census.set_outcome(pid, Outcome::Failed);
                    self.remove_target(pid, "its memory cannot be read");
                }
            }
        }
    }
}
