//! The source of `full`: every transition, one by one, through ring buffers that are read at intervals.

mod begin;
mod beside;
mod readings;
mod rings;
mod snapshot;
mod stacks;
mod tables;
#[cfg(test)]
mod testing;
mod throttling;

use std::time::{Duration, Instant};

use aya::programs::raw_trace_point::RawTracePointLink;
use tracer_ebpf::{TargetConfig, full::FullCounters};

pub use self::begin::Request;
use self::beside::Beside;
pub use self::readings::Readings;
use self::rings::KernelRing;
pub use self::snapshot::SnapshotReader;
use self::stacks::Stacks;
pub use self::stacks::StacksWanted;
use self::throttling::ThrottleReader;
use super::plugins::{PluginProbes, PluginRequest};
use crate::{
    bpf::{
        Cost, Kernel, LinkKind,
        attach::{self, Probes, ThreadEnded},
        maps,
    },
    error::Result,
    stream::{Kind, Loss, LossCause, Observation, reorder::Reorder, transition::SchedSnapshot},
};

/// Slot of the only target of a capture from the command line.
const SLOT: u32 = 0;
/// Slot of calibration, after that of the only target.
const CALIBRATION_SLOT: u32 = 1;
/// How long a transition is held back, for earlier ones that may come after it in a ring: a program may be interrupted
/// between reserving its record and sending it.
const WINDOW_NS: u64 = 5_000_000;
const _: () = assert!(throttling::READ_EVERY_NS <= WINDOW_NS);
/// Time after which programs that ran when their target was switched off have ended; they take a microsecond.
const FINISHED_WITHIN: Duration = Duration::from_millis(1);
/// Time from which on a reading of the states cannot be older than a change that no probe saw: a thread may be
/// preempted between a site that it passed before the probes were switched on and the change of status that follows. It
/// resumes within some slices of the CPU.
const SETTLED_AFTER: Duration = Duration::from_millis(20);
/// Most transitions of one batch, from all rings together: 2 MB.
const BATCH: usize = 1 << 16;

/// Live probes on one process, and the transitions that they send.
pub struct TransitionSource {
    kernel: Kernel,
    probes: Option<Probes>,
    plugins: PluginProbes,
    points: Vec<RawTracePointLink>,
    rings: Vec<KernelRing>,
    reorder: Reorder,
    config: TargetConfig,
    counted: FullCounters,
    received: u64,
    live_ns: u64,
    cost: Option<Cost>,
    without_threads: Option<String>,
    stacks: Option<Stacks>,
    stopped: bool,
    settled_at: Instant,
    throttling: ThrottleReader,
    /// What is emitted after everything earlier.
    beside: Beside,
    /// When something was last lost.
    lost_ns: u64,
    /// Time of the latest transition that was emitted.
    emitted_ns: u64,
    /// What was observed and not yet returned.
    pending: Vec<Observation>,
}

impl TransitionSource {
    /// Attaches to a plugin that the target has loaded since.
    ///
    /// # Errors
    /// The kernel refuses, or there are too many plugins.
    pub fn attach_plugin(&mut self, plugin: &PluginRequest<'_>) -> Result<()> {
        self.plugins.attach(&mut self.kernel, plugin)?;
        self.settled_at = Instant::now() + SETTLED_AFTER;
        Ok(())
    }

    /// Whether states may be read: see [`SETTLED_AFTER`].
    pub fn is_settled(&self) -> bool {
        self.settled_at <= Instant::now()
    }

    /// Waits until states may be read, once after probes were attached or switched on: see [`SETTLED_AFTER`].
    pub fn settle(&self) {
        std::thread::sleep(self.settled_at.saturating_duration_since(Instant::now()));
    }

    fn enable(&mut self, enabled: u32) -> Result<()> {
        self.config.enabled = enabled;
        maps::configure_target(&mut self.kernel.ebpf, SLOT, self.config)
    }

    /// The kind of link that holds the probes.
    pub fn link_kind(&self) -> Option<LinkKind> {
        self.probes.as_ref().map(|probes| probes.kind)
    }

    /// Since when transitions are sent, CLOCK_MONOTONIC: none is earlier.
    pub fn live_ns(&self) -> u64 {
        self.live_ns
    }

    /// See [`Probes::thread_ended`].
    pub fn thread_ended(&self) -> Option<ThreadEnded> {
        self.probes.as_ref()?.thread_ended()
    }

    /// The cost of a hit on this machine.
    pub fn cost(&self) -> Option<Cost> {
        self.cost
    }

    /// Why Linux's scheduling of the threads is not reported, though it was requested.
    pub fn without_threads(&self) -> Option<&str> {
        self.without_threads.as_deref()
    }

    /// Switches the programs off for the target. What was sent can still be read.
    pub fn stop(&mut self) -> Result<()> {
        self.enable(0)?;
        self.stopped = true;
        // So that records of programs that are running on other CPUs are not missed.
        std::thread::sleep(FINISHED_WITHIN);
        Ok(())
    }

