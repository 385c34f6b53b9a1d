//! The modes that attach: `exact` and `sampled`. The kernel aggregates; this reads its tables and yields
//! what has come since the last reading.

pub mod attach;
pub mod calibrate;
pub mod kernel;
pub(in crate::sources) mod maps;
pub mod multi;
mod raw;
mod tables;

use std::fs::File;

use aya::maps::{MapData, RingBuf};
use tracer_ebpf::{Counters, SiteKind, TargetConfig};

pub use self::{
    attach::{LinkKind, ProgramKind, Scope},
    calibrate::Cost,
    kernel::{Capacity, Kernel},
};
use self::{
    attach::{Point, Probes},
    tables::Tables,
};
use crate::{
    error::{Error, Result},
    plan::Site,
    stream::{Event, Kind, Loss, LossCause, Observation, Origin, SlowWait},
};

/// The only target of a capture from the command line has the first slot of each table.
const SLOT: u32 = 0;

/// What to attach where.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Process.
    pub pid: u32,
    /// The file that the sites were found in. Probes go to this very inode, whatever the process has become
    /// meanwhile: in another program the same offsets could lie inside instructions.
    pub file: &'a File,
    /// Which programs.
    pub program: ProgramKind,
    /// Where.
    pub sites: &'a [Site],
    /// Run-time minus link-time address of the executable.
    pub bias: u64,
    /// Struct offsets and thresholds; `enabled` is set by [`ProbeSource::attach`].
    pub config: TargetConfig,
    /// Sizes of the kernel's tables.
    pub capacity: Capacity,
    /// Goroutines that may have been runnable when the probes went live; `u64::MAX` if unknown.
    pub goroutines: u64,
}

/// Live probes on one process, and what they have counted.
pub struct ProbeSource {
    kernel: Kernel,
    probes: Option<Probes>,
    program: ProgramKind,
    /// Of the first site; the others are alike.
    kind: SiteKind,
    config: TargetConfig,
    ring: RingBuf<MapData>,
    tables: Tables,
    counted: Counters,
    next_cookie: u32,
    /// How many goroutines more may be seen to run of which it was not seen that they could, before that is
    /// a loss: those that were runnable when the probes went live.
    early: u64,
}

impl ProbeSource {
    /// Loads the kernel side and attaches. The probes are live when this returns.
    ///
    /// # Errors
    /// [`crate::error::Failure::NotPermitted`] where privilege or a kernel feature is missing.
    pub fn attach(request: &Request<'_>) -> Result<Self> {
        let mut kernel = Kernel::load(request.capacity)?;
        let config = TargetConfig {
            enabled: 0,
            ..request.config
        };
        maps::targets(&mut kernel.ebpf)?
            .set(SLOT, maps::Abi(config), 0)
            .map_err(maps::context("write", "TARGETS"))?;
        let points: Vec<Point> = request
            .sites
            .iter()
            .map(|site| Point {
                file_offset: site.file_offset,
                address: site.address.wrapping_add(request.bias),
                site: for_kernel(site),
            })
            .collect();
        let kind = request
            .sites
            .first()
            .map_or(calibrate::dearest(request.program), |site| site.kind);
        let ring = kernel
            .ebpf
            .take_map("EVENTS")
            .ok_or_else(|| Error::failed("the eBPF object of this build has no map `EVENTS`"))?;
        let ring = RingBuf::try_from(ring).map_err(maps::context("open", "EVENTS"))?;
        let exe = attach::path_of(request.file);
        let probes = attach::attach(
            &mut kernel,
            request.program,
            &points,
            0,
            Scope::process(request.pid)?,
            &exe,
        )?;
        // Counting begins when all sites are live: else a goroutine is seen to run of which it was not seen
        // that it could.
        let config = TargetConfig { enabled: 1, ..config };
        maps::targets(&mut kernel.ebpf)?
            .set(SLOT, maps::Abi(config), 0)
            .map_err(maps::context("write", "TARGETS"))?;
        trim_heap();
        Ok(Self {
            kernel,
            probes: Some(probes),
            program: request.program,
            kind,
            config,
            ring,
            tables: Tables::new(is_the_runtimes_figure(kind)),
            counted: Counters::default(),
            next_cookie: points.len() as u32,
            early: request.goroutines,
        })
    }

    /// How the probes are held.
    pub fn link_kind(&self) -> Option<LinkKind> {
        self.probes.as_ref().map(|probes| probes.kind)
    }

    /// Whether the latencies are those that the runtime itself measured.
    pub fn takes_the_runtimes_figure(&self) -> bool {
        is_the_runtimes_figure(self.kind)
    }

    /// Measures what a hit of this source costs on this machine, on our own process.
    pub fn calibrate(&mut self) -> Result<Cost> {
        let cookie = self.next_cookie;
        let kind = match self.kind {
            // Needs no more of a goroutine than calibration's has. An inlined compare-and-swap costs no more than
            // a call, which stands for it.
            SiteKind::WaitRecorded => self.kind,
            _ => calibrate::dearest(self.program),
        };
        calibrate::measure(&mut self.kernel, self.program, kind, cookie)
    }

