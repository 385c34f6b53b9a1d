//! Attaches to a process: its probes, the tracepoints of Linux's scheduler, and what the programs must know.

use std::{fs::File, time::Instant};

use tracer_ebpf::{
    TargetConfig,
    full::{FullConfig, FullCounters, TaskConfig, status},
};

use super::{
    CALIBRATION_SLOT, SETTLED_AFTER, SLOT, Stacks, StacksWanted, TransitionSource, beside::Beside,
    rings::KernelRing, tables, throttling::ThrottleReader,
};
use crate::{
    bpf::{Capacity, Kernel, ProgramKind, Scope, attach, calibrate},
    clock::now_ns,
    error::{Error, Result},
    plan::{Site, SiteKind},
    sources::{
        execs,
        plugins::{PluginProbes, PluginRequest},
        probes::target::{instructions_of, points},
        starts::task::TaskOffsets,
    },
    stream::reorder::{Reorder, Ring as _},
};

/// Tracepoints of Linux's scheduler, and the programs for them where the kernel has attach cookies and where it does not.
const THREAD_POINTS: [(&str, &str, &str); 3] = [
    ("sched_switch", "full_switch_cookie", "full_switch_ip"),
    ("sched_wakeup", "full_wakeup_cookie", "full_wakeup_ip"),
    ("sched_process_exit", "full_exit_cookie", "full_exit_ip"),
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
    /// Bytes of all rings together: a power of two.
    pub ring_bytes: u32,
    /// [`ProgramKind::Full`], or [`ProgramKind::Empty`] to see what the traps alone cost.
    pub program: ProgramKind,
    /// Whether the stacks of goroutines that block are reported.
    pub stacks: Option<StacksWanted>,
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
            throttling: ThrottleReader::new(request.pid),
            beside: Beside::default(),
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
            followed: pid,
            target: SLOT,
            tgid: offsets.tgid,
            pid: offsets.pid,
            state: offsets.state,
        };
        let as_reason = |e: Error| e.to_string();
        tables::describe_tasks(&mut self.kernel.ebpf, task).map_err(as_reason)?;
        for (point, with_cookies, without) in THREAD_POINTS {
            let program = if aya::features().bpf_cookie() {
                with_cookies
            } else {
                without
            };
            let link = self.kernel.attach_point(program, point).map_err(as_reason)?;
            self.points.push(link);
        }
        Ok(())
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
    // Running again: the end of a GC assist. No other site is probed that makes this change.
    want(WAITING, &[RUNNABLE, RUNNING, DEAD]);
    want(PREEMPTED, &[RUNNABLE]);
    want(LEAKED, &[RUNNABLE, DEAD]);
    want(COPYSTACK, &[RUNNABLE, WAITING]);
    if syscalls {
        want(RUNNING, &[SYSCALL]);
        want(SYSCALL, &[RUNNING]);
    }
    wanted
}
