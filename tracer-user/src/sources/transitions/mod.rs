//! The source of `full`: every transition, one by one, through ring buffers that are read at intervals.

mod readings;
mod rings;
mod snapshot;
mod stacks;
mod tables;
#[cfg(test)]
mod testing;

use std::{
    collections::VecDeque,
    fs::File,
    time::{Duration, Instant},
};

use aya::programs::raw_trace_point::RawTracePointLink;
use tracer_ebpf::{
    TargetConfig,
    full::{FullConfig, FullCounters, TaskConfig, status},
};

pub use self::readings::Readings;
use self::rings::KernelRing;
pub use self::snapshot::SnapshotReader;
use self::stacks::Stacks;
pub use self::stacks::StacksWanted;
use super::{
    execs,
    plugins::{PluginProbes, PluginRequest},
    probes::target::{instructions_of, points},
    starts::task::TaskOffsets,
};
use crate::{
    bpf::{
        Capacity, Cost, Kernel, LinkKind, ProgramKind, Scope,
        attach::{self, Probes, ThreadEnded},
        calibrate, maps,
    },
    clock::now_ns,
    error::{Error, Result},
    plan::{Site, SiteKind},
    stream::{
        Kind, Loss, LossCause, Observation,
        reorder::{Reorder, Ring as _},
        transition::SchedSnapshot,
    },
};

/// Slot of the only target of a capture from the command line.
const SLOT: u32 = 0;
/// Slot of calibration, after that of the only target.
const CALIBRATION_SLOT: u32 = 1;
/// How long a transition is held back, for earlier ones that may come after it in a ring: a program may be interrupted
/// between reserving its record and sending it.
const WINDOW_NS: u64 = 5_000_000;
/// Time after which programs that ran when their target was switched off have ended; they take a microsecond.
const FINISHED_WITHIN: Duration = Duration::from_millis(1);
/// Time from which on a reading of the states cannot be older than a change that no probe saw: a thread may be
/// preempted between a site that it passed before the probes were switched on and the change of status that follows. It
/// resumes within some slices of the CPU.
const SETTLED_AFTER: Duration = Duration::from_millis(20);
/// Most transitions of one batch, from all rings together: 2 MB.
const BATCH: usize = 1 << 16;

/// Tracepoints of Linux's scheduler and the programs for them.
const THREAD_POINTS: [(&str, &str); 3] = [
    ("full_switch", "sched_switch"),
    ("full_wakeup", "sched_wakeup"),
    ("full_exit", "sched_process_exit"),
];

/// A request to attach to a process.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The process, in gmpscope's PID namespace.
    pub pid: u32,
    /// The file that the sites were found in.
    pub file: &'a File,
    /// The sites to attach to.
    pub sites: &'a [Site],
    /// Run-time minus link-time address of the executable.
    pub bias: u64,
    /// Struct offsets; `enabled` is set by [`TransitionSource::attach`].
    pub config: TargetConfig,
    /// Offset of `g.waitreason`.
    pub g_waitreason: u32,
    /// Offset of `g.coroarg`, where there is one.
    pub g_coroarg: Option<u32>,
    /// Whether system calls are reported.
    pub syscalls: bool,
    /// Whether Linux's scheduling of its threads is reported.
    pub threads: bool,
    /// Bytes of all ring buffers together: a power of two.
    pub ring_bytes: u32,
    /// [`ProgramKind::Full`], or [`ProgramKind::Empty`] to see what the traps alone cost.
    pub program: ProgramKind,
    /// Whether the stacks of goroutines that block are reported.
    pub stacks: Option<StacksWanted>,
}

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
    /// Snapshots that are emitted after everything earlier.
    snapshots: VecDeque<SchedSnapshot>,
    /// When something was last lost.
    lost_ns: u64,
    /// Time of the latest transition that was emitted.
    emitted_ns: u64,
    /// What was observed and not yet returned.
    pending: Vec<Observation>,
}

