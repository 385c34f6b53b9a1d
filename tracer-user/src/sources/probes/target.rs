//! One target in its slot of the kernel's tables: live probes on one process, and their counters.

use std::fs::File;

use aya::maps::MapError;
use tracer_ebpf::{
    Counters, Meaning, OTHER_CREATION_SITES, Origin, SiteKey, SiteKind, Stamp, TargetConfig, TargetState,
    creation_site_key, stamp_key,
};

use super::{
    losses::{Unpaired, losses},
    tables::Tables,
};
use crate::{
    binary::{Globals, layout::Layout},
    bpf::{
        attach::{self, LinkKind, Point, Probes, ProgramKind, Scope, ThreadEnded},
        calibrate::{self, Cost, Instruction, Instructions},
        kernel::Kernel,
        maps,
    },
    clock::{ClockOffset, now_ns},
    error::Result,
    plan::Site,
    sources::execs,
    stream::{Kind, Observation},
};

/// A request to attach to a process.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The process.
    pub pid: u32,
    /// The file that the sites were found in. Probes go to this very inode, even if the process runs another program by
    /// now, where the same offsets could lie inside instructions.
    pub file: &'a File,
    /// The programs to attach.
    pub program: ProgramKind,
    /// The sites to attach to.
    pub sites: &'a [Site],
    /// Run-time minus link-time address of the executable.
    pub bias: u64,
    /// Struct offsets and thresholds; `enabled` and `hit_limit` are set by [`ProbeTarget::attach`].
    pub config: TargetConfig,
    /// Goroutines that may have been runnable when the probes went live; `u64::MAX` if unknown.
    pub goroutines: u64,
}

/// The configuration of the programs for a process: `stamp` is the offset of `g.trackingStamp`, `bias` is run-time minus
/// link-time address, `clock` is how far its clock is ahead of the host's. Slow waits are not reported one by one.
pub fn config_of(
    layout: Option<&Layout>,
    stamp: Option<u32>,
    globals: &Globals,
    bias: u64,
    clock: ClockOffset,
) -> TargetConfig {
    let field = |of: fn(&Layout) -> u32| layout.map_or(0, of);
    TargetConfig {
        slower_ns: u64::MAX,
        time_to_run: globals
            .time_to_run
            .map_or(0, |address| address.wrapping_add(bias)),
        clock_offset_ns: clock.ns(),
        g_m: field(|l| l.g.m),
        g_tracking_stamp: stamp.unwrap_or(0),
        g_gopc: field(|l| l.g.gopc),
        g_goid: field(|l| l.g.goid),
        g_preempt: field(|l| l.g.preempt),
        m_curg: field(|l| l.m.curg),
        m_p: field(|l| l.m.p),
        p_id: field(|l| l.p.id),
        ..TargetConfig::default()
    }
}

/// When goroutines became runnable, as the kernel side has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamps {
    /// The stamp of each goroutine in turn; `None` of one that no probe has seen to become runnable.
    pub stamps: Vec<Option<Stamp>>,
    /// Whether every goroutine that was seen has kept its stamp: then one without a stamp has not become runnable since
    /// the probes went live.
    pub is_complete: bool,
}

/// Live probes on one process, and their counters.
pub struct ProbeTarget {
    slot: u32,
    pid: u32,
    probes: Option<Probes>,
    program: ProgramKind,
    /// The kind of the first site; the others are alike.
    kind: SiteKind,
    instructions: Instructions,
    config: TargetConfig,
    /// Keys of the sites, where there are no cookies.
    keys: Vec<SiteKey>,
    tables: Tables,
    counted: Counters,
    unpaired: Unpaired,
    live_ns: u64,
    capped: bool,
}

impl ProbeTarget {
    /// Attaches. The probes are live when this returns; `hits_per_window` is the cap, if there is one.
    ///
    /// # Errors
    /// [`crate::error::Failure::NotPermitted`] where privilege or a kernel feature is missing.
    pub fn attach(
        kernel: &mut Kernel,
        slot: u32,
        request: &Request<'_>,
        hits_per_window: Option<u64>,
    ) -> Result<Self> {
        let config = TargetConfig {
            enabled: 0,
            // 0 would be no cap at all.
            hit_limit: hits_per_window.map_or(0, |hits| hits.max(1)),
            ..request.config
        };
        clear(kernel, slot)?;
        maps::configure_target(&mut kernel.ebpf, slot, config)?;
        let points = points(request.sites, request.bias, slot);
        let kind = request
            .sites
            .first()
            .map_or(calibrate::most_expensive(request.program), |site| site.kind);
        let scope = Scope::running(request.pid)?;
        let wanted = attach::Request {
            program: request.program,
            points: &points,
            slot,
            scope,
            file: &attach::path_of(request.file),
        };
        let probes = attach::attach(kernel, wanted)?;
        // Counting begins when all sites are live: otherwise goroutines would be seen to run that were not seen to
        // become runnable.
        let config = TargetConfig { enabled: 1, ..config };
        let live_ns = now_ns();
        // Not before all else has succeeded: what is left of failures would fill the table.
        execs::register(kernel, slot, request.pid)?;
        if let Err(e) = maps::configure_target(&mut kernel.ebpf, slot, config) {
            execs::unregister(kernel, slot, request.pid)?;
            return Err(e);
        }
        Ok(Self {
            slot,
            pid: request.pid,
            probes: Some(probes),
            program: request.program,
            kind,
            instructions: instructions_of(request.sites),
            config,
            keys: attach::keys_by_ip(request.program, &points, scope),
            tables: Tables::new(is_the_runtimes_figure(kind)),
            counted: Counters::default(),
            unpaired: Unpaired::new(request.goroutines),
            live_ns,
            capped: false,
        })
    }

