//! The sources that are attached to a target right now, behind one interface for all modes.

use std::time::{Duration, Instant};

use tracer_ebpf::{TargetConfig, stacks::StackConfig};

use super::{
    plugins::{OpenPlugin, Plugins},
    prepare::Prepared,
    watch::Watch,
};
use crate::{
    bpf::{Capacity, Cost, LinkKind, ProgramKind, default_ring_bytes},
    clock::now_ns,
    error::{Error, Result},
    plan::{Mode, describe_attempts},
    process::memory::ProcessMemory,
    session::options::FullOptions,
    sources::{
        passive::PassiveSource,
        plugins::{MOST_PLUGINS, PluginRequest},
        probes::{ProbeSource, Request, config_of},
        programs::program_for,
        transitions::{self, Readings, StacksWanted, TransitionSource},
    },
    stream::{
        BucketScheme, Kind, Observation,
        plugin::PluginsSeen,
        step::{AttachedBy, MeasuredBy},
    },
};

/// How long the loop waits for a reading of all states that was just begun: one of few goroutines is there at once.
const WAIT_FOR_STATES: Duration = Duration::from_millis(10);
/// How long the window stays open for the last reading. It gives new goroutines their ids; what has not been read by then
/// is left out.
const WAIT_FOR_LAST_STATES: Duration = Duration::from_millis(100);
/// How often transitions are collected meanwhile.
const COLLECT_EVERY: Duration = Duration::from_millis(5);
/// Parts of a reading that are taken in at once: each has some thousand goroutines, and the rings fill up meanwhile.
const PARTS_AT_ONCE: usize = 2;

/// The sources of one mode.
pub struct Live {
    mode: Mode,
    passive: PassiveSource<ProcessMemory>,
    probes: Option<ProbeSource>,
    full: Option<Full>,
    /// The plugins of the target, if it can load any and is probed.
    plugins: Option<Plugins>,
    /// What a hit costs on this machine, once it was measured.
    pub cost: Option<Cost>,
    sites: usize,
    watch: Watch,
    /// What was not over when the window closed, until it is observed.
    ongoing: Option<Observation>,
}

impl Live {
    /// Attaches. On return the probes are live, or the first reading is taken.
    ///
    /// # Errors
    /// The mode is not possible; where the process has ended or executed another program, the error says that.
    pub fn attach(
        target: &Prepared,
        mode: Mode,
        slower_ns: Option<u64>,
        options: FullOptions,
        now_ns: u64,
    ) -> Result<Self> {
        let live =
            Self::attach_to(target, mode, slower_ns, options, now_ns).map_err(|e| target.explain(e))?;
        if target.has_execed() {
            target.unchanged()?;
        }
        Ok(live)
    }

    fn attach_to(
        target: &Prepared,
        mode: Mode,
        slower_ns: Option<u64>,
        options: FullOptions,
        now_ns: u64,
    ) -> Result<Self> {
        let mut passive = target.passive_source();
        let (mut probes, mut full) = (None, None);
        let (mut plugins, opened) = match mode.has_probes() && target.loads_plugins() {
            true => {
                let (plugins, opened) = Plugins::open(target, mode, options.syscalls);
                (Some(plugins), opened)
            }
            false => (None, Vec::new()),
        };
        let requests: Vec<PluginRequest<'_>> = opened.iter().filter_map(OpenPlugin::request).collect();
        let mut attached = Vec::new();
        match mode {
            Mode::Passive => {
                passive.observe_waits(now_ns)?;
            }
            Mode::Sampled | Mode::Exact => {
                let (source, outcomes) = attach_probes(target, mode, slower_ns, &requests)?;
                (probes, attached) = (Some(source), outcomes);
            }
            Mode::Full => {
                let (source, outcomes) = Full::attach(target, options, &requests)?;
                (full, attached) = (Some(source), outcomes);
            }
        }
        let mut sites = match &full {
            Some(full) => full.sites,
            None => target.sites(mode).map_or(0, <[_]>::len),
        };
        if let Some(plugins) = &mut plugins {
            let mut attached = attached.into_iter();
            for plugin in &opened {
                // One outcome for each that was requested.
                let outcome = plugin.request().and_then(|_| attached.next()).unwrap_or(Ok(()));
                sites += plugins.add(plugin, outcome, None);
            }
        }
        Ok(Self {
            mode,
            passive,
            probes,
            cost: full.as_ref().and_then(|full| full.source.cost()),
            full,
            plugins,
            sites,
            watch: Watch::new(mode),
            ongoing: None,
        })
    }