impl TransitionSource {
    /// Loads the kernel side, with room for the sites of `most_plugins`, and attaches to the program and its plugins. The
    /// probes are live when this returns; of each plugin it also returns whether they are.
    ///
    /// # Errors
    /// [`crate::error::Failure::NotPermitted`] where privilege or a kernel feature is missing.
    pub fn attach(
        request: &Request<'_>,
        plugins: &[PluginRequest<'_>],
        most_plugins: u32,
    ) -> Result<(Self, Vec<Result<()>>)> {
        let mut kernel = Kernel::load(Capacity {
            ring_bytes: request.ring_bytes,
            stacks: request.stacks.map_or(1, |wanted| wanted.most),
            ..Capacity::ONE.with_plugins(most_plugins)
        })?;
        let program = match request.stacks {
            Some(wanted) => {
                tables::describe_stacks(&mut kernel.ebpf, SLOT, wanted.config)?;
                tables::describe_stacks(&mut kernel.ebpf, CALIBRATION_SLOT, calibrate::STACK_CONFIG)?;
                if request.program == ProgramKind::Empty {
                    request.program
                } else {
                    ProgramKind::Stacks
                }
            }
            None => request.program,
        };
        let full = FullConfig {
            wanted: wanted(request.syscalls),
            g_waitreason: request.g_waitreason,
            g_coroarg: request.g_coroarg.unwrap_or(0),
        };
        tables::configure(&mut kernel.ebpf, SLOT, full)?;
        let unread = FullConfig {
            g_waitreason: 0,
            g_coroarg: 0,
            ..full
        };
        tables::configure(&mut kernel.ebpf, CALIBRATION_SLOT, unread)?;
        let rings = kernel.take_transition_rings()?;
        let mut rings: Vec<KernelRing> = rings.into_iter().map(KernelRing).collect();
        let points = points(request.sites, request.bias, SLOT);
        // Before the target's own transitions arrive: calibration's records look the same.
        let cost = calibrate::measure(
            &mut kernel,
            program,
            SiteKind::StatusCall,
            instructions_of(request.sites),
        )
        .inspect_err(|e| log::warn!("the cost of a hit could not be measured, and is left out: {e}"))
        .ok();
        for ring in &mut rings {
            while ring.take().is_some() {}
        }
        if request.stacks.is_some() {
            tables::clear_stacks(&mut kernel.ebpf)?;
        }
        let probes = attach::attach(
            &mut kernel,
            attach::Request {
                program,
                points: &points,
                slot: SLOT,
                scope: Scope::running(request.pid)?,
                file: &attach::path_of(request.file),
            },
        )?;
        let mut in_plugins = PluginProbes::new(program, SLOT, request.pid);
        let attached = in_plugins.attach_all(&mut kernel, plugins);
        let mut source = Self {
            kernel,
            probes: Some(probes),
            plugins: in_plugins,
            points: Vec::new(),
            rings,
            reorder: Reorder::new(),
            config: TargetConfig {
                enabled: 0,
                ..request.config
            },
            counted: FullCounters::default(),
            received: 0,
            live_ns: 0,
            cost,
            without_threads: None,
            stacks: request.stacks.map(|_| Stacks::default()),
            stopped: false,
            settled_at: Instant::now(),
            snapshots: VecDeque::new(),
            lost_ns: 0,
            emitted_ns: 0,
            pending: Vec::new(),
        };
        if request.threads {
            source.without_threads = source.follow_threads(request.pid).err();
        }
        execs::register(&mut source.kernel, SLOT, request.pid)?;
        let link = execs::watch(&mut source.kernel)?;
        source.points.push(link);
        // All probes begin at once: otherwise goroutines would be seen to run that were not seen to become runnable.
        source.live_ns = now_ns();
        source.enable(1)?;
        source.settled_at = Instant::now() + SETTLED_AFTER;
        Ok((source, attached))
    }

    /// Attaches to a plugin that the target has loaded since.
    ///
    /// # Errors
    /// The kernel refuses, or there are too many plugins.
    pub fn attach_plugin(&mut self, plugin: &PluginRequest<'_>) -> Result<()> {
        self.plugins.attach(&mut self.kernel, plugin)?;
        self.settled_at = Instant::now() + SETTLED_AFTER;
        Ok(())
    }

    /// Waits until states may be read, once after probes were attached or switched on: see [`SETTLED_AFTER`].
    pub fn settle(&self) {
        std::thread::sleep(self.settled_at.saturating_duration_since(Instant::now()));
    }

    fn enable(&mut self, enabled: u32) -> Result<()> {
        self.config.enabled = enabled;
        maps::configure_target(&mut self.kernel.ebpf, SLOT, self.config)
    }

    /// Attaches to Linux's scheduler.
    ///
    /// # Errors
    /// The reason why it is not possible; the rest works without it.
    fn follow_threads(&mut self, pid: u32) -> std::result::Result<(), String> {
        if !attach::in_initial_pid_namespace() {
            return Err("gmpscope does not run in the initial PID namespace".to_owned());
        }
        let offsets = TaskOffsets::of_kernel()?;
        let task = TaskConfig {
            tgid: offsets.tgid,
            pid: offsets.pid,
            state: offsets.state,
            reserved: 0,
        };
        let as_reason = |e: Error| e.to_string();
        tables::describe_tasks(&mut self.kernel.ebpf, task).map_err(as_reason)?;
        tables::follow(&mut self.kernel.ebpf, pid, SLOT).map_err(as_reason)?;
        for (program, point) in THREAD_POINTS {
            let link = self.kernel.attach_point(program, point).map_err(as_reason)?;
            self.points.push(link);
        }
        Ok(())
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
        self.snapshots.push_back(snapshot);
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

    /// Emits what is earlier than `until_ns`, with snapshots at their ends.
    fn emit(&mut self, until_ns: u64, seen: &mut Vec<Observation>) -> Result<()> {
        while let Some(snapshot) = self.snapshots.pop_front_if(|snapshot| snapshot.end_ns < until_ns) {
            self.emit_transitions(snapshot.end_ns.saturating_add(1), seen)?;
            // It may have come after later transitions.
            let at_ns = snapshot.end_ns.max(self.emitted_ns);
            seen.push(Observation {
                at_ns,
                kind: Kind::Scheduler(Box::new(snapshot)),
            });
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

/// The changes of status that are recorded: a bit set of new ones for each old one.
fn wanted(syscalls: bool) -> [u16; 16] {
    use status::{COPYSTACK, DEAD, DEADEXTRA, IDLE, LEAKED, PREEMPTED, RUNNABLE, RUNNING, SYSCALL, WAITING};
    let mut wanted = [0u16; 16];
    let mut want = |old: u8, news: &[u8]| {
        if let Some(row) = wanted.get_mut(usize::from(old)) {
            news.iter().for_each(|new| *row |= 1 << new);
        }
    };
    want(IDLE, &[RUNNABLE, WAITING]);
    want(DEAD, &[RUNNABLE, WAITING, SYSCALL]);
    want(DEADEXTRA, &[SYSCALL]);
    want(RUNNABLE, &[RUNNING, WAITING]);
    want(RUNNING, &[RUNNABLE, WAITING, DEAD, PREEMPTED]);
    want(SYSCALL, &[RUNNABLE, DEAD, DEADEXTRA]);
    want(WAITING, &[RUNNABLE, DEAD]);
    want(PREEMPTED, &[RUNNABLE]);
    want(LEAKED, &[RUNNABLE, DEAD]);
    want(COPYSTACK, &[RUNNABLE, WAITING]);
    if syscalls {
        want(RUNNING, &[SYSCALL]);
        want(SYSCALL, &[RUNNING]);
    }
    wanted
}
