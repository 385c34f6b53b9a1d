//! Limits and settings of a live process that its scheduler depends on: the CPU quota of its cgroup, how many threads it
//! may have, and its `GODEBUG`.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cgroup::folders_of;
use super::text_of;
use super::threads::folder;
use crate::escape::Untrusted;

/// Bits in `CapEff` of the capabilities with which RLIMIT_NPROC does not hold (kernel/fork.c, `copy_process`):
/// CAP_SYS_ADMIN and CAP_SYS_RESOURCE.
const EXEMPT: u64 = 1 << 21 | 1 << 24;

/// Limits and settings of a process. What is not known, or not limited, is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// `GODEBUG` in the environment that it was started with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub godebug: Option<Untrusted>,
    /// The tightest CPU quota of its cgroups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<CpuQuota>,
    /// Its threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u64>,
    /// The limit of threads that it is nearest to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_limit: Option<ThreadLimit>,
}

/// CPU time that a cgroup may use in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuQuota {
    /// The CPU time, in nanoseconds.
    pub quota_ns: u64,
    /// The period, in nanoseconds.
    pub period_ns: u64,
}

/// A limit of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadLimit {
    /// What limits them.
    pub by: LimitedBy,
    /// Those that count.
    pub used: u64,
    /// As many as there may be.
    pub most: u64,
}

/// What limits the number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitedBy {
    /// `pids.max` of a cgroup.
    Cgroup,
    /// RLIMIT_NPROC of its user. It counts all threads of the user; only those of the process itself are counted here.
    User,
}

impl Limits {
    /// Reads those of a process.
    pub fn of(pid: u32) -> Self {
        let proc = folder(pid);
        let proc = Path::new(&proc);
        let cgroups = fs::read(proc.join("cgroup")).unwrap_or_default();
        let status = text_of(proc.join("status")).unwrap_or_default();
        let limits = fs::read_to_string(proc.join("limits")).unwrap_or_default();
        let threads = field(&status, "Threads:").and_then(|threads| threads.parse().ok());
        let by_cgroup = folders_of(b"pids", &cgroups)
            .into_iter()
            .filter_map(|(folder, _)| pids_limit(&folder));
        let by_user = threads.and_then(|threads| user_limit(&status, &limits, threads));
        Self {
            godebug: godebug_of(pid).map(Untrusted::from),
            cpu_quota: cpu_quota(&cgroups),
            threads,
            thread_limit: nearest(by_cgroup.chain(by_user)),
        }
    }

    /// Whether nothing is known, so that there is nothing to record.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl ThreadLimit {
    /// The part of it that is used.
    fn part(&self) -> f64 {
        self.used as f64 / self.most.max(1) as f64
    }
}

/// The limit of which the largest part is used.
fn nearest(limits: impl Iterator<Item = ThreadLimit>) -> Option<ThreadLimit> {
    limits.max_by(|a, b| a.part().total_cmp(&b.part()))
}

impl CpuQuota {
    /// The quota in CPUs.
    pub fn cpus(&self) -> f64 {
        self.quota_ns as f64 / self.period_ns.max(1) as f64
    }

    /// Reads that of one cgroup, of v2 (`unified`) or v1; both have microseconds. `None` if it has none.
    fn read(folder: &Path, unified: bool) -> Option<Self> {
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let text = match unified {
            true => read("cpu.max")?,
            false => format!(
                "{} {}",
                read("cpu.cfs_quota_us")?.trim(),
                read("cpu.cfs_period_us")?
            ),
        };
        // Without a limit the quota is `max`, or -1.
        let (quota, period) = text.trim().split_once(' ')?;
        let ns = |us: &str| us.parse::<u64>().ok()?.checked_mul(1_000);
        let (quota_ns, period_ns) = (ns(quota)?, ns(period)?);
        (quota_ns > 0 && period_ns > 0).then_some(Self { quota_ns, period_ns })
    }
}

/// `GODEBUG` in the environment that a process was started with; `None` if it has none, or that cannot be read.
pub fn godebug_of(pid: u32) -> Option<String> {
    let environment = fs::read(format!("{}/environ", folder(pid))).ok()?;
    environment
        .split(|byte| *byte == 0)
        .find_map(|setting| setting.strip_prefix(b"GODEBUG="))
        .map(|value| String::from_utf8_lossy(value).into_owned())
}

/// The tightest quota of the cgroups that a process is in, and of those above them.
fn cpu_quota(cgroups: &[u8]) -> Option<CpuQuota> {
    folders_of(b"cpu", cgroups)
        .into_iter()
        .filter_map(|(folder, unified)| CpuQuota::read(&folder, unified))
        .min_by(|a, b| a.cpus().total_cmp(&b.cpus()))
}

