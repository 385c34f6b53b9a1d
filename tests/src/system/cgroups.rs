//! Makes a control group in each hierarchy of the host, below which a booted systemd makes its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long the kernel may take to release the last process of a group.
const EMPTY: Duration = Duration::from_secs(10);

/// The control groups. They are removed on drop; what is in them must have ended.
#[derive(Debug, Default)]
pub struct Cgroups {
    folders: Vec<PathBuf>,
}

impl Cgroups {
    /// Makes them below the groups that we are in.
    pub fn make() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "gmpscope-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let mut groups = Self::default();
        for ours in Self::hierarchies()? {
            let folder = ours.join(&name);
            fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
            groups.folders.push(folder);
        }
        Ok(groups)
    }

    /// Their paths.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Our own group in each hierarchy, except cpuset, where a group accepts nobody before it is given CPUs.
    pub fn hierarchies() -> Result<Vec<PathBuf>> {
        let ours = fs::read_to_string("/proc/self/cgroup")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mut folders = Vec::new();
        for line in ours.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                bail!("not a line of /proc/self/cgroup: {line:?}");
            };
            if controllers == "cpuset" {
                continue;
            }
            if let Some(mounted) = mounts.lines().find_map(|mount| mounted_at(mount, controllers)) {
                folders.push(mounted.join(path.trim_start_matches('/')));
            }
        }
        if folders.is_empty() {
            bail!("no hierarchy of control groups is mounted here");
        }
        Ok(folders)
    }
}

/// Where a line of mountinfo (proc(5)) mounts the whole hierarchy of these controllers; the unified one has none.
pub(crate) fn mounted_at(mount: &str, controllers: &str) -> Option<PathBuf> {
    let (before, after) = mount.split_once(" - ")?;
    let before: Vec<&str> = before.split(' ').collect();
    let (root, at) = (*before.get(3)?, *before.get(4)?);
    let mut after = after.split(' ');
    let (kind, options) = (after.next()?, after.nth(1)?);
    let is_it = match controllers {
        "" => kind == "cgroup2",
        named => kind == "cgroup" && named.split(',').all(|one| options.split(',').any(|o| o == one)),
    };
    (is_it && root == "/").then(|| PathBuf::from(at))
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let end = Instant::now() + EMPTY;
        for folder in &self.folders {
            while remove(folder).is_err() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Removes a group and those below it.
fn remove(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove(&path)?;
        }
    }
    fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_recognized_by_their_controllers() {
        let memory = "30 26 0:26 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory";
        let unified = "31 26 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let bound = "32 26 0:26 /a /mnt rw,relatime - cgroup cgroup rw,memory";
        assert_eq!(mounted_at(memory, "memory"), Some("/sys/fs/cgroup/memory".into()));
        assert_eq!(mounted_at(memory, "cpu,cpuacct"), None);
        assert_eq!(mounted_at(memory, ""), None);
        assert_eq!(mounted_at(unified, ""), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mounted_at(bound, "memory"), None);
    }
}
