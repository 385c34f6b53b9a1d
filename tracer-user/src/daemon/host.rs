//! The host as the daemon knows it: what happens comes in, what is to be done is done. Nothing here waits; what takes
//! long (scans, looks into files) is done by others and comes back as a [`Word`].

use std::{fs, os::fd::BorrowedFd, sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    complaints::Complaints,
    config::{Config, Tier},
    discovery::{
        census::{Census, Outcome, Scanned, Ticket},
        look::{Seen, look},
        programs::Programs,
        scan,
    },
    probing::{Probing, Unknown, With, program_of},
    targets::{Target, Targets, Trouble},
    view::{DaemonView, HostView},
};
use crate::{
    error::{Error, Result},
    sources::host::{HostKernel, ProcessEvent},
    target::process::Hierarchies,
};

/// Looks that are made at once. One that has to decode a large binary takes 70 ms of a CPU.
const LOOKS_AT_ONCE: usize = 2;
/// What the kernel tells of processes is read this often.
const EVENTS_NS: u64 = 250_000_000;
/// Without the kernel's events, new processes are looked for this often.
const PIDS_NS: u64 = 1_000_000_000;
/// Targets are read together no longer than this, then others have their turn.
const TURN_NS: u64 = 5_000_000;
/// Our CPU time per second that counting goroutines may take, of all targets together.
const WALKS: Duration = Duration::from_millis(1);
/// Open files are counted this often.
const FDS_NS: u64 = 10_000_000_000;
/// Readings of a target that fail in a row until it is looked into anew.
const MAX_TROUBLES: u32 = 5;

/// What somebody who was sent to look has to say.
#[derive(Debug)]
pub enum Word {
    /// All processes, and when looking began.
    Scanned(u64, std::io::Result<Vec<Scanned>>),
    /// One process.
    Looked(Ticket, Seen),
    /// Names of creation sites of this process were looked up.
    Learned(u32, Result<()>),
}

/// All that is known.
pub struct Host {
    config: Arc<Config>,
    census: Census,
    targets: Targets,
    programs: Arc<Programs>,
    hierarchies: Hierarchies,
    /// Probes, and what the kernel tells; `None` where that cannot be had.
    probing: Option<Probing>,
    /// Whether the kernel tells of processes.
    is_told: bool,
    complaints: Complaints,
    lost_process_events: u64,
    words: UnboundedSender<Word>,
    is_scanning: bool,
    scanned_once: bool,
    scan_due_ns: u64,
    pids_due_ns: u64,
    events_due_ns: u64,
    fds: (u64, u64),
}

