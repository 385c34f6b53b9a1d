//! The host as the daemon knows it. Events and results come in, and the host does what follows from them.
//!
//! Nothing here waits, since one loop serves everything. What may take long (scans, inspections, readings) is done on
//! other threads, and its result comes back as a [`Message`].

mod background;
mod reading;

use std::{
    collections::BTreeMap,
    fs,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    config::{Config, Tier},
    discovery::{
        census::{Census, Outcome},
        in_flight::InFlight,
        programs::Programs,
    },
    error_log::ErrorLog,
    message::Message,
    probing::{Context, Probing},
    reader::Reader,
    starts::TimedStarts,
    targets::Targets,
    view::{DaemonView, HostView},
};
use crate::{
    clock::now_ns,
    error::{Error, Result},
    process::Hierarchies,
    sources::host::{HostKernel, ProcessEvent},
    writing::stderr,
};

/// How many processes are inspected at once. Decoding a large binary takes 70 ms of a CPU.
const INSPECTIONS_AT_ONCE: usize = 2;
/// How often the kernel's events about processes are read.
const EVENTS_NS: u64 = 250_000_000;
/// How often new processes are looked for without the kernel's events.
const PIDS_NS: u64 = 1_000_000_000;
/// How often open files are counted.
const FDS_NS: u64 = 10_000_000_000;
/// Most processes of which it is kept why they could not be examined: without privilege, that may be all of them.
const MOST_UNREADABLE: usize = 1024;

/// The processes of the host, and what the daemon knows of them.
pub struct Host {
    config: Arc<Config>,
    census: Census,
    in_flight: InFlight,
    /// How many threads are looking up names.
    resolving: usize,
    targets: Targets,
    programs: Arc<Programs>,
    reader: Reader,
    hierarchies: Hierarchies,
    /// The kernel side: probes and events; `None` if it could not be loaded.
    probing: Option<Probing>,
    /// Whether the kernel reports execs and exits.
    has_process_events: bool,
    starts: TimedStarts,
    errors: ErrorLog,
    /// Why processes could not be examined, by PID.
    unreadable: Arc<BTreeMap<u32, String>>,
    lost_process_events: u64,
    started_at: jiff::Timestamp,
    messages: UnboundedSender<Message>,
    is_scanning: bool,
    scanned_once: bool,
    scan_due_ns: u64,
    pids_due_ns: u64,
    events_due_ns: u64,
    /// When open files are counted next, and how many there were.
    fds: (u64, u64),
}

