//! What is attached to a target right now, whatever the mode: one door for observations.

use tracer_ebpf::TargetConfig;

use super::prepare::Prepared;
use crate::{
    error::{Error, Result},
    memory::ProcessMemory,
    plan::{Mode, told},
    sources::{
        passive::PassiveSource,
        probes::{Capacity, Cost, LinkKind, ProbeSource, ProgramKind, Request, config_of},
    },
    stream::{BucketScheme, Kind, Observation},
};

/// The sources of one mode.
pub struct Live {
    mode: Mode,
    passive: PassiveSource<ProcessMemory>,
    probes: Option<ProbeSource>,
    /// What a hit costs here.
    pub cost: Option<Cost>,
    sites: usize,
}

impl Live {
    /// Attaches. On return the probes are live, or the first reading is taken.
    ///
    /// # Errors
    /// The mode cannot be had, with the reason.
    pub fn attach(target: &Prepared, mode: Mode, slower_ns: Option<u64>, now_ns: u64) -> Result<Self> {
        let mut passive = target.passive_source();
        let probes = match mode {
            Mode::Passive => {
                passive.observe_waits(now_ns)?;
                None
            }
            Mode::Sampled | Mode::Exact => Some(attach_probes(target, mode, slower_ns)?),
        };
        if target.has_execed() {
            return Err(Error::not_traceable(format!(
                "process {} became another program while gmpscope attached to it; attach again",
                target.pid()
            )));
        }
        let sites = target.sites(mode).map_or(0, <[_]>::len);
        Ok(Self {
            mode,
            passive,
            probes,
            cost: None,
            sites,
        })
    }

    /// How many instructions are probed.
    pub fn sites(&self) -> usize {
        self.sites
    }

    /// How the probes are held; `None` without probes.
    pub fn attached_by(&self) -> Option<&'static str> {
        self.probes.as_ref()?.link_kind().map(LinkKind::name)
    }

    /// Who measures the latencies.
    pub fn measured_by(&self) -> &'static str {
        match &self.probes {
            Some(probes) if !probes.takes_the_runtimes_figure() => "probe",
            _ => "runtime",
        }
    }

    /// How the histograms of this mode count.
    pub fn scheme(&self) -> BucketScheme {
        match self.mode {
            Mode::Passive => self.passive.scheme().unwrap_or(BucketScheme::Go121),
            Mode::Sampled | Mode::Exact => BucketScheme::Kernel,
        }
    }

    /// Finds out what a hit costs on this machine.
    pub fn calibrate(&mut self) {
        if let Some(probes) = &mut self.probes {
            match probes.calibrate() {
                Ok(cost) => self.cost = Some(cost),
                Err(e) => log::warn!("the cost of a hit could not be measured, and is left out: {e}"),
            }
        }
    }

    /// What has come since the last call.
    ///
    /// # Errors
    /// The source yields nothing any more.
    pub fn observe(&mut self, now_ns: u64) -> Result<Vec<Observation>> {
        match &mut self.probes {
            Some(probes) => probes.observe(now_ns),
            None => Ok(self.passive.observe_waits(now_ns)?),
        }
    }

    /// The runtime's gauges.
    pub fn snapshot(&mut self, now_ns: u64) -> Option<Observation> {
        self.passive
            .snapshot(now_ns)
            .inspect_err(|e| log::debug!("no gauges: {e}"))
            .ok()
            .map(|snapshot| Observation {
                at_ns: now_ns,
                kind: Kind::Snapshot(snapshot),
            })
    }

    /// Stops counting; what was counted can still be observed.
    pub fn stop(&mut self) -> Result<()> {
        self.probes.as_mut().map_or(Ok(()), ProbeSource::stop)
    }

    /// Takes everything away.
    pub fn detach(&mut self) {
        if let Some(probes) = &mut self.probes {
            probes.detach();
        }
    }
}

fn attach_probes(target: &Prepared, mode: Mode, slower_ns: Option<u64>) -> Result<ProbeSource> {
    let sites = target
        .sites(mode)
        .map_err(|attempts| Error::not_traceable(format!("{mode} cannot be had: {}", told(attempts))))?;
    let reading = &target.reading;
    let config = TargetConfig {
        slower_ns: slower_ns.unwrap_or(u64::MAX),
        creation_sites: u32::MAX,
        ..config_of(
            reading.layout(),
            reading.tracking_stamp(),
            &reading.globals,
            target.bias(),
        )
    };
    let goroutines = target.goroutines();
    let capacity = match mode {
        Mode::Exact => Capacity::for_one(goroutines.unwrap_or(0)),
        // Nothing is stamped.
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

/// Programs that do nothing in place of the mode's, for `cargo xtask bench hit`: what the traps alone cost.
const EMPTY_PROGRAMS: &str = "GMPSCOPE_EMPTY_PROGRAMS";

fn program_of(mode: Mode) -> ProgramKind {
    if std::env::var_os(EMPTY_PROGRAMS).is_some() {
        log::warn!("{EMPTY_PROGRAMS} is set: the probes do nothing, so no wait is seen");
        return ProgramKind::Empty;
    }
    if mode == Mode::Exact {
        ProgramKind::Exact
    } else {
        ProgramKind::Sampled
    }
}
