//! Who is sent to look at processes and files, and what comes of it.

use std::{io, sync::Arc};

use super::{Host, PIDS_NS, Word, nanos};
use crate::{
    clock::now_ns,
    daemon::{
        config::Tier,
        discovery::{
            census::{Outcome, Scanned, Ticket},
            fits,
            look::{Seen, look, silent},
            scan,
        },
        probing::{Unknown, program_of},
        starts,
        targets::Target,
    },
    process::Hierarchies,
};

/// The kind of error that a file system is which does not answer.
const SILENT: &str = "file_system_silent";
/// Who looks up names of functions at most: a file may never answer.
const LEARNERS: usize = 8;

impl Host {
    pub(super) fn scan(&mut self, now_ns: u64) {
        self.is_scanning = true;
        self.scan_due_ns = now_ns.saturating_add(nanos(self.config.discovery.interval));
        let words = self.words.clone();
        tokio::task::spawn_blocking(move || {
            // Nobody listens any more when the daemon ends.
            let _ = words.send(Word::Scanned(now_ns, scan::scan()));
        });
    }

    pub(super) fn take_scan(&mut self, began_ns: u64, all: io::Result<Vec<Scanned>>, now_ns: u64) {
        self.is_scanning = false;
        self.pids_due_ns = match self.is_told {
            true => u64::MAX,
            false => now_ns.saturating_add(PIDS_NS),
        };
        let all = match all {
            Ok(all) => all,
            Err(e) => {
                return self
                    .complaints
                    .add("scan", &format!("/proc cannot be read: {e}"), now_ns);
            }
        };
        let ourselves = std::process::id();
        let others: Vec<Scanned> = all
            .into_iter()
            .filter(|scanned| scanned.pid != ourselves)
            .collect();
        for pid in self.census.scanned(&others, began_ns, now_ns) {
            self.let_go(pid, "it has ended, or runs another program");
        }
        if self.has_room() {
            self.census
                .look_again(now_ns, |outcome| outcome == Outcome::BeyondLimit);
        }
        self.find_starts(now_ns);
        self.programs.sweep(now_ns);
        self.hierarchies = Hierarchies::mounted();
        self.scanned_once = true;
    }

    /// Finds binaries whose starts are to be timed.
    pub(super) fn find_starts(&mut self, now_ns: u64) {
        let Some(probing) = &mut self.probing else { return };
        let candidates = self.starts.candidates(&self.config, &mut self.targets, now_ns);
        let (kernel, complaints) = (probing.kernel_mut(), &mut self.complaints);
        self.starts.sweep(&self.config, kernel, complaints, now_ns);
        for candidate in candidates {
            let words = self.words.clone();
            tokio::task::spawn_blocking(move || {
                let program = starts::analyse(&candidate);
                let _ = words.send(Word::Analysed(candidate, program));
            });
        }
    }

    /// Finds processes that were started since the last scan, where nobody tells of them.
    pub(super) fn find_new(&mut self, now_ns: u64) {
        self.pids_due_ns = now_ns.saturating_add(PIDS_NS);
        let Ok(pids) = scan::pids() else { return };
        let ourselves = std::process::id();
        for pid in pids {
            if pid != ourselves && !self.census.knows(pid) {
                let _ = self.census.exec(pid, now_ns);
            }
        }
    }

    /// Lets looks that never end be, and their processes wait.
    pub(super) fn give_up_looks(&mut self, now_ns: u64) {
        for ticket in self.looks.give_up(now_ns) {
            self.complaints.add(SILENT, &silent(ticket.pid), now_ns);
            self.census.looked(ticket, Outcome::Silent, None);
        }
    }

    pub(super) fn send_to_look(&mut self, ticket: Ticket, now_ns: u64) {
        let errand = self.looks.begin(ticket, now_ns);
        let (config, programs) = (Arc::clone(&self.config), Arc::clone(&self.programs));
        let words = self.words.clone();
        tokio::task::spawn_blocking(move || {
            let (seen, exe) = look(ticket.pid, &errand, &config, &programs, self::now_ns());
            let _ = words.send(Word::Looked(ticket, seen, exe));
        });
    }

    pub(super) fn send_to_learn(&mut self, unknown: Unknown) {
        if self.learning >= LEARNERS {
            // Files do not answer: these waits are counted without a name, rather than others be held up.
            if let Some(target) = self.targets.get_mut(unknown.pid) {
                target.learned();
            }
            return;
        }
        self.learning += 1;
        let words = self.words.clone();
        tokio::task::spawn_blocking(move || {
            let Unknown { pid, known, gopcs } = unknown;
            let learned = program_of(pid, &known).and_then(|file| known.learn(&gopcs, &file));
            let _ = words.send(Word::Learned(pid, learned));
        });
    }

    pub(super) fn take_look(&mut self, ticket: Ticket, seen: Seen, exe: Option<(u64, u64)>, now_ns: u64) {
        if !self.looks.came_back(ticket) {
            // Its file system answers again.
            self.census
                .look_again(now_ns, |outcome| outcome == Outcome::Silent);
            return;
        }
        let (outcome, target) = match seen {
            Seen::Nothing => (Outcome::Nothing, None),
            Seen::NotGo => (Outcome::NotGo, None),
            Seen::Excluded => (Outcome::Excluded, None),
            Seen::Silent(e) => {
                self.complaints.add(SILENT, &e, now_ns);
                (Outcome::Silent, None)
            }
            Seen::Failed(kind, e) => {
                self.complaints.add(kind, &e, now_ns);
                (Outcome::Failed, None)
            }
            Seen::Go(_) | Seen::Refused(_) if !self.has_room() => (Outcome::BeyondLimit, None),
            Seen::Go(found) => (Outcome::Watched, Some(Target::watched(*found, &self.config))),
            Seen::Refused(refused) => (Outcome::Watched, Some(Target::refused(*refused))),
        };
        if !self.census.looked(ticket, outcome, exe) {
            return;
        }
        let Some(mut target) = target else { return };
        // The rules may have changed while it was looked at.
        if target.decide(&self.config).tier == Tier::Off {
            self.census.settle(ticket.pid, Outcome::Excluded);
            return;
        }
        let name = &target.view().name;
        log::debug!(
            "target {} ({}) {}, go{}: {}",
            name.pid,
            name.comm,
            name.exe,
            target.view().go_version,
            target.view().why.as_deref().unwrap_or(target.view().tier.name()),
        );
        let exe = &target.view().name.exe;
        let starts = self
            .config
            .init
            .include
            .iter()
            .any(|pattern| fits(pattern, exe.raw()));
        if let Err(e) = self.targets.insert(target, now_ns) {
            self.complaints.add("wait", &e, now_ns);
            self.census.settle(ticket.pid, Outcome::Failed);
        }
        if starts {
            self.find_starts(now_ns);
        }
    }
}