/// The limit of one cgroup, with the same files in v1 and v2; `None` if it has none.
fn pids_limit(folder: &Path) -> Option<ThreadLimit> {
    let number = |name: &str| {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse().ok()
    };
    Some(ThreadLimit {
        by: LimitedBy::Cgroup,
        most: number("pids.max")?,
        used: number("pids.current")?,
    })
}

/// The limit of the process's user, by the contents of its `status` and `limits`; `None` where it does not hold.
fn user_limit(status: &str, limits: &str, threads: u64) -> Option<ThreadLimit> {
    let uid: u32 = field(status, "Uid:")?.parse().ok()?;
    let capabilities = u64::from_str_radix(field(status, "CapEff:")?, 16).ok()?;
    if uid == 0 || capabilities & EXEMPT != 0 {
        return None;
    }
    Some(ThreadLimit {
        by: LimitedBy::User,
        // `unlimited` is not a number.
        most: field(limits, "Max processes")?.parse().ok()?,
        used: threads,
    })
}

/// The first word behind a name at the begin of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tThreads: 7\nUid:\t1000\t0\t0\t0\nThreads:\t12\nCapEff:\t0000000000000000\n";
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units\n\
                          Max processes             100                  200                  processes\n";

    #[test]
    fn what_a_user_may_have_does_not_hold_for_root() {
        let limit = user_limit(STATUS, LIMITS, 12).unwrap();
        assert_eq!((limit.by, limit.used, limit.most), (LimitedBy::User, 12, 100));
        assert_eq!(field(STATUS, "Threads:"), Some("12"));
        for (from, to) in [
            ("Uid:\t1000", "Uid:\t0"),
            ("CapEff:\t0000000000000000", "CapEff:\t0000000001000000"),
            ("CapEff:\t0000000000000000", "CapEff:\t0000000000200000"),
            ("Uid:\t1000", "Uid:\tx"),
        ] {
            assert_eq!(user_limit(&STATUS.replace(from, to), LIMITS, 12), None, "{to}");
        }
        assert_eq!(
            user_limit(STATUS, &LIMITS.replace("100 ", "unlimited "), 12),
            None
        );
        assert_eq!(user_limit("", "", 12), None);
    }

    #[test]
    fn a_quota_is_the_same_in_both_kinds_of_cgroups() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let read = |unified| CpuQuota::read(folder.path(), unified);
        assert_eq!((read(true), read(false)), (None, None));
        write("cpu.max", "max 100000\n");
        write("cpu.cfs_quota_us", "-1\n");
        write("cpu.cfs_period_us", "100000\n");
        assert_eq!((read(true), read(false)), (None, None));
        write("cpu.max", "20000 100000\n");
        write("cpu.cfs_quota_us", "20000\n");
        let quota = CpuQuota {
            quota_ns: 20_000_000,
            period_ns: 100_000_000,
        };
        assert_eq!((read(true), read(false)), (Some(quota), Some(quota)));
        assert!((quota.cpus() - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_cgroup_without_a_limit_of_threads_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(pids_limit(folder.path()), None);
        write("pids.current", "19\n");
        write("pids.max", "max\n");
        assert_eq!(pids_limit(folder.path()), None);
        write("pids.max", "20\n");
        let limit = pids_limit(folder.path()).unwrap();
        assert_eq!((limit.by, limit.used, limit.most), (LimitedBy::Cgroup, 19, 20));
        // Fewer are left of another one, of which less is used.
        let other = ThreadLimit {
            by: LimitedBy::User,
            used: 950,
            most: 1_000,
        };
        let less = ThreadLimit {
            used: 1,
            most: 11,
            ..other
        };
        assert_eq!(nearest([less, other].into_iter()), Some(other));
        assert_eq!(nearest([other, less].into_iter()), Some(other));
    }

    #[test]
    fn those_of_a_live_process_are_read_and_survive_json() {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "read line"])
            .env("GODEBUG", "schedtrace=1000")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Its environment is that of the program that it executes.
        let limits = std::iter::repeat_with(|| Limits::of(child.id()))
            .take(1000)
            .inspect(|_| std::thread::sleep(std::time::Duration::from_millis(1)))
            .find(|limits| limits.godebug.is_some())
            .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(limits.godebug.as_ref().unwrap(), "schedtrace=1000");
        assert_eq!(limits.threads, Some(1));
        let json = serde_json::to_string(&limits).unwrap();
        assert_eq!(serde_json::from_str::<Limits>(&json).unwrap(), limits);
        assert!(Limits::of(u32::MAX).is_empty());
        assert_eq!(serde_json::to_string(&Limits::default()).unwrap(), "{}");
    }
}