impl Host {
    /// Nothing is known yet. `words` is where those that are sent to look report to.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn new(
        config: Arc<Config>,
        kernel: Option<HostKernel>,
        is_told: bool,
        words: UnboundedSender<Word>,
    ) -> Result<Self> {
        let targets = Targets::new(config.tier.passive_interval)
            .map_err(|e| Error::failed(format!("processes cannot be waited for (epoll): {e}")))?;
        Ok(Self {
            census: Census::new(nanos(config.discovery.settle), LOOKS_AT_ONCE),
            targets,
            programs: Arc::default(),
            hierarchies: Hierarchies::mounted(),
            probing: kernel.map(Probing::new),
            is_told,
            complaints: Complaints::default(),
            lost_process_events: 0,
            words,
            is_scanning: false,
            scanned_once: false,
            scan_due_ns: 0,
            pids_due_ns: u64::MAX,
            events_due_ns: 0,
            fds: (0, 0),
            config,
        })
    }

    /// Whether all processes were listed once.
    pub fn has_scanned(&self) -> bool {
        self.scanned_once
    }

    /// How many processes are watched or shown.
    pub fn targets(&self) -> usize {
        self.targets.len()
    }

    /// Readable when a watched process has ended.
    pub fn ends_fd(&self) -> BorrowedFd<'_> {
        self.targets.ends_fd()
    }

    /// Readable when the kernel has much to tell.
    pub fn events_fd(&self) -> Option<BorrowedFd<'_>> {
        self.probing.as_ref().map(|probing| probing.kernel().events_fd())
    }

    /// When [`Self::tick`] has something to do.
    pub fn next_due(&self) -> u64 {
        let scan = if self.is_scanning {
            u64::MAX
        } else {
            self.scan_due_ns.min(self.pids_due_ns)
        };
        let probing = self.probing.as_ref();
        let events = probing.map_or(u64::MAX, |probing| {
            probing.next_due(&self.targets).min(self.events_due_ns)
        });
        let due = [self.census.next_due(), self.targets.next_due()]
            .into_iter()
            .flatten();
        due.fold(scan.min(events), u64::min)
    }

    /// Does what is due.
    pub fn tick(&mut self, now_ns: u64) {
        if self.probing.is_some() && now_ns >= self.events_due_ns {
            self.take_events(now_ns);
        }
        if !self.is_scanning && now_ns >= self.scan_due_ns {
            self.scan(now_ns);
        }
        if !self.is_scanning && now_ns >= self.pids_due_ns {
            self.find_new(now_ns);
        }
        for ticket in self.census.due(now_ns) {
            self.send_to_look(ticket);
        }
        self.read_targets(now_ns);
        self.with_probing(now_ns, |probing, config, targets, with| {
            probing.tick(config, targets, with)
        });
    }

    /// Lets the probed side do something, and has names looked up that it does not know.
    fn with_probing(
        &mut self,
        now_ns: u64,
        what: impl FnOnce(&mut Probing, &Config, &mut Targets, &mut With<'_>),
    ) {
        let Some(probing) = &mut self.probing else { return };
        let mut unknown = Vec::new();
        let mut with = With {
            complaints: &mut self.complaints,
            unknown: &mut unknown,
            now_ns,
        };
        what(probing, &self.config, &mut self.targets, &mut with);
        for unknown in unknown {
            self.send_to_learn(unknown);
        }
    }

    /// What the kernel has told of processes.
    pub fn take_events(&mut self, now_ns: u64) {
        self.events_due_ns = now_ns.saturating_add(EVENTS_NS);
        let Some(probing) = &mut self.probing else { return };
        let happened = match probing.kernel_mut().happened() {
            Ok(happened) => happened,
            Err(e) => return self.complaints.add("kernel", &e, now_ns),
        };
        for event in &happened.processes {
            match *event {
                ProcessEvent::Exec { pid, at_ns } => {
                    if self.census.exec(pid, at_ns) {
                        self.let_go(pid, "it runs another program");
                    }
                }
                // The end of what is watched is told by its pidfd: some milliseconds later, when it is final.
                ProcessEvent::Exit { pid, .. } => {
                    if self.census.exit(pid) {
                        self.let_go(pid, "it has ended");
                    }
                }
            }
        }
        if happened.lost > 0 {
            self.lost_process_events = self.lost_process_events.saturating_add(happened.lost);
            self.scan_due_ns = now_ns;
        }
        if !happened.capped.is_empty() {
            self.with_probing(now_ns, |probing, _, targets, with| {
                probing.capped(&happened, targets, with);
            });
        }
    }

    /// Watched processes have ended.
    pub fn take_ends(&mut self, now_ns: u64) {
        // Word comes once: all are taken.
        loop {
            let ended = match self.targets.ended() {
                Ok(ended) => ended,
                Err(e) => return self.complaints.add("wait", &e, now_ns),
            };
            let before = self.targets.len();
            for pid in ended {
                self.census.exit(pid);
                self.let_go(pid, "it has ended");
            }
            if self.targets.len() == before {
                return;
            }
        }
    }

    /// What somebody who was sent to look has to say.
    pub fn take_word(&mut self, word: Word, now_ns: u64) {
        match word {
            Word::Scanned(began_ns, all) => self.take_scan(began_ns, all, now_ns),
            Word::Looked(ticket, seen) => self.take_look(ticket, seen, now_ns),
            Word::Learned(pid, result) => {
                if let Err(e) = result {
                    self.complaints.add("names", &e, now_ns);
                }
                if let Some(target) = self.targets.get_mut(pid) {
                    target.learned();
                }
            }
        }
    }

    /// Another configuration is in force.
    pub fn reconfigure(&mut self, config: Arc<Config>, now_ns: u64) {
        let before = std::mem::replace(&mut self.config, config);
        self.census.set_settle(nanos(self.config.discovery.settle));
        if self.config.tier.passive_interval != before.tier.passive_interval {
            self.targets
                .set_interval(self.config.tier.passive_interval, now_ns);
        }
        let next_scan = now_ns.saturating_add(nanos(self.config.discovery.interval));
        self.scan_due_ns = self.scan_due_ns.min(next_scan);
        let mut excluded = Vec::new();
        for (pid, target) in self.targets.iter_mut() {
            if target.decide(&self.config).tier == Tier::Off {
                excluded.push(pid);
            }
        }
        for pid in excluded {
            self.census.settle(pid, Outcome::Excluded);
            self.let_go(pid, "a rule leaves it alone now");
        }
        self.with_probing(now_ns, |probing, config, targets, with| {
            probing.reconfigure(config, targets, with);
        });
        let again = |outcome| matches!(outcome, Outcome::Excluded | Outcome::BeyondLimit);
        self.census.look_again(now_ns, again);
    }

    /// Everything at this moment.
    pub fn view(&mut self, now_ns: u64) -> HostView {
        HostView {
            targets: self.targets.views(),
            starts: std::collections::BTreeMap::new(),
            daemon: self.daemon_view(now_ns),
            metrics: self.config.metrics.clone(),
            made: Some(std::time::Instant::now()),
        }
    }

    /// Takes all probes away.
    pub fn stop(&mut self) {
        if let Some(mut probing) = self.probing.take() {
            probing.stop();
        }
    }

    fn scan(&mut self, now_ns: u64) {
        self.is_scanning = true;
        self.scan_due_ns = now_ns.saturating_add(nanos(self.config.discovery.interval));
        let words = self.words.clone();
        tokio::task::spawn_blocking(move || {
            // Nobody listens any more when the daemon ends.
            let _ = words.send(Word::Scanned(now_ns, scan::scan()));
        });
    }

    fn take_scan(&mut self, began_ns: u64, all: std::io::Result<Vec<Scanned>>, now_ns: u64) {
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
        self.programs.sweep(now_ns);
        self.hierarchies = Hierarchies::mounted();
        self.scanned_once = true;
    }

    /// Finds processes that were started since the last scan, where nobody tells of them.
    fn find_new(&mut self, now_ns: u64) {
        self.pids_due_ns = now_ns.saturating_add(PIDS_NS);
        let Ok(pids) = scan::pids() else { return };
        let ourselves = std::process::id();
        for pid in pids {
            if pid != ourselves && !self.census.knows(pid) {
                let _ = self.census.exec(pid, now_ns);
            }
        }
    }

    fn send_to_look(&self, ticket: Ticket) {
        let (config, programs) = (Arc::clone(&self.config), Arc::clone(&self.programs));
        let words = self.words.clone();
        tokio::task::spawn_blocking(move || {
            let seen = look(ticket.pid, &config, &programs, now_ns());
            let _ = words.send(Word::Looked(ticket, seen));
        });
    }

    fn send_to_learn(&self, unknown: Unknown) {
        let words = self.words.clone();
        tokio::task::spawn_blocking(move || {
            let Unknown { pid, known, gopcs } = unknown;
            let learned = program_of(pid, &known).and_then(|file| known.learn(&gopcs, &file));
            let _ = words.send(Word::Learned(pid, learned));
        });
    }

    fn take_look(&mut self, ticket: Ticket, seen: Seen, now_ns: u64) {
        let (outcome, target) = match seen {
            Seen::Nothing => (Outcome::Nothing, None),
            Seen::NotGo => (Outcome::NotGo, None),
            Seen::Excluded => (Outcome::Excluded, None),
            Seen::Failed(kind, e) => {
                self.complaints.add(kind, &e, now_ns);
                (Outcome::Failed, None)
            }
            Seen::Go(_) | Seen::Refused(_) if !self.has_room() => (Outcome::BeyondLimit, None),
            Seen::Go(found) => (Outcome::Watched, Some(Target::watched(*found, &self.config))),
            Seen::Refused(refused) => (Outcome::Watched, Some(Target::refused(*refused))),
        };
        if !self.census.looked(ticket, outcome) {
            return;
        }
        let Some(mut target) = target else { return };
        // The rules may have changed while it was looked at.
        if target.decide(&self.config).tier == Tier::Off {
            self.census.settle(ticket.pid, Outcome::Excluded);
            return;
        }
        let name = &target.view().name;
        log::info!(
            "target {} ({}) {}, go{}: {}",
            name.pid,
            name.comm,
            name.exe,
            target.view().go_version,
            target.view().why.as_deref().unwrap_or(target.view().tier.name()),
        );
        if let Err(e) = self.targets.insert(target, now_ns) {
            self.complaints.add("wait", &e, now_ns);
            self.census.settle(ticket.pid, Outcome::Failed);
        }
    }

    fn has_room(&self) -> bool {
        self.targets.len() < self.config.discovery.max_targets as usize
    }

    fn let_go(&mut self, pid: u32, why: &str) {
        if let Some(mut target) = self.targets.remove(pid) {
            self.with_probing(now_ns(), |probing, _, _, with| probing.release(&mut target, with));
            log::info!("target {pid} ({}) is let go: {why}", target.view().name.comm);
        }
    }

    fn read_targets(&mut self, now_ns: u64) {
        let walk = WALKS / u32::try_from(self.targets.len()).unwrap_or(u32::MAX).max(1);
        let mut at_ns = now_ns;
        while at_ns.saturating_sub(now_ns) < TURN_NS
            && let Some(pid) = self.targets.pop_due(at_ns)
        {
            let Some(target) = self.targets.get_mut(pid) else {
                continue;
            };
            match target.read(at_ns, walk, &self.hierarchies) {
                Ok(()) => target.troubles = 0,
                Err(Trouble::Ended) => {
                    self.census.exit(pid);
                    self.let_go(pid, "it has ended");
                }
                Err(Trouble::Replaced) => {
                    self.census.exec(pid, at_ns);
                    self.let_go(pid, "it runs another program");
                }
                Err(Trouble::Unreadable(e)) => {
                    target.troubles += 1;
                    let too_many = target.troubles > MAX_TROUBLES;
                    self.complaints.add("memory_unreadable", &e, at_ns);
                    if too_many {
                        self.census.settle(pid, Outcome::Failed);
                        self.let_go(pid, "its memory cannot be read");
                    }
                }
            }
            at_ns = self::now_ns();
        }
    }

    fn daemon_view(&mut self, now_ns: u64) -> DaemonView {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        if now_ns >= self.fds.0 {
            let open = fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64);
            // One of them is the list's.
            self.fds = (now_ns.saturating_add(FDS_NS), open.saturating_sub(1));
        }
        DaemonView {
            cpu: Duration::new(cpu.tv_sec.unsigned_abs(), u32::try_from(cpu.tv_nsec).unwrap_or(0)),
            resident_bytes: resident_bytes().unwrap_or(0),
            open_fds: self.fds.1,
            hit_ns: self.probing.as_ref().and_then(Probing::hit_ns),
            errors: self.complaints.counts(),
            not_go: self.census.count(Outcome::NotGo),
            excluded: self.census.count(Outcome::Excluded),
            beyond_limit: self.census.count(Outcome::BeyondLimit),
            lost_process_events: self.lost_process_events,
            ..DaemonView::default()
        }
    }
}

/// The second field of `/proc/self/statm`, in pages (proc_pid_statm(5)).
fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// CLOCK_MONOTONIC, in nanoseconds.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
