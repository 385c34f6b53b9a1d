//! Makes a control group in each hierarchy of the host, below which a booted systemd makes its own.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::surroundings::{Hierarchy, group};

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
        let hierarchies = Hierarchy::all()?;
        let mut folders = Vec::new();
        for line in ours.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                bail!("not a line of /proc/self/cgroup: {line:?}");
            };
            if controllers == "cpuset" {
                continue;
            }
            if let Some(mounted) = hierarchies.iter().find(|hierarchy| hierarchy.is_of(controllers)) {
                folders.push(mounted.top.join(path.trim_start_matches('/')));
            }
        }
        if folders.is_empty() {
            bail!("no hierarchy of control groups is mounted here");
        }
        Ok(folders)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.folders.iter().for_each(|folder| group::remove(folder));
    }
}
