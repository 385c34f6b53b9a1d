//! A control group with a weight, and perhaps a quota, of CPU time, on v1 and v2.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::cpus;
use crate::system::cgroups::mounted_at;

/// How long the kernel may take to release the last process of a group.
const EMPTY: Duration = Duration::from_secs(10);
/// The period of a quota, in microseconds.
const PERIOD: u32 = 100_000;

/// The version of control groups by which CPU time is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// A control group, removed on drop: the processes in it must have ended.
#[derive(Debug)]
pub struct Container {
    folder: PathBuf,
    version: Version,
}

impl Container {
    /// Makes a group with this weight, on the scale of v2: 100 is that of a group that nobody has set a weight for.
    pub fn new(weight: u32) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (parent, version) = parent()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("gmpscope-container-{}-{number}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("making {}: this needs root", folder.display()))?;
        let container = Self { folder, version };
        match version {
            Version::V1 => container.set("cpu.shares", &(weight * 1024 / 100).to_string())?,
            Version::V2 => container.set("cpu.weight", &weight.to_string())?,
        }
        Ok(container)
    }

    /// Sets its quota, in percent of a CPU.
    pub fn limit(&self, percent: u32) -> Result<()> {
        let quota = PERIOD / 100 * percent;
        match self.version {
            Version::V1 => {
                self.set("cpu.cfs_period_us", &PERIOD.to_string())?;
                self.set("cpu.cfs_quota_us", &quota.to_string())
            }
            Version::V2 => self.set("cpu.max", &format!("{quota} {PERIOD}")),
        }
    }

    /// The folder of the group.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Has a command start in it, on this CPU, and end with the thread that starts it.
    pub fn hold(&self, command: &mut Command, cpu: usize) -> Result<()> {
        let file = self.folder.join("cgroup.procs");
        let procs = File::options().write(true).open(&file);
        let procs = procs.with_context(|| format!("opening {}", file.display()))?;
        // SAFETY: the closure makes system calls only. The CPU comes last: a group may set which ones are allowed.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                (&procs).write_all(b"0")?;
                cpus::confine(0, cpu)
            });
        }
        Ok(())
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        let file = self.folder.join(name);
        fs::write(&file, value).with_context(|| format!("writing {value:?} to {}", file.display()))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let end = Instant::now() + EMPTY;
        while fs::remove_dir(&self.folder).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The group in which containers are made. Of v1 it is our own. Of v2 it is the root, the only one that may have both
/// processes and groups that it gives CPU time to.
fn parent() -> Result<(PathBuf, Version)> {
    let ours = fs::read_to_string("/proc/self/cgroup")?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mounted = |controllers| mounts.lines().find_map(|mount| mounted_at(mount, controllers));
    if let (Some(own), Some(top)) = (own_of_v1(&ours), mounted("cpu")) {
        return Ok((top.join(own.trim_start_matches('/')), Version::V1));
    }
    let root = mounted("").context("no hierarchy of control groups for CPU time is mounted here")?;
    give_cpu_time(&root)?;
    Ok((root, Version::V2))
}

/// Our group in the hierarchy of v1 with the controller `cpu`, by the content of `/proc/self/cgroup`.
fn own_of_v1(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|name| name == "cpu").then_some(path)
    })
}

/// Has the groups below this one of v2 get weights and quotas, unless they have them already.
fn give_cpu_time(root: &Path) -> Result<()> {
    let has_cpu = |name: &str| -> Result<bool> {
        let file = root.join(name);
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(text.split_whitespace().any(|controller| controller == "cpu"))
    };
    ensure!(
        has_cpu("cgroup.controllers")?,
        "{} has no controller of CPU time",
        root.display()
    );
    if has_cpu("cgroup.subtree_control")? {
        return Ok(());
    }
    let file = root.join("cgroup.subtree_control");
    fs::write(&file, "+cpu").with_context(|| format!("writing \"+cpu\" to {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_group_is_that_of_the_controller() {
        let cgroups = "5:memory:/a\n2:cpu,cpuacct:/b:c\n1:cpuset:/d\n0::/e\n";
        assert_eq!(own_of_v1(cgroups), Some("/b:c"));
        assert_eq!(own_of_v1("1:cpuset:/d\n0::/e\n"), None);
    }

    #[test]
    fn a_process_starts_in_the_group_and_the_group_is_removed() {
        let container = Container::new(100).unwrap();
        container.limit(50).unwrap();
        let (cpu, _) = cpus::two().unwrap();
        let mut command = Command::new("cat");
        command.args(["/proc/self/cgroup", "/proc/self/status"]);
        container.hold(&mut command, cpu).unwrap();
        let printed = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let name = container.folder.file_name().unwrap().to_str().unwrap();
        assert!(printed.contains(&format!("/{name}\n")), "{printed}");
        assert!(
            printed.contains(&format!("Cpus_allowed_list:\t{cpu}\n")),
            "{printed}"
        );
        let folder = container.folder.clone();
        drop(container);
        assert!(!folder.exists());
    }
}
