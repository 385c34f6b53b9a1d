//! A control group for processes of a test: with a quota of CPU time, a weight, or a limit of threads, on v1 and v2.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::hierarchy::Hierarchy;
use super::quota::{Quota, throttled_ns};

/// How long the kernel may take to release the last process of a group.
const EMPTY: Duration = Duration::from_secs(10);

/// A control group. It is removed on drop; the processes in it must have ended.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    /// Whether it is of v2.
    is_unified: bool,
}

impl Group {
    /// Makes a group with a controller (`cpu`, `pids`) at the top of the hierarchy that has it: in v2 it is the only place
    /// where processes may be beside groups that have controllers.
    ///
    /// # Errors
    /// We are not root, or there is no hierarchy with the controller.
    pub fn new(controller: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let hierarchy = Hierarchy::with(controller)?;
        let is_unified = hierarchy.is_unified();
        if is_unified {
            let file = hierarchy.top.join("cgroup.subtree_control");
            write(&file, &format!("+{controller}")).context("run the tests as root")?;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("gmpscope-group-{}-{number}", std::process::id());
        let folder = hierarchy.top.join(name);
        fs::create_dir(&folder).with_context(|| {
            format!(
                "making the control group {}: run the tests as root",
                folder.display()
            )
        })?;
        Ok(Self { folder, is_unified })
    }

    /// Makes a group with a quota of CPU time.
    pub fn with_quota(quota: Quota) -> Result<Self> {
        let group = Self::new("cpu")?;
        group.limit_cpu(quota)?;
        Ok(group)
    }

    /// The folder of the group.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sets how much CPU time it may use.
    pub fn limit_cpu(&self, quota: Quota) -> Result<()> {
        let (time, period) = (quota.time.as_micros(), quota.period.as_micros());
        if self.is_unified {
            return self.write("cpu.max", &format!("{time} {period}"));
        }
        self.write("cpu.cfs_period_us", &period.to_string())?;
        self.write("cpu.cfs_quota_us", &time.to_string())
    }

    /// Sets its weight, on the scale of v2: 100 is that of a group that nobody has set a weight for.
    pub fn weigh(&self, weight: u32) -> Result<()> {
        match self.is_unified {
            true => self.write("cpu.weight", &weight.to_string()),
            false => self.write("cpu.shares", &(weight * 1024 / 100).to_string()),
        }
    }

    /// For how long it was throttled: the sum over all CPUs, of stretches that have ended.
    pub fn throttled_ns(&self) -> Result<u64> {
        let text = self.read("cpu.stat")?;
        throttled_ns(&text).with_context(|| format!("cpu.stat has no throttled time:\n{text}"))
    }

    /// The number of threads in it.
    pub fn threads(&self) -> Result<u64> {
        let text = self.read("pids.current")?;
        text.trim().parse().context("pids.current is not a number")
    }

    /// Lets it have at most so many threads.
    pub fn limit_threads(&self, most: u64) -> Result<()> {
        self.write("pids.max", &most.to_string())
    }

    /// Moves a process into it, with all its threads.
    pub fn add(&self, pid: u32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// The file by which a process that writes a 0 into it moves itself into the group.
    pub fn door(&self) -> Result<File> {
        let file = self.folder.join("cgroup.procs");
        let opened = File::options().write(true).open(&file);
        opened.with_context(|| format!("opening {}", file.display()))
    }

    fn read(&self, name: &str) -> Result<String> {
        let file = self.folder.join(name);
        fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        write(&self.folder.join(name), text)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("writing {text:?} into {}", file.display()))
}

/// Removes a group and those below it, once the last process in them has ended.
pub fn remove(folder: &Path) {
    let end = Instant::now() + EMPTY;
    while remove_empty(folder).is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn remove_empty(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_empty(&path)?;
        }
    }
    fs::remove_dir(folder)
}