impl Host {
    /// Creates a host of which nothing is known yet. Other threads send their results to `messages`.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn new(
        config: Arc<Config>,
        kernel: Option<HostKernel>,
        has_process_events: bool,
        messages: UnboundedSender<Message>,
    ) -> Result<Self> {
        let targets = Targets::new(config.tier.passive_interval)
            .map_err(|e| Error::failed(format!("processes cannot be waited for (epoll): {e}")))?;
        Ok(Self {
            census: Census::new(nanos(config.discovery.settle), INSPECTIONS_AT_ONCE),
            in_flight: InFlight::default(),
            resolving: 0,
            targets,
            programs: Arc::default(),
            reader: Reader::new(messages.clone()),
            hierarchies: Hierarchies::mounted(),
            probing: kernel.map(Probing::new),
            has_process_events,
            starts: TimedStarts::default(),
            errors: ErrorLog::default(),
            unreadable: Arc::default(),
            lost_process_events: 0,
            started_at: jiff::Timestamp::now(),
            messages,
            is_scanning: false,
            scanned_once: false,
            scan_due_ns: 0,
            pids_due_ns: u64::MAX,
            events_due_ns: 0,
            fds: (0, 0),
            config,
        })
    }

    /// Whether all processes were listed at least once.
    pub fn has_scanned(&self) -> bool {
        self.scanned_once
    }

    /// How many processes are watched or shown.
    pub fn targets(&self) -> usize {
        self.targets.len()
    }

    /// Whether a target was added or removed since the last call.
    pub fn take_changed(&mut self) -> bool {
        self.targets.take_changed()
    }

    /// Readable when a watched process has ended.
    pub fn exits_fd(&self) -> BorrowedFd<'_> {
        self.targets.exits_fd()
    }

    /// Readable when many events are waiting.
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
            self.in_flight.next_due(),
            self.targets.next_due(),
        ]
        .into_iter()
        .flatten();
        due.fold(scan.min(events), u64::min)
    }

    /// Does what is due.
    pub fn tick(&mut self, now_ns: u64) {
        if self.probing.is_some() && now_ns >= self.events_due_ns {
            self.read_events(now_ns);
        }
        if !self.is_scanning && now_ns >= self.scan_due_ns {
            self.scan(now_ns);
        }
        if !self.is_scanning && now_ns >= self.pids_due_ns {
            self.find_new(now_ns);
        }
        self.give_up_inspections(now_ns);
        for ticket in self.census.due(now_ns) {
            self.begin_inspection(ticket, now_ns);
        }
        self.read_targets(now_ns);
        self.with_probing(now_ns, |probing, config, targets, cx| {
            probing.tick(config, targets, cx);
        });
        self.sample_targets(now_ns);
        if let Some(probing) = &mut self.probing {
            self.starts.read(probing.kernel_mut(), &mut self.errors, now_ns);
        }
    }

    /// Calls `act` with the probes, and begins the readings and look-ups that it asks for.
    fn with_probing(
        &mut self,
        now_ns: u64,
        act: impl FnOnce(&mut Probing, &Config, &mut Targets, &mut Context<'_>),
    ) {
        let Some(probing) = &mut self.probing else { return };
        let (mut unresolved, mut jobs, mut unbound) = (Vec::new(), Vec::new(), Vec::new());
        let mut cx = Context {
            errors: &mut self.errors,
            unresolved: &mut unresolved,
            jobs: &mut jobs,
            unbound: &mut unbound,
            now_ns,
        };
        act(probing, &self.config, &mut self.targets, &mut cx);
        for sites in unresolved {
            self.resolve_names(sites);
        }
        self.reader.read(jobs);
        for pid in unbound {
            // As after an execve, but its first thread has ended: it is found again, and probed through another one.
            if self.census.exec(pid, now_ns) {
                self.remove_target(pid, "the thread has ended that its probes were bound to");
            }
        }
    }

    /// Reads the kernel's events, and applies them.
    pub fn read_events(&mut self, now_ns: u64) {
        // At the times at which targets are read, since waking up costs more than this.
        self.events_due_ns = (now_ns.saturating_add(1)).next_multiple_of(EVENTS_NS);
        let Some(probing) = &mut self.probing else { return };
        let events = match probing.kernel_mut().take_events() {
            Ok(events) => events,
            Err(e) => return self.errors.add("kernel", &e, now_ns),
        };
        for event in &events.processes {
            match *event {
                ProcessEvent::Exec { pid, at_ns } => {
                    self.forget_unreadable(pid);
                    if self.census.exec(pid, at_ns) {
                        self.remove_target(pid, "it runs another program");
                    }
                }
                ProcessEvent::Exit { pid, at_ns } => {
                    if self.census.exit(pid, at_ns) {
                        self.remove_target(pid, "it has ended");
                    }
                }
            }
        }
        if events.lost > 0 {
            self.lost_process_events = self.lost_process_events.saturating_add(events.lost);
            self.scan_due_ns = now_ns;
        }
        if !events.capped.is_empty() {
            self.with_probing(now_ns, |probing, _, targets, cx| {
                probing.capped(&events, targets, cx);
            });
        }
    }

    /// Removes the targets whose processes have ended.
    pub fn handle_exits(&mut self, now_ns: u64) {
        // Readiness is reported once, so all exits are handled.
        loop {
            let ended = match self.targets.ended() {
                Ok(ended) => ended,
                Err(e) => return self.errors.add("wait", &e, now_ns),
            };
            let before = self.targets.len();
            for pid in ended {
                self.census.exit(pid, now_ns);
                self.remove_target(pid, "it has ended");
            }
            if self.targets.len() == before {
                return;
            }
        }
    }

    /// Applies the result of work that was done on another thread.
    pub fn handle_message(&mut self, message: Message, now_ns: u64) {
        match message {
            Message::Scanned(began_ns, all) => self.handle_scan(began_ns, all, now_ns),
            Message::Inspected(ticket, inspected, exe) => {
                self.handle_inspection(ticket, inspected, exe, now_ns);
            }
            Message::Read(done) => self.handle_reading(*done, now_ns),
            Message::Analysed(candidate, program) => {
                if let Some(probing) = &mut self.probing {
                    let (kernel, errors) = (probing.kernel_mut(), &mut self.errors);
                    self.starts.attach(&candidate, program, kernel, errors, now_ns);
                }
            }
            Message::NamesResolved(pid, result) => {
                self.resolving = self.resolving.saturating_sub(1);
                if let Err(e) = result {
                    self.errors.add("names", &e, now_ns);
                }
                if let Some(target) = self.targets.get_mut(pid) {
                    target.names_resolved();
                }
            }
        }
    }

    /// Applies a new configuration.
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
            self.census.set_outcome(pid, Outcome::Excluded);
            self.remove_target(pid, "a rule leaves it alone now");
        }
        self.with_probing(now_ns, |probing, config, targets, cx| {
            probing.reconfigure(config, targets, cx);
        });
        self.find_starts(now_ns);
        let again = |outcome| matches!(outcome, Outcome::Excluded | Outcome::BeyondLimit);
        self.census.inspect_again(now_ns, again);
    }

    /// Replaces the kernel side, in which nothing must be attached.
    pub fn set_kernel(&mut self, kernel: Option<HostKernel>, has_process_events: bool) {
        self.probing = kernel.map(Probing::new);
        self.has_process_events = has_process_events;
        // Events between the two are lost, so /proc is scanned.
        self.scan_due_ns = 0;
    }

    /// Takes a snapshot of what is known.
    pub fn view(&mut self, now_ns: u64) -> HostView {
        HostView {
            targets: self.targets.views(),
            starts: self.starts.views(),
            daemon: self.daemon_view(now_ns),
            metrics: self.config.metrics.clone(),
            made: Some(Instant::now()),
        }
    }

    /// Removes all probes.
    pub fn stop(&mut self) {
        if let Some(mut probing) = self.probing.take() {
            probing.stop();
        }
    }

    /// Keeps why a process could not be examined.
    fn keep_unreadable(&mut self, pid: u32, why: &Error) {
        if self.unreadable.len() < MOST_UNREADABLE || self.unreadable.contains_key(&pid) {
            Arc::make_mut(&mut self.unreadable).insert(pid, why.to_string());
        }
    }

    fn forget_unreadable(&mut self, pid: u32) {
        if self.unreadable.contains_key(&pid) {
            Arc::make_mut(&mut self.unreadable).remove(&pid);
        }
    }

    /// Forgets the processes that have ended, or were examined since.
    fn sweep_unreadable(&mut self) {
        let census = &self.census;
        if self.unreadable.keys().any(|pid| !census.is_unexamined(*pid)) {
            Arc::make_mut(&mut self.unreadable).retain(|pid, _| census.is_unexamined(*pid));
        }
    }

    fn has_room(&self) -> bool {
        self.targets.len() < self.config.discovery.max_targets as usize
    }

    /// Removes a target, and its probes.
    fn remove_target(&mut self, pid: u32, why: &str) {
        if let Some(mut target) = self.targets.remove(pid) {
            self.with_probing(now_ns(), |probing, _, _, cx| probing.release(&mut target, cx));
            log::debug!(
                "target {pid} ({}) is no longer watched: {why}",
                target.view().name.comm
            );
        }
    }

    fn daemon_view(&mut self, now_ns: u64) -> DaemonView {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        if now_ns >= self.fds.0 {
            let open = fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64);
            // One of them is that of the directory itself.
            self.fds = (now_ns.saturating_add(FDS_NS), open.saturating_sub(1));
        }
        self.sweep_unreadable();
        let mut errors = self.errors.counts();
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
            unreadable: Arc::clone(&self.unreadable),
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
