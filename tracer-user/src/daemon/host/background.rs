//! Work that may take long (scans, inspections, looking up names), which is done on other threads, and its results.

use std::{io, sync::Arc};

use super::{Host, PIDS_NS, nanos};
use crate::{
    clock::now_ns,
    daemon::{
        config::Tier,
        discovery::{
            census::{Outcome, Scanned, Ticket},
            inspect::{Inspected, inspect, silent},
            scan,
        },
        message::Message,
        probing::{UnresolvedSites, program_of},
        starts,
        targets::Target,
    },
    process::Hierarchies,
};

/// The kind of error for a file system that does not answer.
const SILENT: &str = "file_system_silent";
/// How many threads look up names at most: a file system may never answer.
const MAX_RESOLVING: usize = 8;

impl Host {
    /// Begins a scan of /proc.
    pub(super) fn scan(&mut self, now_ns: u64) {
        self.is_scanning = true;
        self.scan_due_ns = now_ns.saturating_add(nanos(self.config.discovery.interval));
        let messages = self.messages.clone();
        tokio::task::spawn_blocking(move || {
            // There is no receiver any more when the daemon ends.
            let _ = messages.send(Message::Scanned(now_ns, scan::scan()));
        });
    }

    /// Applies a scan of /proc.
    pub(super) fn handle_scan(&mut self, began_ns: u64, all: io::Result<Vec<Scanned>>, now_ns: u64) {
        self.is_scanning = false;
        self.pids_due_ns = match self.has_process_events {
            true => u64::MAX,
            false => now_ns.saturating_add(PIDS_NS),
        };
        let all = match all {
            Ok(all) => all,
            Err(e) => {
                return self
                    .errors
                    .add("scan", &format!("/proc cannot be read: {e}"), now_ns);
            }
        };
        let ourselves = std::process::id();
        let others: Vec<Scanned> = all
            .into_iter()
            .filter(|scanned| scanned.pid != ourselves)
            .collect();
        for pid in self.census.apply_scan(&others, began_ns, now_ns) {
            self.remove_target(pid, "it has ended, or runs another program");
        }
        if self.has_room() {
            self.census
                .inspect_again(now_ns, |outcome| outcome == Outcome::BeyondLimit);
        }
        self.find_starts(now_ns);
        self.programs.sweep(now_ns);
        self.hierarchies = Hierarchies::mounted();
        self.scanned_once = true;
    }

    /// Finds binaries whose starts are to be timed, and begins to analyse them.
    pub(super) fn find_starts(&mut self, now_ns: u64) {
        let Some(probing) = &mut self.probing else { return };
        let candidates = self.starts.candidates(&self.config, &mut self.targets, now_ns);
        let (kernel, errors) = (probing.kernel_mut(), &mut self.errors);
        self.starts.sweep(&self.config, kernel, errors, now_ns);
        for candidate in candidates {
            let messages = self.messages.clone();
            tokio::task::spawn_blocking(move || {
                let program = starts::analyse(&candidate);
                let _ = messages.send(Message::Analysed(candidate, program));
            });
        }
    }

    /// Finds processes that have started since the last scan. Only needed without the kernel's events.
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

    /// Gives up inspections that do not end. Their processes are inspected again after later scans.
    pub(super) fn give_up_inspections(&mut self, now_ns: u64) {
        for ticket in self.in_flight.give_up(now_ns) {
            let e = silent(ticket.pid);
            self.errors.add(SILENT, &e, now_ns);
            self.keep_unreadable(ticket.pid, &e);
            self.census.inspected(ticket, Outcome::Silent, None);
        }
    }

    /// Begins to inspect a process.
    pub(super) fn begin_inspection(&mut self, ticket: Ticket, now_ns: u64) {
        let check = self.in_flight.begin(ticket, now_ns);
        let (config, programs) = (Arc::clone(&self.config), Arc::clone(&self.programs));
        let messages = self.messages.clone();
        tokio::task::spawn_blocking(move || {
            let (inspected, exe) = inspect(ticket.pid, &check, &config, &programs, self::now_ns());
            let _ = messages.send(Message::Inspected(ticket, inspected, exe));
        });
    }

    /// Begins to look up names of creation sites.
    pub(super) fn resolve_names(&mut self, sites: UnresolvedSites) {
        if self.resolving >= MAX_RESOLVING {
            // Files do not answer. These waits are counted without names, so that nothing else has to wait.
            if let Some(target) = self.targets.get_mut(sites.pid) {
                target.names_resolved();
            }
            return;
        }
        self.resolving += 1;
        let messages = self.messages.clone();
        tokio::task::spawn_blocking(move || {
            let UnresolvedSites { pid, known, gopcs } = sites;
            let resolved = program_of(pid, &known).and_then(|file| known.resolve(&gopcs, &file));
            let _ = messages.send(Message::NamesResolved(pid, resolved));
        });
    }

    /// Applies the result of an inspection.
    pub(super) fn handle_inspection(
        &mut self,
        ticket: Ticket,
        inspected: Inspected,
        exe: Option<(u64, u64)>,
        now_ns: u64,
    ) {
        if !self.in_flight.finished(ticket) {
            // It was given up, and its file system answers again.
            self.census
                .inspect_again(now_ns, |outcome| outcome == Outcome::Silent);
            return;
        }
        let (outcome, target) = match inspected {
            Inspected::Nothing => (Outcome::Nothing, None),
            Inspected::NotGo => (Outcome::NotGo, None),
            Inspected::Excluded => (Outcome::Excluded, None),
            Inspected::Silent(e) => {
                self.errors.add(SILENT, &e, now_ns);
                self.keep_unreadable(ticket.pid, &e);
                (Outcome::Silent, None)
            }
            Inspected::Failed(kind, e) => {
                self.errors.add(kind, &e, now_ns);
                self.keep_unreadable(ticket.pid, &e);
                (Outcome::Failed, None)
            }
            Inspected::Go(_) | Inspected::Refused(_) if !self.has_room() => (Outcome::BeyondLimit, None),
            Inspected::Go(found) => (Outcome::Watched, Some(Target::watched(*found, &self.config))),
            Inspected::Refused(refused) => (Outcome::Watched, Some(Target::refused(*refused))),
        };
        if !self.census.inspected(ticket, outcome, exe) {
            // It has ended, or runs another program by now, of which nothing was found out.
            self.forget_unreadable(ticket.pid);
            return;
        }
        let Some(mut target) = target else { return };
        // The rules may have changed during the inspection.
        if target.decide(&self.config).tier == Tier::Off {
            self.census.set_outcome(ticket.pid, Outcome::Excluded);
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
        let has_timed_starts = starts::is_included(&self.config, &target.view().name.exe);
        if let Err(e) = self.targets.insert(target, now_ns) {
            self.errors.add("wait", &e, now_ns);
            self.census.set_outcome(ticket.pid, Outcome::Failed);
        }
        if has_timed_starts {
            self.find_starts(now_ns);
        }
    }
}
