//! The loaded kernel side: one object that serves all targets of this gmpscope.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    thread::JoinHandle,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, RingBuf},
    programs::{ProgramError, RawTracePoint, UProbe, raw_trace_point::RawTracePointLink},
};
use aya_log::EbpfLogger;
use tracer_ebpf::{MAX_TARGETS, Origin, RING_BYTES, SITES_PER_TARGET, host::HOST_RING_BYTES};

use super::{
    attach::program::programs,
    capacity::Capacity,
    events,
    mapped_ring::MappedRing,
    maps, multi,
    raw::Purpose,
    rings::{Sizes, TransitionRing},
    slots::SlotRing,
};
use crate::{
    error::{Error, Result},
    kernel::{
        privilege::Need,
        refusal::{chain, refused},
        release,
    },
};

/// Programs at raw tracepoints that load only where the kernel has cookies, since those at probes do.
const TRACEPOINTS_WITH_COOKIES: [&str; 3] = ["full_exit_cookie", "full_switch_cookie", "full_wakeup_cookie"];
/// Programs at raw tracepoints.
const TRACEPOINTS: [&str; 13] = [
    "full_exit_ip",
    "full_switch_ip",
    "full_wakeup_ip",
    "process_exec",
    "process_exit",
    "sched_prepare_exec",
    "sched_process_exec",
    "sched_process_exit",
    "sched_process_fork",
    "sched_switch",
    "sys_enter",
    "sys_exit",
    "target_exec",
];
/// How often the kernel side's log is read.
const LOG_PERIOD: std::time::Duration = std::time::Duration::from_millis(100);

/// The eBPF object that build.rs compiled, for this architecture.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("GMPSCOPE_EBPF_OBJECT"));

/// The loaded object: its maps, and programs that are not yet in the kernel. All of it is removed from the kernel when this
/// is dropped, or when this process ends in any way.
pub struct Kernel {
    pub(crate) ebpf: Ebpf,
    /// Descriptors of all maps, including those that were taken out of `ebpf`.
    map_fds: HashMap<String, OwnedFd>,
    /// Programs that are loaded for uprobe_multi links, by name.
    for_multi: HashMap<&'static str, Arc<multi::Program>>,
    /// Programs that are loaded for perf events, by name.
    for_events: HashMap<&'static str, Arc<events::Program>>,
    /// Whether uprobe_multi links work, once that is known.
    multi: Option<multi::Support>,
    /// The rings of transitions.
    rings: Sizes,
    /// Index of the slot that calibration uses: after those that can do `exact`, and able to do it, too.
    pub(crate) calibration_slot: u32,
    /// The thread that removes the probes of the last calibration.
    pub(super) calibrating: Option<JoinHandle<()>>,
    /// Sizes of the maps.
    pub(crate) capacity: Capacity,
}