    /// Returns since when the probes count, CLOCK_MONOTONIC; `None` without probes. What they count is of the time from
    /// then on: it is the begin of the window, so that a figure never covers more time than the window has.
    pub fn live_ns(&self) -> Option<u64> {
        let full = self.full.as_ref().map(|full| full.source.live_ns());
        full.or_else(|| self.probes.as_ref().map(ProbeSource::live_ns))
    }

    /// Returns what it means that the thread that the probes are bound to has ended, if it has, and the process has not:
    /// the sentence, and whether hits were lost by that.
    pub fn unbound(&self) -> Option<(String, bool)> {
        let ended = match &self.full {
            Some(full) => full.source.thread_ended(),
            None => self.probes.as_ref()?.thread_ended(),
        }?;
        let consequence = match ended.is_lost {
            true => "what happened since was not seen. Attach again: another thread is taken then",
            false => "this kernel's probes go on without it",
        };
        let thread = ended.thread;
        Some((
            format!(
                "the thread {thread}, which the probes were bound to, ended during the capture: {consequence}"
            ),
            ended.is_lost,
        ))
    }

    /// Returns how many instructions are probed.
    pub fn sites(&self) -> usize {
        self.sites
    }

    /// Returns how the kernel has attached the probes; `None` without probes.
    pub fn attached_by(&self) -> Option<AttachedBy> {
        self.link_kind().map(attached_by)
    }

    /// Whether the kernel is slow to remove the probes.
    pub fn is_slow_to_detach(&self) -> bool {
        self.link_kind() == Some(LinkKind::PerfEvents)
    }

    fn link_kind(&self) -> Option<LinkKind> {
        match &self.full {
            Some(full) => full.source.link_kind(),
            None => self.probes.as_ref()?.link_kind(),
        }
    }

    /// Returns who measures the latencies.
    pub fn measured_by(&self) -> MeasuredBy {
        match &self.probes {
            _ if self.full.is_some() => MeasuredBy::Probe,
            Some(probes) if !probes.takes_the_runtimes_figure() => MeasuredBy::Probe,
            _ => MeasuredBy::Runtime,
        }
    }

    /// Returns the buckets of this mode's histograms.
    pub fn scheme(&self) -> BucketScheme {
        match self.mode {
            Mode::Passive => self.passive.scheme().unwrap_or(BucketScheme::Go121),
            Mode::Sampled | Mode::Exact | Mode::Full => BucketScheme::Kernel,
        }
    }

    /// Measures what a hit costs on this machine.
    pub fn calibrate(&mut self) {
        if let Some(probes) = &mut self.probes {
            match probes.calibrate() {
                Ok(cost) => self.cost = Some(cost),
                Err(e) => log::warn!("the cost of a hit could not be measured, and is left out: {e}"),
            }
        }
    }

    /// Returns what was observed since the last call.
    ///
    /// # Errors
    /// The source failed.
    pub fn observe(&mut self, now_ns: u64) -> Result<Vec<Observation>> {
        self.watch.look(&self.passive, now_ns);
        let mut seen = match (&mut self.probes, &mut self.full) {
            (_, Some(full)) => {
                full.take_states(Duration::ZERO);
                full.source.observe(now_ns)?
            }
            (Some(probes), None) => probes.observe(now_ns)?,
            (None, None) => self.passive.observe_waits(now_ns)?,
        };
        seen.extend(self.ongoing.take());
        Ok(seen)
    }