    /// Switches the programs off for the target: from here on a hit counts nothing. What was counted stays
    /// to be read.
    pub fn stop(&mut self) -> Result<()> {
        self.config.enabled = 0;
        maps::targets(&mut self.kernel.ebpf)?
            .set(SLOT, maps::Abi(self.config), 0)
            .map_err(maps::context("write", "TARGETS"))
    }

    /// Takes the probes away; see [`Probes`] for how long that takes.
    pub fn detach(&mut self) {
        drop(self.probes.take());
    }

    /// What has come since the last call.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn observe(&mut self, now_ns: u64) -> Result<Vec<Observation>> {
        let mut seen = self.slow_waits();
        let deltas = match self.program {
            ProgramKind::Exact => self.tables.exact(&mut self.kernel.ebpf, SLOT)?,
            ProgramKind::Sampled => self.tables.sampled(&mut self.kernel.ebpf, SLOT)?,
            ProgramKind::Full | ProgramKind::Mark | ProgramKind::Empty => Vec::new(),
        };
        // A sampled wait is a hit that is counted in its histogram alone.
        let sampled_hits: u64 = match self.program {
            ProgramKind::Sampled => deltas
                .iter()
                .map(|delta| delta.counts.iter().map(|(_, n)| n).sum::<u64>() + delta.excluded_zero)
                .sum(),
            _ => 0,
        };
        let at = |kind| Observation { at_ns: now_ns, kind };
        seen.extend(deltas.into_iter().map(|delta| at(Kind::HistogramDelta(delta))));
        let counters = maps::read_counters(&mut self.kernel.ebpf, SLOT)?;
        let new = counters.since(&self.counted);
        self.counted = counters;
        let hits = new.hits() + sampled_hits;
        if hits > 0 {
            seen.push(at(Kind::Hits(hits)));
        }
        let early = new.unpaired.min(self.early);
        self.early -= early;
        seen.extend(losses(&new, early).into_iter().map(|loss| at(Kind::Loss(loss))));
        Ok(seen)
    }

    /// The kernel's counters since the probes went live, as of the last [`Self::observe`].
    pub fn counters(&self) -> Counters {
        self.counted
    }

    /// Slow waits that lie in the ring, as events; cheap, so that they can be shown as they happen.
    pub fn slow_waits(&mut self) -> Vec<Observation> {
        let mut seen = Vec::new();
        while let Some(item) = self.ring.next() {
            let Some(event) = tables::slow_wait(&item) else {
                log::warn!(
                    "an event of {} bytes from the kernel is not a slow wait",
                    item.len()
                );
                continue;
            };
            seen.push(Observation {
                at_ns: event.at_ns,
                kind: Kind::Event(Event::SlowWait(SlowWait {
                    latency_ns: event.latency_ns,
                    goid: (event.goid != 0).then_some(event.goid),
                    gopc: (event.gopc != 0).then_some(event.gopc),
                    origin: u8::try_from(event.origin).ok().and_then(Origin::from_u8),
                    tid: event.tid,
                    p: u32::try_from(event.p).ok(),
                })),
            });
        }
        seen
    }
}

fn is_the_runtimes_figure(kind: SiteKind) -> bool {
    matches!(kind, SiteKind::WaitRecorded | SiteKind::HistogramRecord)
}

/// A site as the programs read it.
pub(in crate::sources) fn for_kernel(site: &Site) -> tracer_ebpf::Site {
    let origin = site.origin.unwrap_or(Origin::Unblocked) as u8;
    tracer_ebpf::Site {
        target: SLOT,
        kind: site.kind as u8,
        origin: site.what.map_or(origin, |what| what as u8),
        gp_in: site.gp_in,
        zf_when_swapped: site.zf_when_swapped,
        old_in: site.statuses_in.0,
        new_in: site.statuses_in.1,
        slot: site.slot,
        reserved2: 0,
    }
}

/// `early` of the unpaired ones began before the capture.
fn losses(new: &Counters, early: u64) -> Vec<Loss> {
    [
        (LossCause::Unpaired, early),
        (LossCause::Unseen, new.unpaired - early),
        (LossCause::StampsFull, new.stamps_full),
        (LossCause::CreationSitesFull, new.creation_sites_full),
        (LossCause::HistogramsFull, new.histograms_full + new.samples_full),
        (LossCause::RingFull, new.ring_full),
        (LossCause::Unreadable, new.unreadable),
        (LossCause::Negative, new.negative + new.negative_samples),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .map(|(cause, count)| Loss { cause, count })
    .collect()
}

/// Gives back what parsing took: the heap otherwise stays at its largest.
fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and is safe to call at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
