//! All targets of a host by one load of the kernel side: processes that are probed, binaries whose starts are, and
//! what the kernel tells of processes that come and go.
//!
//! ```text
//! HostKernel ──▶ Kernel (maps and programs, one load)
//!   ├─ slots ──▶ Target  one per probed process: `sampled` or `exact`
//!   │        └─▶ Binary  one per binary whose starts are timed
//!   ├─ events            exec, exit, "past its cap"
//!   └─ leaving           what is taken away, on threads of its own
//! ```
//!
//! A target takes some kilobytes of the kernel's memory, an `exact` one 30 kB for each CPU.

mod events;
mod gated;
mod leaving;
mod slots;
mod starting;
mod starts;

use std::{
    collections::{BTreeMap, HashMap},
    os::fd::BorrowedFd,
    sync::Arc,
};

use aya::{
    maps::{MapData, RingBuf},
    programs::raw_trace_point::RawTracePointLink,
};
use tracer_ebpf::{
    SiteKind, SlowWait, TargetConfig,
    start::{Mark, StartEvent},
};

pub(in crate::sources) use self::leaving::all_at_once;
use self::{
    events::Events,
    gated::Gated,
    leaving::{Leaving, Remains},
    slots::Slots,
    starting::Starting,
};
pub use self::{
    events::ProcessEvent,
    slots::SlotId,
    starts::{StartsBy, StartsRequest},
};
use super::{
    probes::{Request, Target, slow_wait},
    starts::{
        binary::{Binary, is_last},
        gate::Missed,
        own_pid,
    },
};
use crate::{
    bpf::{
        Capacity, Cost, Kernel, LinkKind, ProgramKind, calibrate,
        kernel::{self, CREATION_SITES_ON_HOST},
        ring,
    },
    error::{Error, Failure, Result},
    process::file::FileId,
    stream::Observation,
};

/// Most marks of a binary that are kept until they are asked for.
const MOST_MARKS: usize = 1 << 16;

/// The kernel side of a host.
pub struct HostKernel {
    kernel: Kernel,
    slots: Slots,
    targets: BTreeMap<u32, Probed>,
    binaries: BTreeMap<u32, Started>,
    leaving: Leaving,
    ring: RingBuf<MapData>,
    events: Events,
    starting: Starting,
    /// What holds starts for their probes, while there is a binary whose are held.
    gated: Option<Gated>,
    /// What the programs of starts are attached to, while there is a binary.
    points: Vec<RawTracePointLink>,
    costs: HashMap<(ProgramKind, u8), Cost>,
}

struct Probed {
    id: SlotId,
    target: Target,
    /// Since when: what is older is about who had the slot before.
    since_ns: u64,
    waits: Vec<Observation>,
}

struct Started {
    id: SlotId,
    binary: Binary,
    /// The file whose starts are held.
    held: Option<FileId>,
    missed: Arc<Missed>,
    marks: Vec<StartEvent>,
    lost: u64,
}

/// What has happened on the host since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// To processes, in the order in which the kernel told it.
    pub processes: Vec<ProcessEvent>,
    /// Targets that were hit more often than their cap allows. They are off; each hit still costs them a trap until
    /// they are detached.
    pub capped: Vec<SlotId>,
    /// Events of processes that were lost: a scan of /proc tells what they were.
    pub lost: u64,
}

impl HostKernel {
    /// Creates the maps. Nothing is attached.
    ///
    /// # Errors
    /// [`crate::error::Failure::NotPermitted`] where privilege or a kernel feature is missing.
    pub fn load(capacity: Capacity) -> Result<Self> {
        let mut kernel = Kernel::load(capacity)?;
        let ring = kernel.take_ring("EVENTS")?;
        let events = Events::new(&mut kernel)?;
        kernel::trim_heap();
        Ok(Self {
            slots: Slots::new(kernel.capacity.targets, kernel.capacity.exact),
            kernel,
            targets: BTreeMap::new(),
            binaries: BTreeMap::new(),
            leaving: Leaving::default(),
            ring,
            events,
            starting: Starting::default(),
            gated: None,
            points: Vec::new(),
            costs: HashMap::new(),
        })
    }

    /// From now on [`Self::happened`] tells of processes. Every `execve` and every end of a thread of the host then
    /// runs a short program.
    ///
    /// # Errors
    /// [`crate::error::Failure::NotPermitted`] where privilege or a kernel feature is missing.
    pub fn watch_processes(&mut self) -> Result<()> {
        let watched = self.events.watch_processes(&mut self.kernel);
        // The kernel's description of its types was read.
        kernel::trim_heap();
        watched
    }

