//! How many CPUs a process's cgroups let it use.

use std::fs;
use std::path::{Path, PathBuf};

use procfs::process::{MountInfo, Process};

/// The least limit of the process's cgroup and its ancestors, in CPUs; `None` if none has one, or if the
/// cgroup file systems are not mounted where we see them.
pub(super) fn cpu_limit(process: &Process) -> Option<f64> {
    let mut least: Option<f64> = None;
    for Place {
        unified,
        top,
        mut dir,
    } in places(process)?
    {
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

/// `nr_throttled`, and the throttled time in nanoseconds, of the process's own cgroups: of the one that says so.
pub(super) fn throttled(process: &Process) -> Option<(u64, u64)> {
    places(process)?.into_iter().find_map(|place| {
        let text = fs::read_to_string(place.dir.join("cpu.stat")).ok()?;
        let value = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line?.trim().parse::<u64>().ok()
        };
        let time = value("throttled_time").or_else(|| value("throttled_usec")?.checked_mul(1_000));
        Some((value("nr_throttled")?, time?))
    })
}

/// Where a cgroup of the process that may limit its CPU is seen.
struct Place {
    /// cgroup v2.
    unified: bool,
    /// The mount point.
    top: PathBuf,
    /// The cgroup's directory.
    dir: PathBuf,
}

fn places(process: &Process) -> Option<Vec<Place>> {
    let groups = process.cgroups().ok()?;
    let mounts = Process::myself().ok()?.mountinfo().ok()?;
    let seen = groups.0.iter().filter_map(|group| {
        let unified = group.hierarchy == 0;
        if !unified && !group.controllers.iter().any(|c| c == "cpu") {
            return None;
        }
        let belongs = |m: &&MountInfo| {
            if unified {
                m.fs_type == "cgroup2"
            } else {
                m.fs_type == "cgroup" && m.super_options.contains_key("cpu")
            }
        };
        let (top, dir) = mounts
            .0
            .iter()
            .filter(belongs)
            .find_map(|m| place(m, &group.pathname))?;
        Some(Place { unified, top, dir })
    });
    Some(seen.collect())
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