impl Kernel {
    /// Creates the maps.
    ///
    /// # Errors
    /// [`Failure::NotPermitted`](crate::error::Failure::NotPermitted) where privilege or a kernel feature is missing.
    pub fn load(capacity: Capacity) -> Result<Self> {
        let targets = capacity.targets.min(MAX_TARGETS - 1);
        let capacity = Capacity {
            targets,
            exact: capacity.exact.min(targets),
            ..capacity
        };
        let slots = targets + 1;
        let level = log_level();
        let tail_calls = u8::from(release::has_tail_calls_beside_functions(
            &release::release(),
            std::env::consts::ARCH,
        ));
        let smallest = u32::try_from(rustix::param::page_size()).unwrap_or(HOST_RING_BYTES);
        let (ring, host_ring) = match capacity.reports_processes {
            true => (HOST_RING_BYTES, HOST_RING_BYTES),
            false => (RING_BYTES, smallest),
        };
        let rings = Sizes::of(capacity.ring_bytes, aya::features().bpf_cookie());
        let mut ebpf = EbpfLoader::new()
            // No program of ours is relocated against the kernel's types, and the parsed BTF is 30 MB.
            .btf(None)
            .override_global("AYA_LOG_LEVEL", &level, false)
            .override_global("TAIL_CALLS", &tail_calls, true)
            .override_global("TRANSITION_RINGS", &rings.rings, true)
            .override_global("TRANSITION_SLOTS", &rings.slots, true)
            .map_max_entries("TARGETS", slots)
            .map_max_entries("STATES", slots)
            .map_max_entries("SLOTS_BY_PID", slots)
            .map_max_entries("COUNTERS", slots)
            .map_max_entries("SITES", slots * SITES_PER_TARGET)
            .map_max_entries("SITES_BY_IP", slots * SITES_PER_TARGET)
            .map_max_entries("EXACT_HISTOGRAMS", (capacity.exact + 1) * Origin::COUNT)
            // Each target has one more, for all other creation sites.
            .map_max_entries("SAMPLED_HISTOGRAMS", capacity.creation_sites + slots)
            .map_max_entries("STAMPS", capacity.stamps)
            .map_max_entries("HELD", capacity.processes)
            .map_max_entries("TREE", capacity.processes)
            .map_max_entries("EVENTS", ring)
            .map_max_entries("HOST_EVENTS", host_ring)
            .map_max_entries("FULL_CONFIG", slots)
            .map_max_entries("FULL_COUNTERS", slots)
            .map_max_entries("STACK_CONFIG", slots)
            .map_max_entries("STACK_COUNTERS", slots)
            .map_max_entries("STACKS", capacity.stacks)
            .map_max_entries("SLOTS", rings.rings * rings.slots)
            .map_max_entries("POSITIONS", rings.rings)
            .map_max_entries("TRANSITIONS", rings.shared_bytes)
            .load(OBJECT)
            .map_err(|e| load_error(&e))?;
        let map_fds = maps::descriptors(&ebpf)
            .map_err(|e| Error::failed(format!("could not keep the BPF maps open: {e}")))?;
        if level > 0
            && let Err(e) = start_log_reader(&mut ebpf)
        {
            log::warn!("the kernel side's own log cannot be read: {e}");
        }
        Ok(Self {
            ebpf,
            map_fds,
            for_multi: HashMap::new(),
            for_events: HashMap::new(),
            multi: None,
            rings,
            calibration_slot: capacity.exact,
            calibrating: None,
            capacity,
        })
    }

    /// Whether uprobe_multi links can be used.
    pub(super) fn multi_support(&mut self) -> multi::Support {
        self.multi.get_or_insert_with(multi::support).clone()
    }

    /// A program for uprobe_multi links, loaded on first use.
    pub(super) fn program_for_multi(&mut self, name: &'static str) -> Result<Arc<multi::Program>> {
        if let Some(loaded) = self.for_multi.get(name) {
            return Ok(Arc::clone(loaded));
        }
        let loaded = self
            .code(name, Purpose::Multi)
            .and_then(|code| multi::Program::load(&code))
            .map(Arc::new)
            .map_err(|e| refused("attach by uprobe_multi", Need::LoadPrograms, &e))?;
        self.for_multi.insert(name, Arc::clone(&loaded));
        trim_heap();
        Ok(loaded)
    }

    fn uprobe(&mut self, name: &'static str) -> Result<&mut UProbe> {
        let not_loaded = |e: ProgramError| refused(&format!("load program `{name}`"), Need::LoadPrograms, &e);
        let uprobe: &mut UProbe = self
            .ebpf
            .program_mut(name)
            .ok_or_else(|| Error::failed(format!("the eBPF object of this build has no program `{name}`")))?
            .try_into()
            .map_err(not_loaded)?;
        if uprobe.fd().is_err() {
            uprobe.load().map_err(not_loaded)?;
        }
        Ok(uprobe)
    }

    /// A program for perf events, loaded on first use.
    pub(super) fn program_for_events(&mut self, name: &'static str) -> Result<Arc<events::Program>> {
        if let Some(loaded) = self.for_events.get(name) {
            return Ok(Arc::clone(loaded));
        }
        let uprobe = self.uprobe(name)?;
        let program = uprobe
            .fd()
            .map_err(|e| refused(&format!("load program `{name}`"), Need::LoadPrograms, &e))?;
        let program = events::Program::new(program.as_fd())
            .map(Arc::new)
            .map_err(|e| refused("attach by perf events", Need::OpenProbe, &e))?;
        self.for_events.insert(name, Arc::clone(&program));
        Ok(program)
    }

    /// Attaches a program to a raw tracepoint.
    pub(crate) fn attach_point(&mut self, program: &str, tracepoint: &str) -> Result<RawTracePointLink> {
        let failed = |e: ProgramError| {
            refused(
                &format!("attach to the tracepoint `{tracepoint}`"),
                Need::LoadPrograms,
                &e,
            )
        };
        let loaded: &mut RawTracePoint = self
            .ebpf
            .program_mut(program)
            .ok_or_else(|| {
                Error::failed(format!(
                    "the eBPF object of this build has no program `{program}`"
                ))
            })?
            .try_into()
            .map_err(failed)?;
        if loaded.fd().is_err() {
            loaded.load().map_err(failed)?;
        }
        loaded
            .attach(tracepoint)
            .and_then(|id| loaded.take_link(id))
            .map_err(failed)
    }