    /// Removes the probes; see [`Probes`] for how long that takes.
    pub fn detach(&mut self) {
        self.points.clear();
        let plugins = self.plugins.take();
        attach::drop_in_parallel(self.probes.take().into_iter().chain(plugins).collect());
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Takes in a reading of all states, or a part of one. It is emitted after everything that is earlier than its end.
    pub fn apply_snapshot(&mut self, snapshot: SchedSnapshot) {
        self.beside.add_snapshot(snapshot);
    }

    /// Records that something happened up to now that no probe saw: the states have to be read again, as after a loss.
    pub fn record_unseen(&mut self, now_ns: u64) {
        self.lost_ns = self.lost_ns.max(now_ns);
    }

    /// When something was last lost, CLOCK_MONOTONIC; 0 if nothing was.
    pub fn lost_ns(&self) -> u64 {
        self.lost_ns
    }

    /// Returns what was sent since the last call, in the order of time; `now_ns` is the clock just before. Unless the
    /// source was stopped, the last few milliseconds are left for the next call.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn observe(&mut self, now_ns: u64) -> Result<Vec<Observation>> {
        self.collect(now_ns)?;
        Ok(std::mem::take(&mut self.pending))
    }

    /// Makes room for what is still to be sent: reads what was sent, which the next [`Self::observe`] returns.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn collect(&mut self, now_ns: u64) -> Result<()> {
        let mut seen = std::mem::take(&mut self.pending);
        let collected = self.collect_into(now_ns, &mut seen);
        self.pending = seen;
        collected
    }

    fn collect_into(&mut self, now_ns: u64, seen: &mut Vec<Observation>) -> Result<()> {
        // Before any transition since the last reading is emitted: one of them may be the end of what this one counts.
        if let Some((after_ns, throttled)) = self.throttling.read(now_ns, self.stopped) {
            self.beside.add_throttling(after_ns, throttled);
        }
        // Before the rings are read: a loss is reported before what follows it.
        let counters = tables::counters(&mut self.kernel.ebpf, SLOT)?;
        let new = counters.since(&self.counted);
        self.counted = counters;
        let at = |kind| Observation { at_ns: now_ns, kind };
        let loss = |cause, count| at(Kind::Loss(Loss { cause, count }));
        if new.ring_full > 0 {
            self.lost_ns = now_ns;
            seen.push(loss(LossCause::TransitionsDropped, new.ring_full));
        }
        while self.drain(now_ns, seen)? {}
        if self.stopped {
            self.emit(u64::MAX, seen)?;
        }
        if let Some(stacks) = &mut self.stacks {
            let new = stacks.count(&mut self.kernel.ebpf, SLOT)?;
            seen.extend(stacks::report(Vec::new(), new.walked).map(|stacks| at(Kind::Stacks(stacks))));
            let causes = [
                (LossCause::StacksFull, new.full),
                (LossCause::StacksUnreadable, new.unreadable),
            ];
            let lost = causes.into_iter().filter(|(_, count)| *count > 0);
            seen.extend(lost.map(|(cause, count)| loss(cause, count)));
        }
        if new.seen + new.seen_threads > 0 {
            seen.push(at(Kind::TransitionsSeen(new.seen + new.seen_threads)));
        }
        if new.hits() > 0 {
            seen.push(at(Kind::Hits(new.hits())));
        }
        let late = self.reorder.take_late();
        if late > 0 {
            seen.push(loss(LossCause::TransitionsLate, late));
        }
        Ok(())
    }

    /// Reads one batch from the rings, and emits what is earlier than the window before `now_ns`. Returns whether there
    /// may be more that was sent by then: what comes while they are read is for the next call, since there may be no end
    /// to it.
    fn drain(&mut self, now_ns: u64, seen: &mut Vec<Observation>) -> Result<bool> {
        let each = (BATCH / self.rings.len().max(1)).max(1);
        let progress = self.reorder.read(&mut self.rings, each, now_ns);
        self.received += progress.count;
        // A CPU says so with its next transition, which may come much later than the loss was counted.
        self.lost_ns = self.lost_ns.max(progress.lost_ns);
        self.emit(progress.settled_ns.saturating_sub(WINDOW_NS), seen)?;
        Ok(progress.may_be_more || self.stopped && progress.count > 0)
    }

    /// Emits what is earlier than `until_ns`, and what was observed beside the transitions in its place.
    fn emit(&mut self, until_ns: u64, seen: &mut Vec<Observation>) -> Result<()> {
        while let Some((after_ns, kind)) = self.beside.next_before(until_ns) {
            self.emit_transitions(after_ns.saturating_add(1), seen)?;
            // A snapshot may have come after later transitions.
            let at_ns = after_ns.max(self.emitted_ns);
            seen.push(Observation { at_ns, kind });
        }
        self.emit_transitions(until_ns, seen)
    }

    fn emit_transitions(&mut self, until_ns: u64, seen: &mut Vec<Observation>) -> Result<()> {
        let mut transitions = self.reorder.until(until_ns);
        let Some(at_ns) = transitions.last().map(|last| last.at_ns) else {
            return Ok(());
        };
        self.emitted_ns = self.emitted_ns.max(at_ns);
        let mut push = |kind| seen.push(Observation { at_ns, kind });
        if let Some(stacks) = &mut self.stacks {
            let new = stacks.number(&mut self.kernel.ebpf, &mut transitions)?;
            if let Some(new) = stacks::report(new, 0) {
                push(Kind::Stacks(new));
            }
        }
        push(Kind::Transitions(transitions));
        Ok(())
    }

    /// The kernel's counters as of the last [`Self::observe`], and how many transitions were received.
    pub fn counters(&self) -> (FullCounters, u64) {
        (self.counted, self.received)
    }
}
