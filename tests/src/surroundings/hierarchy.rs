//! Where hierarchies of control groups are mounted: those of v1, one for each set of controllers, and that of v2.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// A hierarchy of control groups, the whole of which is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub top: PathBuf,
    /// The options of one of v1, its controllers among them; `None` for that of v2.
    options: Option<Vec<String>>,
}

impl Hierarchy {
    /// All that are mounted here.
    pub fn all() -> Result<Vec<Self>> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(mounts.lines().filter_map(Self::parse).collect())
    }

    /// The hierarchy that has a controller (`cpu`, `pids`): one of v1, or else that of v2.
    ///
    /// # Errors
    /// There is none.
    pub fn with(controller: &str) -> Result<Self> {
        Self::pick(Self::all()?, controller).with_context(|| {
            format!("no hierarchy of control groups with the controller {controller} is mounted here")
        })
    }

    fn pick(all: Vec<Self>, controller: &str) -> Option<Self> {
        let (unified, legacy): (Vec<_>, Vec<_>) = all.into_iter().partition(Self::is_unified);
        let mut ordered = legacy.into_iter().chain(unified);
        ordered.find(|hierarchy| hierarchy.has(controller))
    }

    /// A line of mountinfo (proc(5)) that mounts the whole of a hierarchy.
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, top) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let options = match kind {
            "cgroup2" => None,
            "cgroup" => Some(options.split(',').map(str::to_owned).collect()),
            _ => return None,
        };
        (root == "/").then(|| Self {
            top: PathBuf::from(top),
            options,
        })
    }

    /// Whether it is that of v2.
    pub fn is_unified(&self) -> bool {
        self.options.is_none()
    }

    /// Whether it is the one that `/proc/self/cgroup` names by these controllers: by none that of v2.
    pub fn is_of(&self, controllers: &str) -> bool {
        match &self.options {
            None => controllers.is_empty(),
            Some(options) => controllers
                .split(',')
                .all(|one| options.iter().any(|option| option == one)),
        }
    }

    fn has(&self, controller: &str) -> bool {
        match &self.options {
            Some(options) => options.iter().any(|option| option == controller),
            None => {
                let controllers = fs::read_to_string(self.top.join("cgroup.controllers")).unwrap_or_default();
                controllers.split_whitespace().any(|name| name == controller)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of v1.
    fn legacy(top: &str, options: &[&str]) -> Hierarchy {
        Hierarchy {
            top: PathBuf::from(top),
            options: Some(options.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn lines_that_mount_a_whole_hierarchy_are_recognized() {
        for (line, expected) in [
            (
                "31 26 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
                Some(Hierarchy {
                    top: PathBuf::from("/sys/fs/cgroup"),
                    options: None,
                }),
            ),
            (
                "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct",
                Some(legacy("/sys/fs/cgroup/cpu,cpuacct", &["rw", "cpu", "cpuacct"])),
            ),
            ("32 31 0:29 /a /mnt rw - cgroup cgroup rw,cpu", None),
            ("27 1 254:0 / / rw - ext4 /dev/vda rw", None),
            ("", None),
        ] {
            assert_eq!(Hierarchy::parse(line), expected, "{line}");
        }
    }

    #[test]
    fn hierarchies_are_recognized_by_their_controllers() {
        let cpu = legacy("/cpu", &["rw", "cpu", "cpuacct"]);
        let unified = Hierarchy {
            top: PathBuf::from("/unified"),
            options: None,
        };
        assert!(cpu.is_of("cpu,cpuacct") && cpu.is_of("cpu"));
        assert!(!cpu.is_of("cpu,memory") && !cpu.is_of(""));
        assert!(unified.is_of("") && !unified.is_of("cpu"));
        assert!(unified.is_unified() && !cpu.is_unified());
    }

    #[test]
    fn a_controller_is_looked_for_in_v1_first() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "cpu pids\n").unwrap();
        let unified = Hierarchy {
            top: folder.path().to_owned(),
            options: None,
        };
        let cpu = legacy("/sys/fs/cgroup/cpu", &["rw", "cpu"]);
        let cpuset = legacy("/sys/fs/cgroup/cpuset", &["rw", "cpuset"]);
        let all = vec![unified.clone(), cpuset, cpu.clone()];
        assert_eq!(Hierarchy::pick(all.clone(), "cpu"), Some(cpu));
        assert_eq!(Hierarchy::pick(all.clone(), "pids"), Some(unified));
        assert_eq!(Hierarchy::pick(all, "memory"), None);
    }
}
