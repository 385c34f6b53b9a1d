//! Programs that do not get the CPU time that they want: of a cgroup with a quota, or beside one that wants it too.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::story::container::Container;
use crate::story::cpus;
use crate::workload::Workload;

/// What a program is started in.
#[derive(Debug)]
pub enum Pressed {
    /// Nothing keeps it from its CPUs.
    Free,
    /// A cgroup with a quota.
    Throttled(Quota),
    /// A single CPU, of which another program takes what it can get.
    Crowded(Hog),
}

impl Pressed {
    /// Starts a workload in it, with these arguments, and waits until it is parked.
    pub fn start(&self, binary: &Path, args: &[&str]) -> Result<Workload> {
        let mut command = match self {
            Self::Free => Command::new(binary),
            Self::Throttled(quota) => {
                let join = format!(
                    "echo $$ > {}/cgroup.procs; exec \"$@\"",
                    quota.0.folder().display()
                );
                let mut command = Command::new("sh");
                command.args(["-c", &join, "sh"]).arg(binary);
                command
            }
            Self::Crowded(hog) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &hog.cpu.to_string()]).arg(binary);
                command
            }
        };
        command.args(args).arg("-control").env_remove("GODEBUG");
        Workload::start_by(command)
    }
}

/// A cgroup with a quota; removed on drop, when its processes have ended.
#[derive(Debug)]
pub struct Quota(Container);

impl Quota {
    /// Makes one with this share of a CPU, in percent.
    pub fn of_percent(percent: u32) -> Result<Self> {
        let container = Container::new(100)?;
        container.limit(percent)?;
        Ok(Self(container))
    }
}

/// A program that computes on one CPU for as long as this is there.
#[derive(Debug)]
pub struct Hog {
    child: Child,
    cpu: usize,
}

impl Hog {
    /// Starts it, on a CPU that we may use.
    pub fn start() -> Result<Self> {
        let (cpu, _) = cpus::two()?;
        let child = Command::new("taskset")
            .args(["-c", &cpu.to_string(), "sh", "-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .spawn()
            .context("starting a program that computes: taskset is needed (util-linux)")?;
        Ok(Self { child, cpu })
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
