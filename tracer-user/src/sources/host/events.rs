//! What the kernel side tells of the host: processes that come and go, and targets that were switched off.

use std::os::fd::{AsFd, BorrowedFd};

use aya::{
    maps::{MapData, RingBuf},
    programs::raw_trace_point::RawTracePointLink,
};
use tracer_ebpf::host::{HOST_RING_BYTES, HostConfig, HostCounters, HostEvent, host_event};

use crate::{
    bpf::{
        Kernel,
        maps::{self, Abi},
        ring,
    },
    error::Result,
    sources::starts::{self, TaskOffsets},
};

/// The reader is woken when so much of the ring is full; else it comes by itself.
const WAKE_AT: u64 = HOST_RING_BYTES as u64 / 8;

/// Something that happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// It has become another program.
    Exec {
        /// Its id, in our PID namespace.
        pid: u32,
        /// When, CLOCK_MONOTONIC.
        at_ns: u64,
    },
    /// Its last thread ends (where the kernel has no BTF: its first). It may be told more than once.
    Exit {
        /// Its id, in our PID namespace.
        pid: u32,
        /// When, CLOCK_MONOTONIC.
        at_ns: u64,
    },
}

/// Events, read from their ring.
pub struct Events {
    ring: RingBuf<MapData>,
    points: Vec<RawTracePointLink>,
    lost: u64,
}

/// What was in the ring.
#[derive(Debug, Default)]
pub struct Batch {
    /// Of processes, in the order in which they came into the ring.
    pub processes: Vec<ProcessEvent>,
    /// (slot, when) of targets that were switched off.
    pub capped: Vec<(u32, u64)>,
    /// Events of processes that found no room since the last batch: what they were, a scan of /proc tells.
    pub lost: u64,
}

impl Events {
    /// Takes the ring. Nothing is told of processes yet.
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

    /// From now on processes are told of, those of our PID namespace.
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

    /// What has come since the last call.
    ///
    /// # Errors
    /// The counter of lost events cannot be read.
    pub fn read(&mut self, kernel: &mut Kernel) -> Result<Batch> {
        let mut batch = Batch::default();
        while let Some(item) = self.ring.next() {
            let Some(event) = ring::read::<HostEvent>(&item) else {
                log::warn!(
                    "an event of {} bytes from the kernel is none of the host",
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

    /// Readable when a target was switched off, or the ring fills up. Few events do not make it so.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    /// Nothing is told of processes any more.
    pub fn detach(&mut self) {
        self.points.clear();
    }
}
