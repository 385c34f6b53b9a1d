//! All targets of a host with one load of the kernel side: probed processes, binaries whose starts are timed, and
//! events of processes that start and exit.
//!
//! ```text
//! HostKernel ──▶ Kernel (maps and programs, one load)
//!   ├─ slots ──▶ ProbeTarget   one per probed process: `sampled` or `exact`
//!   │        └─▶ ProbedBinary  one per binary whose starts are timed
//!   ├─ events            exec, exit, "past its cap"
//!   └─ detaching         what is being removed, on threads of its own
//! ```
//!
//! A target takes a few kilobytes of the kernel's memory, an `exact` one 30 kB for each CPU.

mod binaries;
mod detaching;
mod events;
mod gated;
mod pending;
mod slots;

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

pub use self::{
    binaries::{StartsBy, StartsRequest},
    events::ProcessEvent,
    slots::SlotId,
};
use self::{
    detaching::{DetachedTarget, Detaching},
    events::Events,
    gated::Gated,
    pending::PendingMarks,
    slots::{Holder, Slots, holder, holder_mut, take_holder},
};
use super::{
    probes::{ProbeTarget, Request, slow_wait},
    starts::{
        gate::Missed,
        own_pid,
        probed_binary::{ProbedBinary, is_last},
    },
};
use crate::{
    bpf::{
        Capacity, Cost, Kernel, LinkKind, ProgramKind,
        attach::{ThreadEnded, drop_in_parallel},
        calibrate::{self, Instructions},
        capacity::CREATION_SITES_ON_HOST,
        kernel, ring,
    },
    error::{Error, Failure, Result},
    process::file::FileId,
    stream::Observation,
};

/// Most marks of a binary that wait to be observed.
const MOST_MARKS: usize = 1 << 16;

/// The kernel side of a host.
pub struct HostKernel {
    kernel: Kernel,
    slots: Slots,
    targets: BTreeMap<u32, ProbedProcess>,
    binaries: BTreeMap<u32, TimedBinary>,
    detaching: Detaching,
    ring: RingBuf<MapData>,
    events: Events,
    pending: PendingMarks,
    /// What holds starts for their probes, while there is a binary that needs it.
    gated: Option<Gated>,
    /// Tracepoints of the programs for starts, while there is a binary.
    points: Vec<RawTracePointLink>,
    costs: HashMap<(ProgramKind, u8, Instructions), Cost>,
}

struct ProbedProcess {
    id: SlotId,
    target: ProbeTarget,
    /// Attached since: older events are about the previous target in the slot.
    since_ns: u64,
    waits: Vec<Observation>,
}

struct TimedBinary {
    id: SlotId,
    binary: ProbedBinary,
    /// The file whose starts are held.
    held: Option<FileId>,
    missed: Arc<Missed>,
    marks: Vec<StartEvent>,
    lost: u64,
}

impl Holder for ProbedProcess {
    fn slot(&self) -> SlotId {
        self.id
    }
}

impl Holder for TimedBinary {
    fn slot(&self) -> SlotId {
        self.id
    }
}