    /// Returns remarks for a reader of the figures.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.full.as_ref().map(Full::notes).unwrap_or_default();
        notes.extend(self.plugins.iter().flat_map(Plugins::missing).cloned());
        notes
    }

    /// Returns the plugins of the target, if there is something to say of them.
    pub fn plugins(&self) -> Option<&PluginsSeen> {
        let seen = self.plugins.as_ref()?.seen();
        (!seen.is_empty()).then_some(seen)
    }

    /// Attaches to the plugins that the target has loaded since the last look, if that was long enough ago.
    pub fn follow_plugins(&mut self, target: &Prepared, now_ns: u64) {
        let Some(plugins) = self.plugins.as_mut().filter(|plugins| plugins.are_due(now_ns)) else {
            return;
        };
        let (since_ns, opened) = plugins.look(target);
        if opened.is_empty() {
            return;
        }
        for plugin in &opened {
            let attached = match (plugin.request(), &mut self.probes, &mut self.full) {
                (Some(request), _, Some(full)) => full.source.attach_plugin(&request),
                (Some(request), Some(probes), None) => probes.attach_plugin(&request),
                (Some(_), None, None) | (None, _, _) => Ok(()),
            };
            self.sites += plugins.add(plugin, attached, Some(since_ns));
        }
        if let Some(full) = &mut self.full {
            // What happened in them before was not seen.
            full.read_states_anew(now_ns);
        }
    }

    /// Looks for plugins for the last time, at the end of the window.
    pub fn look_for_plugins_at_the_end(&mut self, target: &Prepared) {
        if let Some(plugins) = &mut self.plugins {
            plugins.look_last(target);
        }
    }

    /// Whether transitions were lost, so that every state has to be read anew.
    pub fn needs_snapshot(&self, now_ns: u64) -> bool {
        self.full.as_ref().is_some_and(|full| full.needs_states(now_ns))
    }

    /// Reads the runtime's gauges. In `full`, it also has every goroutine, P and M read, unless that was done just now;
    /// those come with the transitions.
    pub fn snapshot(&mut self, now_ns: u64) -> Option<Observation> {
        self.watch.look(&self.passive, now_ns);
        // The gauges first: they are compared with the events since `now_ns`, and reading the states may take long.
        let gauges = self
            .passive
            .snapshot(now_ns)
            .inspect_err(|e| log::debug!("no gauges: {e}"));
        if let Some(full) = &mut self.full {
            full.read_states(now_ns);
        }
        gauges.ok().map(|snapshot| Observation {
            at_ns: now_ns,
            kind: Kind::Snapshot(snapshot),
        })
    }

    /// Stops counting; what was counted can still be observed, and with it what is not over.
    pub fn stop(&mut self) -> Result<()> {
        let look = self.watch.look_last(&self.passive);
        self.switch_off()?;
        let stamps = match &mut self.probes {
            Some(probes) => probes.stamps(&look.gs())?,
            None => None,
        };
        self.ongoing = self.watch.ongoing(look, stamps.as_ref());
        Ok(())
    }

    /// Forgets what was not over: it was read from the memory of another program.
    pub fn forget_ongoing(&mut self) {
        self.ongoing = None;
    }

    fn switch_off(&mut self) -> Result<()> {
        if let Some(full) = &mut self.full {
            // Read while transitions still come: a later state would not match the last of them.
            if let Err(e) = full.read_last_states() {
                log::warn!("{e}");
            }
            full.source.stop()?;
        }
        self.probes.as_mut().map_or(Ok(()), ProbeSource::stop)
    }

    /// Removes all that is attached.
    pub fn detach(&mut self) {
        if let Some(probes) = &mut self.probes {
            probes.detach();
        }
        if let Some(full) = &mut self.full {
            full.source.detach();
        }
    }
}

/// Converts a kind of link to what a document says of it.
pub(in crate::session) fn attached_by(kind: LinkKind) -> AttachedBy {
    match kind {
        LinkKind::Multi => AttachedBy::UprobeMulti,
        LinkKind::PerfEvents => AttachedBy::PerfEvents,
    }
}

/// The sources of `full`: transitions from the kernel's ring, and states that are read from memory.
struct Full {
    source: TransitionSource,
    readings: Readings,
    sites: usize,
    missing: Vec<String>,
}

