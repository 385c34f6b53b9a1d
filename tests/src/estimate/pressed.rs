//! Programs that do not get the CPU time that they want: of a cgroup with a quota, or beside one that wants it too.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::workload::Workload;

/// How long the last process of a cgroup may take to be gone.
const EMPTY: Duration = Duration::from_secs(5);
/// The length of a quota's period.
const PERIOD_US: u64 = 100_000;

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
                let join = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", quota.0.display());
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
pub struct Quota(PathBuf);

impl Quota {
    /// Makes one with this share of a CPU, in percent.
    pub fn of_percent(percent: u64) -> Result<Self> {
        let name = format!("gmpscope-test-{}-{percent}", std::process::id());
        let dir = Path::new("/sys/fs/cgroup/cpu").join(name);
        std::fs::create_dir(&dir).context("a cgroup (v1, cpu) for a quota cannot be made")?;
        let quota = Self(dir);
        std::fs::write(quota.0.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
        let share = PERIOD_US * percent / 100;
        std::fs::write(quota.0.join("cpu.cfs_quota_us"), share.to_string())?;
        Ok(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let end = Instant::now() + EMPTY;
        while std::fs::remove_dir(&self.0).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A program that computes on one CPU for as long as this is there.
#[derive(Debug)]
pub struct Hog {
    child: Child,
    cpu: u32,
}

impl Hog {
    /// Starts it.
    pub fn on_cpu(cpu: u32) -> Result<Self> {
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
