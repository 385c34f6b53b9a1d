//! Boots a real systemd in namespaces, on a copy of the root file system that is thrown away afterwards. What is
//! installed, enabled or broken in it affects nothing outside.

pub(crate) mod cgroups;

use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use self::cgroups::Cgroups;

/// How long a boot may take on a busy machine.
const BOOTED: Duration = Duration::from_secs(60);
/// Joins the groups named by `$2` and the following, then boots on the folder `$1` in new namespaces.
const OUTER: &str = "
base=$1
boot=$2
shift 2
for group in \"$@\"; do echo $$ > \"$group/cgroup.procs\" || exit; done
exec unshare --mount --pid --fork --kill-child --cgroup --uts --ipc --net sh -c \"$boot\" boot \"$base\"";
const BOOT: &str = include_str!("boot.sh");

/// A booted systemd, which ends with every process that it started when it is dropped.
#[derive(Debug)]
pub struct System {
    // Dropped in this order: the groups can be removed once the processes are gone.
    unshare: Namespaces,
    _cgroups: Cgroups,
    _base: TempDir,
}

/// The process that made the namespaces, and the first one in them.
#[derive(Debug)]
struct Namespaces {
    unshare: Child,
    init: u32,
}

impl System {
    /// Boots a systemd and waits until everything in it is up.
    ///
    /// # Errors
    /// Not root, no systemd installed, or it did not come up.
    pub fn boot() -> Result<Self> {
        if !Path::new("/lib/systemd/systemd").is_file() {
            bail!("no systemd is installed here to boot: apt-get install systemd");
        }
        let base = tempfile::tempdir()?;
        let log = base.path().join("boot.log");
        let cgroups = Cgroups::make().context("making a control group: run the tests as root")?;
        let mut command = Command::new("sh");
        command
            .args(["-c", OUTER, "boot"])
            .arg(base.path())
            .arg(BOOT)
            .args(cgroups.folders())
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&log)?)
            .stderr(std::fs::File::options().append(true).open(&log)?);
        // SAFETY: one system call, on numbers. `unshare` ends with us, and everything else with it (--kill-child).
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let unshare = command.spawn().context("starting unshare")?;
        let mut system = Self {
            unshare: Namespaces { unshare, init: 0 },
            _cgroups: cgroups,
            _base: base,
        };
        // What is mounted over the log hides it only in the new namespace.
        system.wait_until_up().with_context(|| {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            format!("booting systemd in namespaces. It said:\n{said}")
        })?;
        Ok(system)
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let end = Instant::now() + BOOTED;
        let mut state = String::new();
        while Instant::now() < end {
            if let Some(status) = self.unshare.unshare.try_wait()? {
                bail!("it ended with {status}");
            }
            self.unshare.init = first_child(self.unshare.unshare.id()).unwrap_or(0);
            if self.unshare.init != 0 && comm(self.unshare.init) == "systemd" {
                let output = self.command("systemctl").arg("is-system-running").output()?;
                state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                if matches!(state.as_str(), "running" | "degraded") {
                    return Ok(());
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("it did not come up within {BOOTED:?}; its state was {state:?}")
    }

    /// The PID of its first process on the host.
    pub fn init(&self) -> u32 {
        self.unshare.init
    }

    /// The path of one of its files on the host.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init()))
    }

    /// Returns a command that runs in it as its root.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init().to_string()])
            .args(["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net"])
            .args(["--wd=/", "--", "env", "-i", "LANG=C.UTF-8"])
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .arg("DEBIAN_FRONTEND=noninteractive")
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command in it to its end, whatever its status.
    pub fn output(&self, line: &[&str]) -> Result<Output> {
        let (program, arguments) = line.split_first().context("no command")?;
        self.command(program)
            .args(arguments)
            .output()
            .with_context(|| format!("running {line:?}"))
    }

    /// Runs a command in it, and returns its output.
    ///
    /// # Errors
    /// The command failed; the error has all its output, and the end of the journal.
    pub fn run(&self, line: &[&str]) -> Result<String> {
        let output = self.output(line)?;
        if !output.status.success() {
            bail!(
                "{line:?}: {}\n{}{}\n{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
                self.journal()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `what` in its network namespace, so that connections reach its services and not the host's.
    pub fn in_network<T: Send>(&self, what: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.init()))?;
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                // SAFETY: an open file and a number. Only this thread changes its namespace, and it ends here.
                let moved = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
                if moved != 0 {
                    return Err(std::io::Error::last_os_error()).context("setns into its network");
                }
                what()
            });
            there
                .join()
                .map_err(|_| anyhow::anyhow!("panicked in the network of the machine"))?
        })
    }

    /// Reads one property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> Result<String> {
        let value = self.run(&["systemctl", "show", "--value", "--property", name, unit])?;
        Ok(value.trim().to_owned())
    }

    /// Reads the end of its journal.
    pub fn journal(&self) -> String {
        self.output(&[
            "journalctl",
            "--no-pager",
            "--lines=60",
            "--output=short-monotonic",
        ])
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
    }

    /// Copies a file of the host into it, readable and executable by everybody.
    pub fn copy_in(&self, from: &Path, inside: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let to = self.path(inside);
        std::fs::copy(from, &to).with_context(|| format!("copying {} to {inside}", from.display()))?;
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755))?;
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // The kernel kills every process of a PID namespace together with its first one, before it notifies that one's
        // parent, which waits for it.
        if self.init != 0 {
            // SAFETY: two numbers; its parent is not yet waited for, so the number is still its own or nobody's.
            unsafe { libc::kill(self.init as i32, libc::SIGKILL) };
        } else {
            _ = self.unshare.kill();
        }
        _ = self.unshare.wait();
    }
}

/// The first child of a process.
fn first_child(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn comm(pid: u32) -> String {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    comm.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups_of_tests() -> Vec<PathBuf> {
        let ours = format!("gmpscope-test-{}-", std::process::id());
        let groups = Cgroups::hierarchies().unwrap();
        groups
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&ours))
            .collect()
    }

    #[test]
    fn nothing_is_left_of_a_machine_even_after_a_panic() {
        let init = std::sync::Mutex::new(0);
        let panicked = std::panic::catch_unwind(|| {
            let system = System::boot().unwrap();
            *init.lock().unwrap() = system.init();
            assert_eq!(system.run(&["cat", "/proc/1/comm"]).unwrap(), "systemd\n");
            let started = system
                .command("systemd-run")
                .args(["--unit=sleeps", "-p", "DynamicUser=yes", "sleep", "1000"])
                .output()
                .unwrap();
            assert!(started.status.success(), "{started:?}");
            std::fs::write(system.path("/etc/only-there"), "").unwrap();
            assert!(!groups_of_tests().is_empty());
            panic!("as a test does");
        });
        assert_eq!(
            panicked.unwrap_err().downcast_ref(),
            Some(&"as a test does"),
            "it failed before"
        );
        let init = *init.lock().unwrap();
        assert!(!Path::new(&format!("/proc/{init}")).exists());
        assert_eq!(groups_of_tests(), Vec::<PathBuf>::new());
        assert!(!Path::new("/etc/only-there").exists());
    }
}