    /// Takes a ring buffer out of the object, to be read.
    pub(crate) fn take_ring(&mut self, name: &'static str) -> Result<RingBuf<MapData>> {
        let ring = self
            .ebpf
            .take_map(name)
            .ok_or_else(|| Error::failed(format!("the eBPF object of this build has no map `{name}`")))?;
        RingBuf::try_from(ring).map_err(maps::context("open", name))
    }

    /// Takes the rings of transitions, to be read.
    pub(crate) fn take_transition_rings(&mut self) -> Result<Vec<TransitionRing>> {
        let failed =
            |e: &dyn std::fmt::Display| Error::failed(format!("could not map the rings of transitions: {e}"));
        if aya::features().bpf_cookie() {
            let (slots, positions) = (self.map_fd("SLOTS")?, self.map_fd("POSITIONS")?);
            let rings = SlotRing::map(
                slots.as_fd(),
                positions.as_fd(),
                self.rings.rings,
                self.rings.slots,
            );
            return Ok(rings
                .map_err(|e| failed(&e))?
                .into_iter()
                .map(TransitionRing::Slots)
                .collect());
        }
        let shared = MappedRing::new(self.take_ring("TRANSITIONS")?).map_err(|e| failed(&e))?;
        Ok(vec![TransitionRing::Shared(shared)])
    }

    /// Duplicates the descriptor of a map, for another thread.
    pub(crate) fn map_fd(&self, name: &str) -> Result<OwnedFd> {
        self.map_fds
            .get(name)
            .ok_or_else(|| Error::failed(format!("the eBPF object of this build has no map `{name}`")))?
            .try_clone()
            .map_err(|e| Error::failed(format!("could not open the BPF map `{name}` once more: {e}")))
    }

    fn code(&self, name: &str, purpose: Purpose) -> std::result::Result<multi::Code, multi::LoadError> {
        multi::Code::of(OBJECT, name, |map| {
            // A table of programs takes only those of one kind; the kernel side's `stack` says what this one is for.
            let map = match (map, purpose) {
                ("NO_PROGRAM", Purpose::Multi) => "NO_PROGRAM_MULTI",
                _ => map,
            };
            self.map_fds.get(map).map(OwnedFd::as_fd)
        })
    }

    /// Has the kernel verify every program, and returns how many instructions the verifier processed, or why it refused.
    pub fn verified(&self) -> Vec<(&'static str, std::result::Result<u32, multi::LoadError>)> {
        let cookies = aya::features().bpf_cookie();
        let probes = programs(cookies).map(|name| (name, Purpose::PerfEvent));
        let tracepoints = TRACEPOINTS_WITH_COOKIES
            .into_iter()
            .filter(|_| cookies)
            .chain(TRACEPOINTS)
            .map(|name| (name, Purpose::RawTracepoint));
        probes
            .chain(tracepoints)
            .map(|(name, purpose)| {
                let count = self
                    .code(name, purpose)
                    .and_then(|code| code.verified_instructions(purpose));
                (name, count)
            })
            .collect()
    }
}

/// aya-log's number of the most detailed level that is enabled; 0 removes the kernel side's logging.
fn log_level() -> u8 {
    if log::log_enabled!(target: "gmpscope_ebpf", log::Level::Debug) {
        log::Level::Debug as u8
    } else {
        0
    }
}

/// Forwards the kernel side's log lines until the tokio runtime ends. At intervals, since a wake-up for each would cost
/// the target more than the line.
fn start_log_reader(ebpf: &mut Ebpf) -> std::result::Result<(), aya_log::Error> {
    let mut logger = EbpfLogger::init(ebpf)?;
    tokio::task::spawn(async move {
        let mut every = tokio::time::interval(LOG_PERIOD);
        loop {
            every.tick().await;
            logger.flush();
        }
    });
    Ok(())
}

/// Returns the memory that parsing used to the system: the heap would otherwise stay at its peak size.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and is safe to call at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn load_error(e: &aya::EbpfError) -> Error {
    let mut error = refused("create the BPF maps", Need::LoadPrograms, e);
    if chain(e).1 == Some(libc::EINVAL) {
        error.message += "; a map type may be missing: BPF ring buffers came with Linux 5.8";
    }
    error
}