    /// The kind of link that holds the probes.
    pub fn link_kind(&self) -> Option<LinkKind> {
        self.probes.as_ref().map(|probes| probes.kind)
    }

    /// Since when is counted, CLOCK_MONOTONIC.
    pub fn live_ns(&self) -> u64 {
        self.live_ns
    }

    /// See [`Probes::thread_ended`].
    pub fn thread_ended(&self) -> Option<ThreadEnded> {
        self.probes.as_ref()?.thread_ended()
    }

    /// Whether the latencies are those that the runtime itself measured.
    pub fn takes_the_runtimes_figure(&self) -> bool {
        is_the_runtimes_figure(self.kind)
    }

    /// The programs that are attached.
    pub fn program(&self) -> ProgramKind {
        self.program
    }

    /// The kind of site at which the cost of a hit is measured.
    pub fn calibrated_by(&self) -> SiteKind {
        match self.kind {
            // Reads no more of a goroutine than calibration's has. An inlined compare-and-swap costs no more than a
            // call, which stands for it.
            SiteKind::WaitRecorded => self.kind,
            _ => calibrate::most_expensive(self.program),
        }
    }

    /// The kinds of instructions that are probed.
    pub fn instructions(&self) -> Instructions {
        self.instructions
    }

    /// Measures the cost of a hit of this target on this machine, in our own process.
    ///
    /// # Errors
    /// As [`calibrate::measure`].
    pub fn calibrate(&self, kernel: &mut Kernel) -> Result<Cost> {
        calibrate::measure(kernel, self.program, self.calibrated_by(), self.instructions)
    }

    /// Switches the programs off for the target: from here on only the number of hits is counted. What was counted before
    /// can still be read.
    ///
    /// # Errors
    /// The table cannot be written.
    pub fn switch_off(&mut self, kernel: &mut Kernel) -> Result<()> {
        self.config.enabled = 0;
        maps::configure_target(&mut kernel.ebpf, self.slot, self.config)
    }

    /// Begins a window in which the target may have `hits`. A target that is past its cap stays off.
    ///
    /// # Errors
    /// A table cannot be read or written.
    pub fn begin_window(&mut self, kernel: &mut Kernel, hits: u64) -> Result<()> {
        let state = state_of(kernel, self.slot)?;
        if self.is_past(&state) {
            self.note_capped(kernel)?;
        }
        // After an execve, hits are those of another program.
        if self.capped || state.executed_ns != 0 {
            return Ok(());
        }
        // 0 would be no cap at all.
        self.config.hit_limit = state.hits.saturating_add(hits).max(1);
        maps::configure_target(&mut kernel.ebpf, self.slot, self.config)
    }

    /// Records that the target is past its cap, as the kernel side has reported.
    ///
    /// # Errors
    /// The table cannot be written.
    pub fn note_capped(&mut self, kernel: &mut Kernel) -> Result<()> {
        if self.capped {
            return Ok(());
        }
        self.capped = true;
        // A window that was begun at that very moment has switched the target on again.
        self.switch_off(kernel)
    }

    /// Whether the target had more hits than its cap allows, and is therefore off.
    pub fn is_capped(&self) -> bool {
        self.capped
    }

    fn is_past(&self, state: &TargetState) -> bool {
        self.config.hit_limit != 0 && state.hits > self.config.hit_limit
    }

    /// Forgets that this target is its process's: for when it is not traced any more.
    ///
    /// # Errors
    /// The table cannot be opened.
    pub fn forget_process(&self, kernel: &mut Kernel) -> Result<()> {
        execs::unregister(kernel, self.slot, self.pid)
    }

    /// Takes the probes out, to be dropped; see [`Probes`] for how long that takes.
    pub fn take_probes(&mut self) -> (Option<Probes>, Vec<SiteKey>) {
        (self.probes.take(), std::mem::take(&mut self.keys))
    }

