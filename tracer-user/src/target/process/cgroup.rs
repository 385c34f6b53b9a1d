//! How many CPUs a process's cgroups let it use.

use std::fs;
use std::path::{Path, PathBuf};

use procfs::process::{MountInfo, Process};

/// The least limit of the process's cgroup and its ancestors, in CPUs; `None` if none has one, or if the
/// cgroup file systems are not mounted where we see them.
pub(super) fn cpu_limit(process: &Process) -> Option<f64> {
    let groups = process.cgroups().ok()?;
    let mounts = Process::myself().ok()?.mountinfo().ok()?;
    let mut least: Option<f64> = None;
    for group in groups.0 {
        let unified = group.hierarchy == 0;
        if !unified && !group.controllers.iter().any(|c| c == "cpu") {
            continue;
        }
        let belongs = |m: &&MountInfo| {
            if unified {
                m.fs_type == "cgroup2"
            } else {
                m.fs_type == "cgroup" && m.super_options.contains_key("cpu")
            }
        };
        let Some((top, mut dir)) = mounts
            .0
            .iter()
            .filter(belongs)
            .find_map(|m| place(m, &group.pathname))
        else {
            continue;
        };
        loop {
            let here = if unified {
                unified_limit(&dir)
            } else {
                legacy_limit(&dir)
            };
            if let Some(limit) = here {
                least = Some(least.map_or(limit, |l| l.min(limit)));
            }
            if dir == top || !dir.pop() {
                break;
            }
        }
    }
    least
}

/// (mount point, the cgroup's directory below it). A mount may show only a subtree of the hierarchy.
fn place(mount: &MountInfo, cgroup: &str) -> Option<(PathBuf, PathBuf)> {
    let below = Path::new(cgroup).strip_prefix(&mount.root).ok()?;
    // "/../x": outside our cgroup namespace, not visible.
    if below
        .components()
        .any(|c| matches!(c, std::path::Component::ParentDir))
    {
        return None;
    }
    Some((mount.mount_point.clone(), mount.mount_point.join(below)))
}

/// cgroup v2: "max 100000" or "50000 100000", in microseconds per period.
pub(super) fn unified_limit(dir: &Path) -> Option<f64> {
    let text = fs::read_to_string(dir.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota.parse().ok()?, period.parse().ok()?)
}

/// cgroup v1: a quota of -1 is none.
pub(super) fn legacy_limit(dir: &Path) -> Option<f64> {
    let read = |name| {
        fs::read_to_string(dir.join(name))
            .ok()?
            .trim()
            .parse::<f64>()
            .ok()
    };
    ratio(read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
}

fn ratio(quota: f64, period: f64) -> Option<f64> {
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}