    /// Readable when a target was switched off, or when events pile up: a reader looks by itself a few times a second
    /// besides.
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        self.events.fd()
    }

    /// What has happened since the last call.
    ///
    /// # Errors
    /// A table of the kernel's cannot be read or written.
    pub fn happened(&mut self) -> Result<Happened> {
        let batch = self.events.read(&mut self.kernel)?;
        let mut capped = Vec::new();
        for (slot, at_ns) in batch.capped {
            if let Some(probed) = self.targets.get_mut(&slot)
                && probed.since_ns <= at_ns
            {
                probed.target.note_capped(&mut self.kernel)?;
                if !capped.contains(&probed.id) {
                    capped.push(probed.id);
                }
            }
        }
        Ok(Happened {
            processes: batch.processes,
            capped,
            lost: batch.lost,
        })
    }

    /// What a hit costs on this machine: of `program` as such, measured once on our own process. Takes some 10 ms.
    ///
    /// # Errors
    /// As [`calibrate::measure`].
    pub fn cost_of(&mut self, program: ProgramKind) -> Result<Cost> {
        self.measured(program, calibrate::dearest(program))
    }

    /// What a hit of this target's costs on this machine, likewise.
    ///
    /// # Errors
    /// As [`calibrate::measure`].
    pub fn cost(&mut self, slot: SlotId) -> Result<Cost> {
        let target = &self.probed(slot)?.target;
        let (program, kind) = (target.program(), target.calibrated_by());
        self.measured(program, kind)
    }

    fn measured(&mut self, program: ProgramKind, kind: SiteKind) -> Result<Cost> {
        if let Some(cost) = self.costs.get(&(program, kind as u8)) {
            return Ok(*cost);
        }
        let cost = calibrate::measure(&mut self.kernel, program, kind)?;
        self.costs.insert((program, kind as u8), cost);
        Ok(cost)
    }

    /// Attaches to one process, with a cap on its hits from the first moment on if `hits_per_window` is one. The probes
    /// are live when this returns, after some 10 ms.
    ///
    /// # Errors
    /// [`Failure::NotPermitted`] where privilege or a kernel feature is missing, [`Failure::NotTraceable`] where the
    /// process has ended, [`Failure::Failed`] where no slot is free.
    pub fn attach(
        &mut self,
        request: &Request<'_>,
        hits_per_window: Option<u64>,
        now_ns: u64,
    ) -> Result<SlotId> {
        let exact = request.program == ProgramKind::Exact;
        let id = self.take_slot(exact)?;
        let request = Request {
            config: TargetConfig {
                creation_sites: CREATION_SITES_ON_HOST,
                ..request.config
            },
            ..request.clone()
        };
        match Target::attach(&mut self.kernel, id.index, &request, hits_per_window) {
            Ok(target) => {
                let probed = Probed {
                    id,
                    target,
                    since_ns: now_ns,
                    waits: Vec::new(),
                };
                self.targets.insert(id.index, probed);
                Ok(id)
            }
            Err(e) => {
                self.slots.give_back(id.index);
                Err(e)
            }
        }
    }

    /// How the probes of a target are held.
    ///
    /// # Errors
    /// It was detached.
    pub fn link_kind(&self, slot: SlotId) -> Result<Option<LinkKind>> {
        Ok(self.probed(slot)?.target.link_kind())
    }

    /// What was seen of a target since the last call: waits, hits (those while it was off included) and losses.
    ///
    /// # Errors
    /// It was detached, or a table of the kernel's cannot be read.
    pub fn observe(&mut self, slot: SlotId, now_ns: u64) -> Result<Vec<Observation>> {
        self.read_ring();
        let probed = found(&mut self.targets, slot)?;
        let mut seen = std::mem::take(&mut probed.waits);
        seen.extend(probed.target.observe(&mut self.kernel, now_ns)?);
        Ok(seen)
    }

    /// Begins a window in which no more than so many hits of a target are let through. One more, and the kernel side
    /// switches it off, and [`Self::happened`] tells it. Without a new window the old one goes on: if we are held up, so
    /// is the target's cost.
    ///
    /// # Errors
    /// It was detached, or a table of the kernel's cannot be written.
    pub fn begin_window(&mut self, slot: SlotId, hits: u64) -> Result<()> {
        let probed = found(&mut self.targets, slot)?;
        probed.target.begin_window(&mut self.kernel, hits)
    }

    /// Whether a target was switched off by its cap.
    pub fn is_capped(&self, slot: SlotId) -> bool {
        self.probed(slot).is_ok_and(|probed| probed.target.is_capped())
    }

    /// Switches a target off: from here on a hit counts nothing but that it was. What was counted stays to be observed.
    ///
    /// # Errors
    /// It was detached, or the table cannot be written.
    pub fn switch_off(&mut self, slot: SlotId) -> Result<()> {
        let probed = found(&mut self.targets, slot)?;
        probed.target.switch_off(&mut self.kernel)
    }

    /// Takes the probes of a target away, on a thread of its own: some 35 ms with a multi link, some 80 ms for each of
    /// its perf events. Its slot is free afterwards.
    ///
    /// # Errors
    /// It was detached before.
    pub fn detach(&mut self, slot: SlotId) -> Result<()> {
        self.probed(slot)?;
        let Some(mut probed) = self.targets.remove(&slot.index) else {
            return Err(detached(slot));
        };
        if let Err(e) = probed.target.switch_off(&mut self.kernel) {
            log::warn!("{e}");
        }
        let stamped = probed.target.program() == ProgramKind::Exact;
        let (probes, keys) = probed.target.take_probes();
        self.leaving.begin(
            &self.kernel,
            Remains {
                index: slot.index,
                probes,
                keys,
                stamped,
            },
        )
    }

    /// Takes everything away, all at once, and waits until it is gone.
    pub fn detach_all(&mut self) {
        // What waits goes on first.
        drop(self.gated.take());
        self.points.clear();
        self.events.detach();
        let of_targets = std::mem::take(&mut self.targets).into_values();
        let of_binaries = std::mem::take(&mut self.binaries).into_values();
        let probes = of_targets
            .map(|mut probed| probed.target.take_probes())
            .chain(of_binaries.map(|mut started| started.binary.take_probes()))
            .filter_map(|(probes, _)| probes)
            .collect();
        leaving::all_at_once(probes);
        let _ = self.leaving.wait();
    }

    fn take_slot(&mut self, exact: bool) -> Result<SlotId> {
        for index in self.leaving.gone() {
            self.slots.give_back(index);
        }
        self.slots.take(exact).ok_or_else(|| {
            let Capacity {
                targets, exact: most, ..
            } = self.kernel.capacity;
            let many = if exact { most } else { targets };
            let leaving = match self.leaving.is_empty() {
                true => "",
                false => "; some are being detached, so that it may work in a second",
            };
            Error {
                failure: Failure::Failed,
                message: format!(
                    "there is room for {many} targets{} at once, and all of it is taken{leaving}",
                    if exact { " with exact" } else { "" }
                ),
            }
        })
    }

    fn probed(&self, slot: SlotId) -> Result<&Probed> {
        let probed = self.targets.get(&slot.index).filter(|probed| probed.id == slot);
        probed.ok_or_else(|| detached(slot))
    }

    /// Sorts what is in the ring by whom it is about.
    fn read_ring(&mut self) {
        let (mut ends, mut exits) = (Vec::new(), Vec::new());
        while let Some(item) = self.ring.next() {
            if let Some(event) = ring::read::<StartEvent>(&item) {
                if is_last(&event) {
                    ends.push((own_pid(&event), event.at_ns));
                    if event.mark == Mark::Exited as u32 {
                        exits.push(own_pid(&event));
                    }
                }
                if let Some((slot, marks)) = self.starting.take(event)
                    && let Some(started) = self.binaries.get_mut(&slot)
                {
                    let room = MOST_MARKS.saturating_sub(started.marks.len());
                    started.lost += marks.len().saturating_sub(room) as u64;
                    started.marks.extend(marks.into_iter().take(room));
                }
            } else if let Some(event) = ring::read::<SlowWait>(&item) {
                if let Some(probed) = self.targets.get_mut(&event.target)
                    && probed.since_ns <= event.at_ns
                {
                    probed.waits.push(slow_wait(&event));
                }
            } else {
                log::warn!(
                    "an event of {} bytes from the kernel is of no known kind",
                    item.len()
                );
            }
        }
        self.close_links(&ends, exits);
    }
}

impl Drop for HostKernel {
    fn drop(&mut self) {
        self.detach_all();
    }
}

fn found(targets: &mut BTreeMap<u32, Probed>, slot: SlotId) -> Result<&mut Probed> {
    let probed = targets.get_mut(&slot.index).filter(|probed| probed.id == slot);
    probed.ok_or_else(|| detached(slot))
}

fn detached(slot: SlotId) -> Error {
    Error::failed(format!("{slot:?} was detached before"))
}

/// It is moved to where the daemon's loop runs.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<HostKernel>();
};
