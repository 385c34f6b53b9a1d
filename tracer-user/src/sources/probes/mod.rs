//! The source of `exact` and `sampled`: the kernel side aggregates, and this reads its tables and yields what was added
//! since the last reading.

mod losses;
mod tables;
pub mod target;

use aya::{
    maps::{MapData, RingBuf},
    programs::raw_trace_point::RawTracePointLink,
};
use tracer_ebpf::Counters;

pub use self::target::{ProbeTarget, Request, Stamps, config_of};
use crate::{
    bpf::{
        Capacity, Cost, Kernel, LinkKind,
        attach::{self, ThreadEnded},
        kernel, ring,
    },
    error::Result,
    sources::{
        execs,
        plugins::{PluginProbes, PluginRequest},
    },
    stream::{Event, Kind, Observation, Origin, SlowWait},
};

/// Slot of the only target of a capture from the command line.
const SLOT: u32 = 0;

/// Live probes on one process, with their own load of the kernel side.
pub struct ProbeSource {
    kernel: Kernel,
    target: ProbeTarget,
    plugins: PluginProbes,
    ring: RingBuf<MapData>,
    /// Switches the target off when it executes another program.
    execs: Option<RawTracePointLink>,
}

impl ProbeSource {
    /// Loads the kernel side, with tables of this size, and attaches to the program and its plugins. The probes are live
    /// when this returns; of each plugin it also returns whether they are.
    ///
    /// # Errors
    /// [`crate::error::Failure::NotPermitted`] where privilege or a kernel feature is missing.
    pub fn attach(
        request: &Request<'_>,
        plugins: &[PluginRequest<'_>],
        capacity: Capacity,
    ) -> Result<(Self, Vec<Result<()>>)> {
        let mut kernel = Kernel::load(capacity)?;
        let ring = kernel.take_ring("EVENTS")?;
        // Before the target is switched on.
        let execs = execs::watch(&mut kernel)?;
        // Before the program, with which all of them are switched on at once.
        let mut in_plugins = PluginProbes::new(request.program, SLOT, request.pid);
        let attached = in_plugins.attach_all(&mut kernel, plugins);
        let target = ProbeTarget::attach(&mut kernel, SLOT, request, None)?;
        kernel::trim_heap();
        let source = Self {
            kernel,
            target,
            plugins: in_plugins,
            ring,
            execs: Some(execs),
        };
        Ok((source, attached))
    }

    /// Attaches to a plugin that the target has loaded since.
    ///
    /// # Errors
    /// The kernel refuses, or there are too many plugins.
    pub fn attach_plugin(&mut self, plugin: &PluginRequest<'_>) -> Result<()> {
        self.plugins.attach(&mut self.kernel, plugin)
    }

    /// The kind of link that holds the probes.
    pub fn link_kind(&self) -> Option<LinkKind> {
        self.target.link_kind()
    }

    /// Since when is counted, CLOCK_MONOTONIC.
    pub fn live_ns(&self) -> u64 {
        self.target.live_ns()
    }

    /// See [`Probes::thread_ended`](crate::bpf::attach::Probes::thread_ended).
    pub fn thread_ended(&self) -> Option<ThreadEnded> {
        self.target.thread_ended()
    }

    /// Whether the latencies are those that the runtime itself measured.
    pub fn takes_the_runtimes_figure(&self) -> bool {
        self.target.takes_the_runtimes_figure()
    }

    /// Measures the cost of a hit of this source on this machine, in our own process.
    ///
    /// # Errors
    /// As [`calibrate::measure`](crate::bpf::calibrate::measure).
    pub fn calibrate(&mut self) -> Result<Cost> {
        self.target.calibrate(&mut self.kernel)
    }

    /// Switches the programs off for the target: from here on nothing is counted. What was counted before can still be
    /// read.
    ///
    /// # Errors
    /// The table cannot be written.
    pub fn stop(&mut self) -> Result<()> {
        self.target.switch_off(&mut self.kernel)
    }

    /// Removes the probes; see [`Probes`](crate::bpf::attach::Probes) for how long that takes.
    pub fn detach(&mut self) {
        let (program, _) = self.target.take_probes();
        let plugins = self.plugins.take();
        attach::drop_in_parallel(program.into_iter().chain(plugins).collect());
        drop(self.execs.take());
    }

    /// Reads what was measured since the last call.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn observe(&mut self, now_ns: u64) -> Result<Vec<Observation>> {
        let mut seen = self.slow_waits();
        seen.extend(self.target.observe(&mut self.kernel, now_ns)?);
        Ok(seen)
    }

    /// Reads when these goroutines became runnable. `None` where the programs keep no stamps.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn stamps(&mut self, gs: &[u64]) -> Result<Option<Stamps>> {
        self.target.stamps(&mut self.kernel, gs)
    }

    /// The kernel's counters since the probes went live, as of the last [`Self::observe`].
    pub fn counters(&self) -> Counters {
        self.target.counters()
    }

    /// Reads the slow waits in the ring, which is cheap, so that they can be shown as they happen.
    pub fn slow_waits(&mut self) -> Vec<Observation> {
        let mut seen = Vec::new();
        while let Some(item) = self.ring.next() {
            match ring::read(&item) {
                Some(event) => seen.push(slow_wait(&event)),
                None => log::warn!(
                    "an event of {} bytes from the kernel is not a slow wait",
                    item.len()
                ),
            }
        }
        seen
    }
}

/// Turns a slow wait into an observation.
pub(in crate::sources) fn slow_wait(event: &tracer_ebpf::SlowWait) -> Observation {
    Observation {
        at_ns: event.at_ns,
        kind: Kind::Event(Event::SlowWait(SlowWait {
            latency_ns: event.latency_ns,
            goid: (event.goid != 0).then_some(event.goid),
            gopc: (event.gopc != 0).then_some(event.gopc),
            origin: u8::try_from(event.origin).ok().and_then(Origin::from_u8),
            tid: event.tid,
            p: u32::try_from(event.p).ok(),
        })),
    }
}