impl Full {
    fn attach(
        target: &Prepared,
        options: FullOptions,
        plugins: &[PluginRequest<'_>],
    ) -> Result<(Self, Vec<Result<()>>)> {
        let refuse = |why: String| Error::not_traceable(format!("full cannot be had: {why}"));
        let plan = target
            .reading
            .plan
            .full
            .as_ref()
            .map_err(|attempts| refuse(describe_attempts(attempts)))?;
        let unknown = || refuse("the layout of the runtime's structs is not known".to_owned());
        let layout = target.reading.layout().ok_or_else(unknown)?;
        let readings = Readings::start(target.snapshot_reader().ok_or_else(unknown)?)?;
        let mut sites = plan.sites.clone();
        if options.syscalls {
            sites.extend(plan.syscalls.iter().cloned());
        }
        let request = transitions::Request {
            pid: target.pid(),
            file: target.file(),
            sites: &sites,
            bias: target.bias(),
            config: config(target, None),
            g_waitreason: layout.g.waitreason,
            g_coroarg: layout.g.coroarg,
            syscalls: options.syscalls,
            threads: options.threads,
            ring_bytes: options.ring_bytes.unwrap_or_else(default_ring_bytes),
            program: program_of(Mode::Full),
            stacks: options.stacks.map(|most| StacksWanted {
                most,
                config: StackConfig {
                    g_stack_hi: layout.g.stack_hi,
                    g_sched_pc: layout.g.sched_pc,
                    g_sched_bp: layout.g.sched_bp,
                    reserved: 0,
                },
            }),
        };
        let (source, attached) = TransitionSource::attach(&request, plugins, most_plugins(target))?;
        let full = Self {
            source,
            readings,
            sites: sites.len(),
            missing: plan
                .missing
                .iter()
                .map(|attempt| format!("not seen: {}: {}", attempt.what, attempt.outcome))
                .collect(),
        };
        Ok((full, attached))
    }

    /// Whether something was lost, so that every state has to be read anew.
    fn needs_states(&self, now_ns: u64) -> bool {
        !self.source.is_stopped() && self.readings.are_needed(now_ns, self.source.lost_ns())
    }

    /// Has every goroutine, P and M read, unless the transitions have stopped or it is too soon; waits until the probes
    /// have settled.
    fn read_states(&mut self, now_ns: u64) {
        if self.source.is_stopped() {
            return;
        }
        self.source.settle();
        if self.readings.begin(now_ns, self.source.lost_ns()) {
            self.take_states(WAIT_FOR_STATES);
        }
    }

    /// Has all states read anew, since something happened that was not seen: at once or, if a reading is under way, when
    /// it is the turn of the next.
    fn read_states_anew(&mut self, now_ns: u64) {
        if self.source.is_stopped() {
            return;
        }
        if self.readings.is_under_way() {
            self.source.record_unseen(now_ns);
            return;
        }
        self.readings.begin_at_once(now_ns);
        self.take_states(WAIT_FOR_STATES);
    }

    /// Takes in what has been read, and what is read within this time; nothing once the transitions have stopped.
    fn take_states(&mut self, within: Duration) {
        if self.source.is_stopped() {
            return;
        }
        let until = Instant::now() + within;
        for _ in 0..PARTS_AT_ONCE {
            let left = until.saturating_duration_since(Instant::now());
            let Some(part) = self.readings.take(left, self.source.lost_ns()) else {
                return;
            };
            self.source.apply_snapshot(part);
        }
    }

    /// Has all states read a last time, and collects transitions meanwhile.
    ///
    /// # Errors
    /// The transitions cannot be read.
    fn read_last_states(&mut self) -> Result<()> {
        let until = Instant::now() + WAIT_FOR_LAST_STATES;
        self.readings.begin_at_once(now_ns());
        while self.readings.is_under_way() && Instant::now() < until {
            self.take_states(COLLECT_EVERY);
            self.source.collect(now_ns())?;
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        let threads = self.source.without_threads();
        let threads = threads.map(|why| format!("Linux's scheduling of the threads is not reported: {why}"));
        self.missing.iter().cloned().chain(threads).collect()
    }
}

/// Returns how many plugins there is to be room for: the target may load more at any time.
fn most_plugins(target: &Prepared) -> u32 {
    if target.loads_plugins() { MOST_PLUGINS } else { 0 }
}

fn attach_probes(
    target: &Prepared,
    mode: Mode,
    slower_ns: Option<u64>,
    plugins: &[PluginRequest<'_>],
) -> Result<(ProbeSource, Vec<Result<()>>)> {
    let sites = target.sites(mode).map_err(|attempts| {
        Error::not_traceable(format!("{mode} cannot be had: {}", describe_attempts(attempts)))
    })?;
    let config = config(target, slower_ns);
    let goroutines = target.goroutines();
    let capacity = match mode {
        Mode::Exact => Capacity::for_one(goroutines.unwrap_or(0)),
        // Its programs keep no stamps.
        _ => Capacity::ONE,
    };
    let request = Request {
        pid: target.pid(),
        file: target.file(),
        program: program_of(mode),
        sites,
        bias: target.bias(),
        config,
        goroutines: goroutines.unwrap_or(u64::MAX),
    };
    ProbeSource::attach(&request, plugins, capacity.with_plugins(most_plugins(target)))
}

/// Returns what the programs must know of a target.
fn config(target: &Prepared, slower_ns: Option<u64>) -> TargetConfig {
    let reading = &target.reading;
    TargetConfig {
        slower_ns: slower_ns.unwrap_or(u64::MAX),
        creation_sites: u32::MAX,
        ..config_of(
            reading.layout(),
            reading.tracking_stamp(),
            &reading.globals,
            target.bias(),
            // Where it is not known, no program needs it: see `Prepared::offers`.
            target.clock().unwrap_or_default(),
        )
    }
}

/// The environment variable that replaces the mode's programs by ones that do nothing: `cargo xtask bench hit` measures
/// the cost of the traps alone by it.
const EMPTY_PROGRAMS: &str = "GMPSCOPE_EMPTY_PROGRAMS";

fn program_of(mode: Mode) -> ProgramKind {
    if std::env::var_os(EMPTY_PROGRAMS).is_some() {
        log::warn!("{EMPTY_PROGRAMS} is set: the probes do nothing, so no wait is seen");
        return ProgramKind::Empty;
    }
    program_for(mode)
}