    /// Reads what was measured since the last call, except for slow waits.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn observe(&mut self, kernel: &mut Kernel, now_ns: u64) -> Result<Vec<Observation>> {
        let state = state_of(kernel, self.slot)?;
        if self.is_past(&state) {
            self.note_capped(kernel)?;
        }
        let ebpf = &mut kernel.ebpf;
        let deltas = match self.program {
            ProgramKind::Exact => self.tables.exact(ebpf, self.slot)?,
            ProgramKind::Sampled => self.tables.sampled(ebpf, self.slot, state.creation_sites)?,
            ProgramKind::Full | ProgramKind::Stacks | ProgramKind::Mark | ProgramKind::Empty => Vec::new(),
        };
        // The hit of a sampled wait is counted in its histogram alone.
        let sampled_hits: u64 = match self.program {
            ProgramKind::Sampled => deltas
                .iter()
                .map(|delta| delta.counts.iter().map(|(_, n)| n).sum::<u64>() + delta.excluded_zero)
                .sum(),
            _ => 0,
        };
        let at = |kind| Observation { at_ns: now_ns, kind };
        let mut seen: Vec<Observation> = deltas
            .into_iter()
            .map(|delta| at(Kind::HistogramDelta(delta)))
            .collect();
        let counters = maps::read_counters(ebpf, self.slot)?;
        let new = counters.since(&self.counted);
        self.counted = counters;
        // A cap limits traps, which a target that is off has as well.
        let off = if self.config.hit_limit == 0 {
            0
        } else {
            new.disabled
        };
        let hits = new.hits() + sampled_hits + off;
        if hits > 0 {
            seen.push(at(Kind::Hits(hits)));
        }
        let unpaired = self.unpaired.explain(&new);
        seen.extend(
            losses(&new, unpaired)
                .into_iter()
                .map(|loss| at(Kind::Loss(loss))),
        );
        Ok(seen)
    }

    /// Reads when these goroutines became runnable. `None` where the programs keep no stamps.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn stamps(&self, kernel: &mut Kernel, gs: &[u64]) -> Result<Option<Stamps>> {
        if self.program != ProgramKind::Exact {
            return Ok(None);
        }
        let table = maps::stamps(&mut kernel.ebpf)?;
        let mut stamps = Vec::with_capacity(gs.len());
        for g in gs {
            stamps.push(match table.get(&stamp_key(self.slot, *g), 0) {
                Ok(stamp) => Some(stamp.0),
                Err(MapError::KeyNotFound) => None,
                Err(e) => return Err(maps::context("read", "STAMPS")(e)),
            });
        }
        let counters = maps::read_counters(&mut kernel.ebpf, self.slot)?;
        // A stamp that was made for one wait is gone after it.
        let all_kept = state_of(kernel, self.slot)?.stamps_left > 0;
        Ok(Some(Stamps {
            stamps,
            is_complete: counters.stamps_full == 0 && all_kept,
        }))
    }

    /// The kernel's counters since the probes went live, as of the last [`Self::observe`].
    pub fn counters(&self) -> Counters {
        self.counted
    }
}

fn state_of(kernel: &mut Kernel, slot: u32) -> Result<TargetState> {
    let state = maps::states(&mut kernel.ebpf)?
        .get(&slot, 0)
        .map_err(maps::context("read", "STATES"))?;
    Ok(state.0)
}

/// Clears a slot. The entries of its last holder in shared tables were removed when the probes of that one were gone.
fn clear(kernel: &mut Kernel, slot: u32) -> Result<()> {
    maps::clear_counters(&mut kernel.ebpf, slot)?;
    if slot < kernel.capacity.exact {
        maps::clear_exact(&mut kernel.ebpf, slot)?;
    }
    // Created here, so that other targets cannot use up the room for it.
    maps::sampled_histograms(&mut kernel.ebpf)?
        .insert(
            creation_site_key(slot, OTHER_CREATION_SITES),
            maps::EMPTY_HISTOGRAM,
            0,
        )
        .map_err(maps::context("write", "SAMPLED_HISTOGRAMS"))
}

fn is_the_runtimes_figure(kind: SiteKind) -> bool {
    matches!(kind, SiteKind::WaitRecorded | SiteKind::HistogramRecord)
}

/// Makes the points of sites in a process whose run-time addresses are `bias` past the link-time ones. Hits count for the
/// target in this slot.
pub(in crate::sources) fn points(sites: &[Site], bias: u64, slot: u32) -> Vec<Point> {
    let points = sites.iter().map(|site| Point {
        file_offset: site.file_offset,
        address: site.address.wrapping_add(bias),
        site: for_kernel(site, slot),
    });
    points.collect()
}

/// The kinds of instructions at these sites.
pub(in crate::sources) fn instructions_of(sites: &[Site]) -> Instructions {
    let kinds = sites.iter().map(|site| Instruction::of(&site.instruction));
    kinds.collect()
}

/// A site in the form that the programs read.
fn for_kernel(site: &Site, slot: u32) -> tracer_ebpf::Site {
    let origin = site.origin.unwrap_or(Origin::Unblocked);
    tracer_ebpf::Site {
        target: slot,
        kind: site.kind as u8,
        meaning: site.what.map_or(Meaning::runnable(origin), Meaning::call),
        gp_in: site.gp_in,
        zf_when_swapped: site.zf_when_swapped,
        old_in: site.statuses_in.0,
        new_in: site.statuses_in.1,
        slot: site.slot,
        binary: 0,
    }
}
