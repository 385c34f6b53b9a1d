//! A control group with a CPU quota, in whichever hierarchy has the cpu controller here: v2, or v1.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long the kernel may take to release the last process of a group.
const EMPTY: Duration = Duration::from_secs(10);

/// A quota: CPU time for each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// CPU time, in microseconds.
    pub quota_us: u32,
    /// The period, in microseconds.
    pub period_us: u32,
}

/// A control group with a quota. It is removed on drop; the processes in it must have ended.
#[derive(Debug)]
pub struct Quota(PathBuf);

impl Quota {
    /// Makes a group at the top of the hierarchy, where a group of v2 may have processes and children.
    ///
    /// # Errors
    /// We are not root, or there is no hierarchy with the cpu controller.
    pub fn make(limit: Limit) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let hierarchy = Hierarchy::with_cpu()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("gmpscope-test-cause-{}-{number}", std::process::id());
        let folder = hierarchy.top.join(name);
        if hierarchy.unified {
            write(&hierarchy.top.join("cgroup.subtree_control"), "+cpu")?;
        }
        fs::create_dir(&folder).with_context(|| {
            format!(
                "making the control group {}: run the tests as root",
                folder.display()
            )
        })?;
        let quota = Self(folder);
        let Limit { quota_us, period_us } = limit;
        if hierarchy.unified {
            write(&quota.0.join("cpu.max"), &format!("{quota_us} {period_us}"))?;
        } else {
            write(&quota.0.join("cpu.cfs_period_us"), &period_us.to_string())?;
            write(&quota.0.join("cpu.cfs_quota_us"), &quota_us.to_string())?;
        }
        Ok(quota)
    }

    /// Moves a process into it, with all its threads.
    pub fn add(&self, pid: u32) -> Result<()> {
        write(&self.0.join("cgroup.procs"), &pid.to_string())
    }

    /// For how long it was throttled: the sum over all CPUs, of stretches that have ended.
    pub fn throttled_ns(&self) -> Result<u64> {
        let file = self.0.join("cpu.stat");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        throttled_ns(&text).with_context(|| format!("{} does not say so:\n{text}", file.display()))
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let end = Instant::now() + EMPTY;
        while fs::remove_dir(&self.0).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("writing {text:?} into {}", file.display()))
}

/// The throttled time in a `cpu.stat`, of v1 (nanoseconds) or v2 (microseconds).
fn throttled_ns(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        let value: u64 = value.trim().parse().ok()?;
        match name {
            "throttled_time" => Some(value),
            "throttled_usec" => value.checked_mul(1_000),
            _ => None,
        }
    })
}

/// A hierarchy of control groups.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// Whether it is that of v2.
    unified: bool,
    /// Where it is mounted.
    top: PathBuf,
}

impl Hierarchy {
    fn with_cpu() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mut all = mounts.lines().filter_map(Self::parse);
        all.find(Self::has_cpu)
            .context("no hierarchy of control groups with the cpu controller is mounted here")
    }

    /// A line of mountinfo (proc(5)) that mounts the whole of v2, or of the hierarchy of v1 with the cpu controller.
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        let (root, top) = (*before.get(3)?, *before.get(4)?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let unified = match kind {
            "cgroup2" => true,
            "cgroup" if options.split(',').any(|option| option == "cpu") => false,
            _ => return None,
        };
        (root == "/").then(|| Self {
            unified,
            top: PathBuf::from(top),
        })
    }

    fn has_cpu(&self) -> bool {
        let controllers = fs::read_to_string(self.top.join("cgroup.controllers")).unwrap_or_default();
        !self.unified || controllers.split_whitespace().any(|name| name == "cpu")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_that_may_have_the_cpu_controller_are_recognized() {
        let found = |unified, top: &str| {
            Some(Hierarchy {
                unified,
                top: PathBuf::from(top),
            })
        };
        for (line, expected) in [
            (
                "31 26 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
                found(true, "/sys/fs/cgroup"),
            ),
            (
                "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct",
                found(false, "/sys/fs/cgroup/cpu,cpuacct"),
            ),
            ("33 31 0:30 / /cpuset rw - cgroup cgroup rw,cpuset", None),
            ("32 31 0:29 /a /mnt rw - cgroup cgroup rw,cpu", None),
            ("27 1 254:0 / / rw - ext4 /dev/vda rw", None),
            ("", None),
        ] {
            assert_eq!(Hierarchy::parse(line), expected, "{line}");
        }
    }

    #[test]
    fn throttled_time_is_read_in_either_unit() {
        let legacy = "nr_periods 9\nnr_throttled 4\nthrottled_time 1234567\nnr_bursts 0\n";
        let unified = "usage_usec 5\nnr_periods 9\nnr_throttled 4\nthrottled_usec 1234\n";
        assert_eq!(throttled_ns(legacy), Some(1_234_567));
        assert_eq!(throttled_ns(unified), Some(1_234_000));
        assert_eq!(throttled_ns("usage_usec 5\n"), None);
    }
}
