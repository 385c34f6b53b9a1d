//! The host as the daemon knows it: what happens comes in, what is to be done is done. Nothing here waits; what takes
//! long (scans, looks into files) is done by others and comes back as a [`Word`].

mod looking;
mod reading;

use std::{
    fs,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    complaints::Complaints,
    config::{Config, Tier},
    discovery::{
        census::{Census, Outcome, Scanned, Ticket},
        look::Seen,
        looks::Looks,
        programs::Programs,
    },
    probing::{Probing, With},
    reader::{Done, Reader},
    starts::{Candidate, Startings},
    targets::Targets,
    view::{DaemonView, HostView},
};
use crate::{
    clock::now_ns,
    error::{Error, Result},
    process::Hierarchies,
    session::start::program::Program,
    sources::host::{HostKernel, ProcessEvent},
    writing::stderr,
};

/// Looks that are made at once. One that has to decode a large binary takes 70 ms of a CPU.
const LOOKS_AT_ONCE: usize = 2;
/// What the kernel tells of processes is read this often.
const EVENTS_NS: u64 = 250_000_000;
/// Without the kernel's events, new processes are looked for this often.
const PIDS_NS: u64 = 1_000_000_000;
/// Open files are counted this often.
const FDS_NS: u64 = 10_000_000_000;

/// What somebody who was sent to look has to say.
pub enum Word {
    /// All processes, and when looking began.
    Scanned(u64, std::io::Result<Vec<Scanned>>),
    /// One process.
    Looked(Ticket, Seen, Option<(u64, u64)>),
    /// The memory of a target.
    Read(Box<Done>),
    /// A binary whose starts are to be timed.
    Analysed(Candidate, Result<Box<Program>>),
    /// Names of creation sites of this process were looked up.
    Learned(u32, Result<()>),
}

/// All that is known.
pub struct Host {
    config: Arc<Config>,
    census: Census,
    looks: Looks,
    /// Who is looking up names.
    learning: usize,
    targets: Targets,
    programs: Arc<Programs>,
    reader: Reader,
    hierarchies: Hierarchies,
    /// Probes, and what the kernel tells; `None` where that cannot be had.
    probing: Option<Probing>,
    /// Whether the kernel tells of processes.
    is_told: bool,
    starts: Startings,
    complaints: Complaints,
    lost_process_events: u64,
    started_at: jiff::Timestamp,
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
            looks: Looks::default(),
            learning: 0,
            targets,
            programs: Arc::default(),
            reader: Reader::new(words.clone()),
            hierarchies: Hierarchies::mounted(),
            probing: kernel.map(Probing::new),
            is_told,
            starts: Startings::default(),
            complaints: Complaints::default(),
            lost_process_events: 0,
            started_at: jiff::Timestamp::now(),
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

    /// Whether a target has come or gone since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        self.targets.take_changed()
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
            let due = probing.next_due(&self.targets).min(self.starts.next_due());
            due.min(self.events_due_ns)
        });
        let due = [
            self.census.next_due(),
            self.looks.next_due(),
            self.targets.next_due(),
        ]
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
        self.give_up_looks(now_ns);
        for ticket in self.census.due(now_ns) {
            self.send_to_look(ticket, now_ns);
        }
        self.read_targets(now_ns);
        self.with_probing(now_ns, |probing, config, targets, with| {
            probing.tick(config, targets, with);
        });
        if let Some(probing) = &mut self.probing {
            self.starts
                .read(probing.kernel_mut(), &mut self.complaints, now_ns);
        }
    }

    /// Lets the probed side do something, and has names looked up that it does not know.
    fn with_probing(
        &mut self,
        now_ns: u64,
        what: impl FnOnce(&mut Probing, &Config, &mut Targets, &mut With<'_>),
    ) {
        let Some(probing) = &mut self.probing else { return };
        let (mut unknown, mut jobs) = (Vec::new(), Vec::new());
        let mut with = With {
            complaints: &mut self.complaints,
            unknown: &mut unknown,
            jobs: &mut jobs,
            now_ns,
        };
        what(probing, &self.config, &mut self.targets, &mut with);
        for unknown in unknown {
            self.send_to_learn(unknown);
        }
        self.reader.read(jobs);
    }

    /// What the kernel has told of processes.
    pub fn take_events(&mut self, now_ns: u64) {
        // At the moments at which targets are read: waking up costs more than this.
        self.events_due_ns = (now_ns.saturating_add(1)).next_multiple_of(EVENTS_NS);
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
                ProcessEvent::Exit { pid, at_ns } => {
                    if self.census.exit(pid, at_ns) {
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
                self.census.exit(pid, now_ns);
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
            Word::Looked(ticket, seen, exe) => self.take_look(ticket, seen, exe, now_ns),
            Word::Read(done) => self.take_reading(*done, now_ns),
            Word::Analysed(candidate, program) => {
                if let Some(probing) = &mut self.probing {
                    let (kernel, complaints) = (probing.kernel_mut(), &mut self.complaints);
                    self.starts
                        .attach(&candidate, program, kernel, complaints, now_ns);
                }
            }
            Word::Learned(pid, result) => {
                self.learning = self.learning.saturating_sub(1);
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
        self.find_starts(now_ns);
        let again = |outcome| matches!(outcome, Outcome::Excluded | Outcome::BeyondLimit);
        self.census.look_again(now_ns, again);
    }

    /// Another kernel side takes the place of the one that there is, to which nothing is attached.
    pub fn set_kernel(&mut self, kernel: Option<HostKernel>, is_told: bool) {
        self.probing = kernel.map(Probing::new);
        self.is_told = is_told;
        // What happened in between.
        self.scan_due_ns = 0;
    }

    /// Everything at this moment.
    pub fn view(&mut self, now_ns: u64) -> HostView {
        HostView {
            targets: self.targets.views(),
            starts: self.starts.views(),
            daemon: self.daemon_view(now_ns),
            metrics: self.config.metrics.clone(),
            made: Some(Instant::now()),
        }
    }

    /// Takes all probes away.
    pub fn stop(&mut self) {
        if let Some(mut probing) = self.probing.take() {
            probing.stop();
        }
    }

    fn has_room(&self) -> bool {
        self.targets.len() < self.config.discovery.max_targets as usize
    }

    fn let_go(&mut self, pid: u32, why: &str) {
        if let Some(mut target) = self.targets.remove(pid) {
            self.with_probing(now_ns(), |probing, _, _, with| probing.release(&mut target, with));
            log::debug!("target {pid} ({}) is let go: {why}", target.view().name.comm);
        }
    }

    fn daemon_view(&mut self, now_ns: u64) -> DaemonView {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        if now_ns >= self.fds.0 {
            let open = fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64);
            // One of them is the list's.
            self.fds = (now_ns.saturating_add(FDS_NS), open.saturating_sub(1));
        }
        let mut errors = self.complaints.counts();
        let lines_dropped = stderr::lost();
        if lines_dropped > 0 {
            errors.insert("log_lines_dropped", lines_dropped);
        }
        DaemonView {
            cpu: Duration::new(cpu.tv_sec.unsigned_abs(), u32::try_from(cpu.tv_nsec).unwrap_or(0)),
            resident_bytes: resident_bytes().unwrap_or(0),
            open_fds: self.fds.1,
            max_fds: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            started_at: Some(self.started_at),
            hit_ns: self.probing.as_ref().and_then(Probing::hit_ns),
            errors,
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