/// What has happened on the host since the last call of [`HostKernel::take_events`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostEvents {
    /// Events of processes, in the order in which the kernel sent them.
    pub processes: Vec<ProcessEvent>,
    /// Targets that had more hits than their cap allows. They are switched off; each hit still costs them a trap until
    /// they are detached.
    pub capped: Vec<SlotId>,
    /// Number of events of processes that were lost: a scan of /proc makes up for them.
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
            detaching: Detaching::default(),
            ring,
            events,
            pending: PendingMarks::default(),
            gated: None,
            points: Vec::new(),
            costs: HashMap::new(),
        })
    }

    /// Makes [`Self::take_events`] report processes from now on. Every `execve` and every end of a thread of the host then
    /// runs a short program.
    ///
    /// # Errors
    /// [`crate::error::Failure::NotPermitted`] where privilege or a kernel feature is missing.
    pub fn watch_processes(&mut self) -> Result<()> {
        let watched = self.events.watch_processes(&mut self.kernel);
        // Gives back the memory in which the kernel's description of its types was read.
        kernel::trim_heap();
        watched
    }

    /// Readable when a target was switched off, or when events pile up: a reader must also read a few times a second.
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        self.events.fd()
    }

    /// Reads what has happened since the last call.
    ///
    /// # Errors
    /// A table of the kernel's cannot be read or written.
    pub fn take_events(&mut self) -> Result<HostEvents> {
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
        Ok(HostEvents {
            processes: batch.processes,
            capped,
            lost: batch.lost,
        })
    }

    /// The cost of a hit of `program` on this machine, measured once on our own process. Takes some 10 ms.
    ///
    /// # Errors
    /// As [`calibrate::measure`].
    pub fn cost_of(&mut self, program: ProgramKind) -> Result<Cost> {
        self.measured(program, calibrate::most_expensive(program), Instructions::ALL)
    }

    /// The cost of a hit of this target on this machine, measured likewise.
    ///
    /// # Errors
    /// As [`calibrate::measure`].
    pub fn cost(&mut self, slot: SlotId) -> Result<Cost> {
        let target = &holder(&self.targets, slot)?.target;
        let (program, kind, instructions) = (target.program(), target.calibrated_by(), target.instructions());
        self.measured(program, kind, instructions)
    }

    fn measured(&mut self, program: ProgramKind, kind: SiteKind, instructions: Instructions) -> Result<Cost> {
        let key = (program, kind as u8, instructions);
        if let Some(cost) = self.costs.get(&key) {
            return Ok(*cost);
        }
        let cost = calibrate::measure(&mut self.kernel, program, kind, instructions)?;
        self.costs.insert(key, cost);
        Ok(cost)
    }

    /// Attaches to one process, with a cap on its hits from the beginning if there are `hits_per_window`. The probes are
    /// live when this returns, after some 10 ms.
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
        match ProbeTarget::attach(&mut self.kernel, id.index, &request, hits_per_window) {
            Ok(target) => {
                let probed = ProbedProcess {
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

    /// The kind of link that holds the probes of a target.
    ///
    /// # Errors
    /// The target was detached.
    pub fn link_kind(&self, slot: SlotId) -> Result<Option<LinkKind>> {
        Ok(holder(&self.targets, slot)?.target.link_kind())
    }

    /// See [`Probes::thread_ended`](crate::bpf::attach::Probes::thread_ended).
    pub fn thread_ended(&self, slot: SlotId) -> Option<ThreadEnded> {
        holder(&self.targets, slot).ok()?.target.thread_ended()
    }

    /// Reads what was seen of a target since the last call: waits, hits (also while it was off) and losses.
    ///
    /// # Errors
    /// The target was detached, or a table of the kernel's cannot be read.
    pub fn observe(&mut self, slot: SlotId, now_ns: u64) -> Result<Vec<Observation>> {
        self.read_ring();
        let probed = holder_mut(&mut self.targets, slot)?;
        let mut seen = std::mem::take(&mut probed.waits);
        seen.extend(probed.target.observe(&mut self.kernel, now_ns)?);
        Ok(seen)
    }

    /// Begins a window in which a target may have `hits`. With one more, the kernel side switches it off, and
    /// [`Self::take_events`] reports it. The window ends when the next one begins: if we are held up, the cost is
    /// bounded.
    ///
    /// # Errors
    /// The target was detached, or a table of the kernel's cannot be written.
    pub fn begin_window(&mut self, slot: SlotId, hits: u64) -> Result<()> {
        let probed = holder_mut(&mut self.targets, slot)?;
        probed.target.begin_window(&mut self.kernel, hits)
    }

    /// Whether a target was switched off by its cap.
    pub fn is_capped(&self, slot: SlotId) -> bool {
        holder(&self.targets, slot).is_ok_and(|probed| probed.target.is_capped())
    }

    /// Switches a target off: from here on only the number of hits is counted. What was counted before can still be
    /// observed.
    ///
    /// # Errors
    /// The target was detached, or the table cannot be written.
    pub fn switch_off(&mut self, slot: SlotId) -> Result<()> {
        let probed = holder_mut(&mut self.targets, slot)?;
        probed.target.switch_off(&mut self.kernel)
    }

    /// Removes the probes of a target, on another thread: in some 35 ms with a multi link, some 80 ms for each perf event.
    /// Its slot is free afterwards.
    ///
    /// # Errors
    /// The target was detached before.
    pub fn detach(&mut self, slot: SlotId) -> Result<()> {
        let mut probed = take_holder(&mut self.targets, slot)?;
        if let Err(e) = probed.target.switch_off(&mut self.kernel) {
            log::warn!("{e}");
        }
        probed.target.forget_process(&mut self.kernel)?;
        let stamped = probed.target.program() == ProgramKind::Exact;
        let (probes, keys) = probed.target.take_probes();
        self.detaching.begin(
            &self.kernel,
            DetachedTarget {
                index: slot.index,
                probes,
                keys,
                stamped,
            },
        )
    }

    /// Removes everything in parallel, and waits until it is gone.
    pub fn detach_all(&mut self) {
        // First release what waits at the gate.
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
        drop_in_parallel(probes);
        let _ = self.detaching.wait();
    }

    fn take_slot(&mut self, exact: bool) -> Result<SlotId> {
        for index in self.detaching.take_free_slots() {
            self.slots.give_back(index);
        }
        self.slots.take(exact).ok_or_else(|| {
            let Capacity {
                targets, exact: most, ..
            } = self.kernel.capacity;
            let many = if exact { most } else { targets };
            let detaching = match self.detaching.is_empty() {
                true => "",
                false => "; some are being detached, so that it may work in a second",
            };
            Error {
                failure: Failure::Failed,
                message: format!(
                    "there is room for {many} targets{} at once, and all of it is taken{detaching}",
                    if exact { " with exact" } else { "" }
                ),
            }
        })
    }

    /// Reads the ring, and sorts its events by the target that they are about.
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
                if let Some((slot, marks)) = self.pending.take(event)
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

/// The kernel side is moved to the thread that runs the daemon's loop.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<HostKernel>();
};
