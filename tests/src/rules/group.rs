//! A control group for one workload: with a quota of CPU time, or a limit of threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long the last process of a group may take to leave it.
const EMPTY: Duration = Duration::from_secs(5);

/// A control group, removed on drop; what is in it must have ended.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    /// Whether it is of v2.
    unified: bool,
}

impl Group {
    /// Makes a group with a controller (`cpu`, `pids`): in the hierarchy of v1 that has it, or else in that of v2.
    pub fn new(controller: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let (top, unified) = hierarchy(&mounts, controller)
            .with_context(|| format!("no hierarchy of control groups with {controller} is mounted"))?;
        if unified {
            // Only at the top there may be processes beside groups that have controllers.
            let file = top.join("cgroup.subtree_control");
            fs::write(&file, format!("+{controller}"))
                .with_context(|| format!("writing {}: run this as root", file.display()))?;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = top.join(format!("gmpscope-rules-{}-{number}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("making {}: run this as root", folder.display()))?;
        Ok(Self { folder, unified })
    }

    /// Lets it use this much CPU time in each period.
    pub fn limit_cpu(&self, quota: Duration, period: Duration) -> Result<()> {
        let (quota, period) = (quota.as_micros(), period.as_micros());
        if self.unified {
            return self.write("cpu.max", &format!("{quota} {period}"));
        }
        self.write("cpu.cfs_period_us", &period.to_string())?;
        self.write("cpu.cfs_quota_us", &quota.to_string())
    }

    /// The number of threads in it.
    pub fn threads(&self) -> Result<u64> {
        let text = fs::read_to_string(self.folder.join("pids.current"))?;
        text.trim().parse().context("pids.current is not a number")
    }

    /// Lets it have at most so many threads.
    pub fn limit_threads(&self, most: u64) -> Result<()> {
        self.write("pids.max", &most.to_string())
    }

    /// Moves a process into it.
    pub fn add(&self, pid: u32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.folder.join(name);
        fs::write(&file, text).with_context(|| format!("writing {text} to {}", file.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let end = Instant::now() + EMPTY;
        while fs::remove_dir(&self.folder).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The hierarchy that has a controller, and whether it is that of v2, by the lines of mountinfo (proc(5)).
fn hierarchy(mounts: &str, controller: &str) -> Option<(PathBuf, bool)> {
    let mut unified = None;
    for mount in mounts.lines() {
        let Some((before, after)) = mount.split_once(" - ") else {
            continue;
        };
        let mut before = before.split(' ').skip(3);
        let (Some("/"), Some(at)) = (before.next(), before.next()) else {
            continue;
        };
        let after: Vec<&str> = after.split(' ').collect();
        match after.as_slice() {
            ["cgroup", _, options] if options.split(',').any(|option| option == controller) => {
                return Some((at.into(), false));
            }
            ["cgroup2", ..] if has(Path::new(at), controller) => unified = Some((at.into(), true)),
            _ => {}
        }
    }
    unified
}

/// Whether the hierarchy of v2 has a controller.
fn has(top: &Path, controller: &str) -> bool {
    let controllers = fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
    controllers.split_whitespace().any(|name| name == controller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_looked_for_in_v1_first() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "cpu pids\n").unwrap();
        let at = folder.path().display();
        let unified = format!("31 26 0:27 / {at} rw - cgroup2 cgroup2 rw\n");
        let legacy = "30 26 0:26 / /sys/fs/cgroup/cpu rw shared:5 - cgroup cgroup rw,cpu\n";
        let bound = "32 26 0:26 /a /mnt rw - cgroup cgroup rw,pids\n";
        let found = |mounts: &str, controller| hierarchy(mounts, controller);
        assert_eq!(
            found(&format!("{unified}{legacy}{bound}"), "cpu"),
            Some(("/sys/fs/cgroup/cpu".into(), false))
        );
        assert_eq!(
            found(&format!("{unified}{legacy}{bound}"), "pids"),
            Some((folder.path().to_owned(), true))
        );
        assert_eq!(found(legacy, "pids"), None);
        assert_eq!(found(&unified, "memory"), None);
    }
}
