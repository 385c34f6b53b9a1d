//! When targets are read, and what comes of it.

use std::time::Duration;

use super::Host;
use crate::{
    clock::now_ns,
    daemon::{
        discovery::census::Outcome,
        reader::Done,
        targets::{Target, Trouble},
    },
};

/// Targets are looked at together no longer than this, then others have their turn.
const TURN_NS: u64 = 5_000_000;
/// Our CPU time per second that counting goroutines may take, of all targets together.
const WALKS: Duration = Duration::from_millis(1);
/// Readings of a target that fail in a row until it is looked into anew.
const MAX_TROUBLES: u32 = 5;

impl Host {
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
            target.look(at_ns, &self.hierarchies);
            jobs.extend(target.job(true, walk));
            at_ns = self::now_ns();
        }
        self.reader.read(jobs);
        if let Some((pid, stuck)) = self.reader.stuck(at_ns) {
            let is_it = |target: &mut Target| target.id() == stuck;
            self.complaints.add(
                "memory_stuck",
                &format!("reading the memory of process {pid} does not end: it is not read any more"),
                at_ns,
            );
            if self.targets.get_mut(pid).is_some_and(is_it) {
                self.census.settle(pid, Outcome::Nothing);
                self.let_go(pid, "reading its memory does not end");
            }
        }
    }

    pub(super) fn take_reading(&mut self, done: Done, now_ns: u64) {
        let pid = done.job.pid;
        let target = self.targets.get_mut(pid);
        // Of a process that was let go.
        let Some(target) = target.filter(|target| target.id() == done.job.target) else {
            return;
        };
        match target.read(done) {
            Ok(()) => target.troubles = 0,
            Err(trouble) => self.take_trouble(pid, trouble, now_ns),
        }
    }

    pub(super) fn take_trouble(&mut self, pid: u32, trouble: Trouble, now_ns: u64) {
        match trouble {
            Trouble::Ended => {
                self.census.exit(pid, now_ns);
                self.let_go(pid, "it has ended");
            }
            Trouble::Replaced => {
                self.census.exec(pid, now_ns);
                self.let_go(pid, "it runs another program");
            }
            Trouble::Unreadable(e) => {
                self.complaints.add("memory_unreadable", &e, now_ns);
                let Some(target) = self.targets.get_mut(pid) else {
                    return;
                };
                target.troubles += 1;
                if target.troubles > MAX_TROUBLES {
                    self.census.settle(pid, Outcome::Failed);
                    self.let_go(pid, "its memory cannot be read");
                }
            }
        }
    }
}
