//! Watches several targets with one load of the kernel side, through the library; shared by tests and benches.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tracer_user::plan::Plan;
use tracer_user::sources::host::{HostKernel, SlotId};
use tracer_user::{
    binary::{Globals, globals, layout},
    process::Target,
};
use tracer_user::{
    bpf::{Capacity, ProgramKind},
    clock::ClockOffset,
    sources::probes::{Request, config_of},
};

use crate::environment::monotonic_ns;
use crate::{Toolchain, Variant, Workload};

/// Loads the kernel side, with room for this many targets.
pub fn host(targets: u32, exact: bool) -> Result<HostKernel> {
    HostKernel::load(Capacity::for_host(targets, exact)).context("run the tests as root")
}

/// A running workload, and how to attach to it.
pub struct Subject {
    /// The running workload.
    pub workload: Workload,
    target: Target,
    plan: Plan,
    globals: Globals,
    layout: Option<layout::Layout>,
}

impl Subject {
    /// Starts a workload on two Ps, and analyses its program.
    pub fn start(toolchain: &Toolchain, program: &str) -> Result<Self> {
        let workload = Workload::start(&Variant::Plain.build(toolchain, program)?, 2, &[])?;
        let (target, (plan, globals, layout)) =
            Target::of_process(workload.pid() as i32, |target, binary| {
                let facts = &target.facts;
                let layout = layout::find(&facts.version, facts.arch, &facts.build_tags())
                    .ok()
                    .map(|(layout, _)| layout);
                let globals = globals::find(binary, layout.as_ref());
                let plan = Plan::of(binary, layout.as_ref(), facts.version.minor, false);
                Ok((plan, globals, layout))
            })?;
        Ok(Self {
            workload,
            target,
            plan,
            globals,
            layout,
        })
    }

    /// Attaches to the workload.
    pub fn attach(&self, host: &mut HostKernel, program: ProgramKind, cap: Option<u64>) -> Result<SlotId> {
        let sampled = self.plan.sampled.as_ref().ok().context("sampled cannot be had")?;
        let exact = self.plan.exact.as_ref().ok().context("exact cannot be had")?;
        let stamp = self.layout.as_ref().map(|layout| layout.g.tracking_stamp);
        let request = Request {
            pid: self.workload.pid(),
            file: self.target.file.file(),
            program,
            sites: if program == ProgramKind::Exact {
                exact
            } else {
                &sampled.sites
            },
            bias: self.target.load_bias,
            config: config_of(
                self.layout.as_ref(),
                sampled.stamp.or(stamp),
                &self.globals,
                self.target.load_bias,
                ClockOffset::NONE,
            ),
            goroutines: u64::MAX,
        };
        Ok(host.attach(&request, cap, monotonic_ns())?)
    }
}

/// Runs `true` this many times, and calls `each` after every 20; returns the PIDs.
pub fn storm(processes: usize, mut each: impl FnMut() -> Result<()>) -> Result<BTreeSet<u32>> {
    let mut pids = BTreeSet::new();
    while pids.len() < processes {
        let mut children = Vec::new();
        for _ in 0..20 {
            let child = Command::new("/bin/true").stdin(Stdio::null()).spawn();
            children.push(child.context("/bin/true cannot be started")?);
        }
        for mut child in children {
            pids.insert(child.id());
            child.wait()?;
        }
        each()?;
    }
    Ok(pids)
}

/// PIDs of the watchdogs of this process, zombies included.
pub fn watchdogs_of(parent: u32) -> Result<Vec<u32>> {
    children_of(parent, "gmpscope-watch")
}

/// PIDs of the children of this process that have this name in `ps`, zombies included.
pub fn children_of(parent: u32, name: &str) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        // PID (COMM) STATE PPID; it may have ended meanwhile.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((before, behind)) = stat.rsplit_once(") ") else {
            continue;
        };
        let is_child = behind.split(' ').nth(1) == Some(&parent.to_string());
        if is_child && before.ends_with(&format!("({name}")) {
            found.push(pid);
        }
    }
    Ok(found)
}
