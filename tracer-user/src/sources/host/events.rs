//! Events of the host from the kernel side: processes that start and exit, and targets that were switched off.

use std::os::fd::{AsFd, BorrowedFd};

use aya::{
    maps::{MapData, RingBuf},
    programs::raw_trace_point::RawTracePointLink,
};
use tracer_ebpf::host::{HOST_RING_BYTES, HostConfig, HostCounters, HostEvent, host_event};

use crate::{
    bpf::{
        Kernel,
        attach::in_initial_pid_namespace,
        maps::{self, Abi},
        ring,
    },
    error::Result,
    sources::starts::{self, TaskOffsets},
};

/// Bytes in the ring at which the reader is woken; otherwise it reads by the clock.
const WAKE_AT: u64 = HOST_RING_BYTES as u64 / 8;

/// Something that happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// The process has executed another program.
    Exec {
        /// Its id, in our PID namespace.
        pid: u32,
        /// When, CLOCK_MONOTONIC.
        at_ns: u64,
    },
    /// The last thread of the process ends (where the kernel has no BTF: the first). May be reported more than once.
    Exit {
        /// Its id, in our PID namespace.
        pid: u32,
        /// When, CLOCK_MONOTONIC.
        at_ns: u64,
    },
}

/// Reads events from their ring.
pub struct Events {
    ring: RingBuf<MapData>,
    points: Vec<RawTracePointLink>,
    lost: u64,
}

/// The contents of the ring.
#[derive(Debug, Default)]
pub struct Batch {
    /// Events of processes, in the order of the ring.
    pub processes: Vec<ProcessEvent>,
    /// (slot, when) of targets that were switched off.
    pub capped: Vec<(u32, u64)>,
    /// Number of events of processes that found no room since the last batch.
    pub lost: u64,
}

impl Events {
    /// Takes the ring. Processes are not reported yet.
    ///
    /// # Errors
    /// The map is missing.
    pub fn new(kernel: &mut Kernel) -> Result<Self> {
        Ok(Self {
            ring: kernel.take_ring("HOST_EVENTS")?,
            points: Vec::new(),
            lost: 0,
        })
    }

    /// Reports processes of our PID namespace from now on.
    ///
    /// # Errors
    /// [`crate::error::Failure::NotPermitted`] where privilege or a kernel feature is missing.
    pub fn watch_processes(&mut self, kernel: &mut Kernel) -> Result<()> {
        let (pidns_device, pidns_inode) = starts::own_pid_namespace()?;
        let (task_signal, signal_live) = TaskOffsets::of_kernel()
            .map(|offsets| (offsets.signal, offsets.signal_live))
            .inspect_err(|why| log::info!("{why}: a process counts as ended with its first thread"))
            .unwrap_or_default();
        let config = HostConfig {
            pidns_device,
            pidns_inode,
            wake_at: WAKE_AT,
            task_signal,
            signal_live,
            pidns_is_initial: u32::from(in_initial_pid_namespace()),
            reserved: 0,
        };
        maps::host_config(&mut kernel.ebpf)?
            .set(0, Abi(config), 0)
            .map_err(maps::context("write", "HOST_CONFIG"))?;
        for (program, tracepoint) in [
            ("process_exec", "sched_process_exec"),
            ("process_exit", "sched_process_exit"),
        ] {
            self.points.push(kernel.attach_point(program, tracepoint)?);
        }
        Ok(())
    }

    /// Reads what was sent since the last call.
    ///
    /// # Errors
    /// The counter of lost events cannot be read.
    pub fn read(&mut self, kernel: &mut Kernel) -> Result<Batch> {
        let mut batch = Batch::default();
        while let Some(item) = self.ring.next() {
            let Some(event) = ring::read::<HostEvent>(&item) else {
                log::warn!(
                    "an event of {} bytes from the kernel is not one of the host",
                    item.len()
                );
                continue;
            };
            let (pid, at_ns) = (event.subject, event.at_ns);
            match event.kind {
                host_event::EXEC => batch.processes.push(ProcessEvent::Exec { pid, at_ns }),
                host_event::EXIT => batch.processes.push(ProcessEvent::Exit { pid, at_ns }),
                host_event::CAPPED => batch.capped.push((pid, at_ns)),
                kind => log::warn!("the kernel side sent an event of the unknown kind {kind}"),
            }
        }
        let HostCounters { processes_lost } = maps::host_counters(&mut kernel.ebpf)?
            .get(&0, 0)
            .map_err(maps::context("read", "HOST_COUNTERS"))?
            .0;
        batch.lost = processes_lost.saturating_sub(self.lost);
        self.lost = processes_lost;
        Ok(batch)
    }

    /// Readable when a target was switched off, or the ring fills up, but not after a few events.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// Stops reporting processes.
    pub fn detach(&mut self) {
        self.points.clear();
    }
}
