//! The sources that are attached to a target right now, behind one interface for all modes.

use tracer_ebpf::{TargetConfig, stacks::StackConfig};

use super::prepare::Prepared;
use crate::{
    bpf::{Capacity, Cost, LinkKind, ProgramKind},
    clock::now_ns,
    error::{Error, Result},
    plan::{Mode, describe_attempts},
    process::memory::ProcessMemory,
    session::options::FullOptions,
    sources::{
        passive::PassiveSource,
        probes::{ProbeSource, Request, config_of},
        programs::program_for,
        transitions::{self, SnapshotReader, StacksWanted, TransitionSource},
    },
    stream::{
        BucketScheme, Kind, Observation,
        step::{AttachedBy, MeasuredBy},
    },
};

/// The sources of one mode.
pub struct Live {
    mode: Mode,
    passive: PassiveSource<ProcessMemory>,
    probes: Option<ProbeSource>,
    full: Option<Full>,
    /// What a hit costs on this machine, once it was measured.
    pub cost: Option<Cost>,
    sites: usize,
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
        match mode {
            Mode::Passive => {
                passive.observe_waits(now_ns)?;
            }
            Mode::Sampled | Mode::Exact => probes = Some(attach_probes(target, mode, slower_ns)?),
            Mode::Full => full = Some(Full::attach(target, options)?),
        }
        let sites = match &full {
            Some(full) => full.sites,
            None => target.sites(mode).map_or(0, <[_]>::len),
        };
        Ok(Self {
            mode,
            passive,
            probes,
            cost: full.as_ref().and_then(|full| full.source.cost()),
            full,
            sites,
        })
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
        match (&mut self.probes, &mut self.full) {
            (_, Some(full)) => full.source.observe(now_ns),
            (Some(probes), None) => probes.observe(now_ns),
            (None, None) => Ok(self.passive.observe_waits(now_ns)?),
        }
    }

    /// Returns remarks for a reader of the figures.
    pub fn notes(&self) -> Vec<String> {
        self.full.as_ref().map(Full::notes).unwrap_or_default()
    }

    /// Whether transitions were lost, so that every state has to be read anew.
    pub fn needs_snapshot(&mut self, now_ns: u64) -> bool {
        self.full
            .as_mut()
            .is_some_and(|full| full.source.needs_snapshot(now_ns))
    }

    /// Reads the runtime's gauges. In `full`, it also reads every goroutine, P and M; those come with the transitions.
    pub fn snapshot(&mut self, now_ns: u64) -> Option<Observation> {
        let gauges = self.passive.snapshot(now_ns);
        // After the gauges, which are those of `now_ns`: the first of these readings waits.
        if let Some(full) = &mut self.full {
            full.read_states();
        }
        gauges
            .inspect_err(|e| log::debug!("no gauges: {e}"))
            .ok()
            .map(|snapshot| Observation {
                at_ns: now_ns,
                kind: Kind::Snapshot(snapshot),
            })
    }

    /// Stops counting; what was counted can still be observed.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(full) = &mut self.full {
            // Read while transitions still come: a later state would not match the last of them.
            full.read_states();
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
    snapshots: SnapshotReader<ProcessMemory>,
    sites: usize,
    missing: Vec<String>,
}

impl Full {
    fn attach(target: &Prepared, options: FullOptions) -> Result<Self> {
        let refuse = |why: String| Error::not_traceable(format!("full cannot be had: {why}"));
        let plan = target
            .reading
            .plan
            .full
            .as_ref()
            .map_err(|attempts| refuse(describe_attempts(attempts)))?;
        let unknown = || refuse("the layout of the runtime's structs is not known".to_owned());
        let layout = target.reading.layout().ok_or_else(unknown)?;
        let snapshots = target.snapshot_reader().ok_or_else(unknown)?;
        let mut sites = plan.sites.clone();
        if options.syscalls {
            sites.extend(plan.syscalls.iter().cloned());
        }
        let source = TransitionSource::attach(&transitions::Request {
            pid: target.pid(),
            file: target.file(),
            sites: &sites,
            bias: target.bias(),
            config: config(target, None),
            g_waitreason: layout.g.waitreason,
            g_coroarg: layout.g.coroarg,
            syscalls: options.syscalls,
            threads: options.threads,
            ring_bytes: options.ring_bytes,
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
        })?;
        Ok(Self {
            source,
            snapshots,
            sites: sites.len(),
            missing: plan
                .missing
                .iter()
                .map(|attempt| format!("not seen: {}: {}", attempt.what, attempt.outcome))
                .collect(),
        })
    }

    /// Reads every goroutine, P and M, unless the transitions have stopped; waits until the probes have settled.
    fn read_states(&mut self) {
        if self.source.is_stopped() {
            return;
        }
        self.source.settle();
        match self.snapshots.read(now_ns) {
            Ok(snapshot) => self.source.apply_snapshot(snapshot),
            Err(e) => log::debug!("the scheduler's state was not read: {e}"),
        }
    }

    fn notes(&self) -> Vec<String> {
        let threads = self.source.without_threads();
        let threads = threads.map(|why| format!("Linux's scheduling of the threads is not reported: {why}"));
        self.missing.iter().cloned().chain(threads).collect()
    }
}

fn attach_probes(target: &Prepared, mode: Mode, slower_ns: Option<u64>) -> Result<ProbeSource> {
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
    ProbeSource::attach(&request, capacity)
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
