//! The sources that are attached to a target right now, behind one interface for all modes.

use super::{
    full::Full,
    plugins::{OpenPlugin, Plugins},
    prepare::Prepared,
    programs::{config, most_plugins, program_of},
    sampling,
    watch::Watch,
};
use crate::{
    bpf::{Capacity, Cost, LinkKind},
    error::{Error, Result},
    plan::{Mode, cost, describe_attempts},
    process::memory::ProcessMemory,
    session::options::FullOptions,
    sources::{
        causes::Sampling,
        passive::PassiveSource,
        plugins::PluginRequest,
        probes::{ProbeSource, Request},
    },
    stream::{
        BucketScheme, Kind, Observation,
        plugin::PluginsSeen,
        step::{AttachedBy, MeasuredBy},
    },
};
use std::time::Duration;

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
    /// How many times as much as calibration's a hit costs, [low, high]: more than 1 where the kernel single-steps an
    /// instruction (`--force`).
    hit_factor: [u64; 2],
    watch: Watch,
    /// Samples of why goroutines wait, where they are taken.
    sampling: Option<Sampling>,
    /// Why samples were not taken to the end of the window, if so.
    unsampled: Option<String>,
    /// What was not over when the window closed and the last samples, until they are observed.
    last: Vec<Observation>,
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
        let hit_factor = match &full {
            Some(full) => full.hit_factor,
            None => cost::hit_ns(target.sites(mode).unwrap_or_default(), Some([1, 1])),
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
            hit_factor,
            watch: Watch::new(mode),
            sampling: None,
            unsampled: None,
            last: Vec::new(),
        })
    }

    /// Starts to take samples of why goroutines wait, `asked` for a second, if this mode does or is asked to.
    pub fn start_sampling(&mut self, target: &Prepared, asked: Option<u32>) {
        self.sampling = sampling::start(target, self.mode, asked);
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

    /// Returns what a hit costs on this machine, [low, high] in nanoseconds, once it was measured.
    pub fn hit_ns(&self) -> Option<[u64; 2]> {
        let [low, high] = self.cost?.hit_ns;
        let [low_factor, high_factor] = self.hit_factor;
        Some([low.saturating_mul(low_factor), high.saturating_mul(high_factor)])
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

    /// Calls `act` with the reader of the target's memory, if the target is probed.
    pub fn if_probed(&self, act: impl FnOnce(&PassiveSource<ProcessMemory>)) {
        if self.mode.has_probes() {
            act(&self.passive);
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
        seen.extend(self.sampling.iter().flat_map(Sampling::take));
        seen.append(&mut self.last);
        Ok(seen)
    }

    /// Returns remarks for a reader of the figures.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.full.as_ref().map(Full::notes).unwrap_or_default();
        notes.extend(self.plugins.iter().flat_map(Plugins::missing).cloned());
        notes.extend(self.unsampled.clone());
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
            kind: Kind::Snapshot(Box::new(snapshot)),
        })
    }

    /// Stops counting; what was counted can still be observed, and with it what is not over.
    pub fn stop(&mut self) -> Result<()> {
        let look = self.watch.look_last(&self.passive);
        if let Some(mut sampling) = self.sampling.take() {
            self.last = sampling.finish();
            self.unsampled = sampling::remark(&sampling);
        }
        self.switch_off()?;
        let stamps = match &mut self.probes {
            Some(probes) => probes.stamps(&look.gs())?,
            None => None,
        };
        self.last.extend(self.watch.ongoing(look, stamps.as_ref()));
        Ok(())
    }

    /// Forgets what was not over and the last samples: they were read from the memory of another program.
    pub fn forget_last(&mut self) {
        (self.last, self.unsampled) = (Vec::new(), None);
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
