//! The kernel side, loaded: one object that serves all targets of this process.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use tracer_ebpf::{DEFAULT_STAMPS, MAX_TARGETS, Origin};

use super::{attach, maps, multi, raw::Purpose};
use crate::error::{
    Error, Result,
    privilege::Need,
    refusal::{chain, refused},
};

/// Programs at raw tracepoints, by their names.
const TRACEPOINTS: [&str; 9] = [
    "full_exit",
    "full_switch",
    "full_wakeup",
    "sched_prepare_exec",
    "sched_process_exec",
    "sched_process_exit",
    "sched_switch",
    "sys_enter",
    "sys_exit",
];
/// How often the kernel side's log is read.
const LOG_PERIOD: std::time::Duration = std::time::Duration::from_millis(100);

/// The eBPF object that build.rs compiled, for this architecture.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("GMPSCOPE_EBPF_OBJECT"));

/// How large the kernel's tables are to be.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Processes to be traced at once.
    pub targets: u32,
    /// Goroutines of all targets that can be stamped at once (`exact`).
    pub stamps: u32,
    /// Bytes of the ring buffer for transitions (`full`): a power of two.
    pub ring_bytes: u32,
}

impl Capacity {
    /// Bytes of a ring buffer that nothing is sent through: the least that every kernel takes.
    pub const NO_RING: u32 = 1 << 16;

    /// For one target whose `allgs` has `goroutines` entries now: as many again for those to come.
    pub fn for_one(goroutines: u64) -> Self {
        let wanted = u32::try_from(goroutines.saturating_mul(2)).unwrap_or(u32::MAX);
        Self {
            targets: 1,
            stamps: wanted.clamp(DEFAULT_STAMPS, 1 << 22),
            ring_bytes: Self::NO_RING,
        }
    }
}

/// The loaded object: maps, and programs not yet in the kernel. Everything of it is gone from the kernel
/// when it is dropped, or when this process dies in whatever way.
pub struct Kernel {
    pub(in crate::sources) ebpf: Ebpf,
    /// Descriptors of all maps, also of those that were taken out of `ebpf`.
    map_fds: HashMap<String, OwnedFd>,
    /// Index of the slot that calibration uses: one past the targets.
    pub(super) calibration_slot: u32,
}

impl Kernel {
    /// Creates the maps.
    ///
    /// # Errors
    /// [`Failure::NotPermitted`] where privilege or a kernel feature is missing.
    pub fn load(capacity: Capacity) -> Result<Self> {
        let targets = capacity.targets.min(MAX_TARGETS - 1);
        let slots = targets + 1;
        let level = log_level();
        let mut ebpf = EbpfLoader::new()
            // No program of ours is relocated against the kernel's types, and the parsed BTF is 30 MB.
            .btf(None)
            .override_global("AYA_LOG_LEVEL", &level, false)
            .map_max_entries("TARGETS", slots)
            .map_max_entries("COUNTERS", slots)
            .map_max_entries("EXACT_HISTOGRAMS", slots * Origin::COUNT)
            .map_max_entries("STAMPS", capacity.stamps)
            .map_max_entries("FULL_CONFIG", slots)
            .map_max_entries("FULL_COUNTERS", slots)
            .map_max_entries("TRANSITIONS", capacity.ring_bytes)
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
            calibration_slot: targets,
        })
    }

    /// Loads a program for uprobe_multi links.
    pub(super) fn program_for_multi(&self, name: &str) -> Result<multi::Program> {
        self.code(name)
            .and_then(|code| multi::Program::load(&code))
            .map_err(|e| refused("attach by uprobe_multi", Need::LoadPrograms, &e))
    }

    fn code(&self, name: &str) -> std::result::Result<multi::Code, multi::LoadError> {
        multi::Code::of(OBJECT, name, |map| self.map_fds.get(map).map(OwnedFd::as_fd))
    }

    /// Has the kernel verify each program that it may be given: how many instructions it went through, or why it
    /// refused.
    pub fn verified(&self) -> Vec<(&'static str, std::result::Result<u32, multi::LoadError>)> {
        let probes = attach::programs(aya::features().bpf_cookie()).map(|name| (name, Purpose::PerfEvent));
        let tracepoints = TRACEPOINTS.map(|name| (name, Purpose::RawTracepoint));
        probes
            .chain(tracepoints)
            .map(|(name, purpose)| {
                let count = self
                    .code(name)
                    .and_then(|code| code.verified_instructions(purpose));
                (name, count)
            })
            .collect()
    }
}

/// aya-log's number of the most detailed level that is asked for; 0 compiles the kernel's logging away.
fn log_level() -> u8 {
    if log::log_enabled!(target: "gmpscope_ebpf", log::Level::Debug) {
        log::Level::Debug as u8
    } else {
        0
    }
}

/// Passes the kernel side's log lines on, until the runtime ends. By the clock, since a wake-up for each
/// would cost the target more than the line.
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

fn load_error(e: &aya::EbpfError) -> Error {
    let mut error = refused("create the BPF maps", Need::LoadPrograms, e);
    if chain(e).1 == Some(libc::EINVAL) {
        error.message += "; a map type may be missing: BPF ring buffers came with Linux 5.8";
    }
    error
}
