//! A running `gmpscope daemon`, as its service manager and its scraper see it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::environment::gmpscope;
use crate::exposition::Exposition;
use crate::http;

/// How long the daemon may take to be ready, on a machine where other tests compile.
const READY: Duration = Duration::from_secs(30);
/// How long something that the daemon does by itself may take to become visible.
pub const SEEN: Duration = Duration::from_secs(30);

/// The beginning of every test's configuration: only what its own rules name is watched, and it is read often.
const BASE: &str = "\
tier.highest = \"off\"
tier.passive_interval = \"500ms\"
tier.probe_interval = \"500ms\"
discovery.interval = \"2s\"
discovery.settle = \"100ms\"
";

/// A running daemon, killed on drop.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    notifications: Receiver<String>,
    address: SocketAddr,
    dir: TempDir,
}

impl Daemon {
    /// Starts a daemon with [`BASE`] and this configuration, and waits until it reports that it is ready.
    pub fn start(config: &str) -> Result<Self> {
        Self::start_with(config, |_| Ok(()))
    }

    /// Like [`Self::start`], but lets `change` modify the command last.
    pub fn start_with(config: &str, change: impl FnOnce(&mut Command) -> Result<()>) -> Result<Self> {
        let mut daemon = Self::spawn(config, change)?;
        daemon.wait_for_notification("READY=1", READY)?;
        Ok(daemon)
    }

    /// Starts a daemon with the defaults of the package, except for this configuration, and ignores other processes.
    pub fn start_as_installed(config: &str) -> Result<Self> {
        let mut daemon = Self::spawn_with_file(&format!("tier.highest = \"off\"\n{config}"), |_| Ok(()))?;
        daemon.wait_for_notification("READY=1", READY)?;
        Ok(daemon)
    }

    /// Starts a daemon without waiting.
    pub fn spawn(config: &str, change: impl FnOnce(&mut Command) -> Result<()>) -> Result<Self> {
        Self::spawn_with_file(&format!("{BASE}{config}"), change)
    }

    fn spawn_with_file(config: &str, change: impl FnOnce(&mut Command) -> Result<()>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("config.toml");
        fs::write(&file, config)?;
        let socket = dir.path().join("notify");
        let notifications = notifications(UnixDatagram::bind(&socket)?);
        // It may be run as another user.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777))?;
        // Bound and released: the kernel does not give the port to another process so soon.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(gmpscope()?);
        command
            .arg("daemon")
            .arg("--config")
            .arg(&file)
            .args(["--http-listen", &address.to_string()])
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.path().join("stderr"))?);
        change(&mut command)?;
        let child = command.spawn().context("starting gmpscope daemon")?;
        Ok(Self {
            child,
            notifications,
            address,
            dir,
        })
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The path of its configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    /// Replaces its configuration file by [`BASE`] and this configuration.
    pub fn configure(&self, config: &str) -> Result<()> {
        self.replace_config(format!("{BASE}{config}").as_bytes())
    }

    /// Replaces its configuration file by any bytes, atomically: a reload sees the old one or the new one, never an
    /// empty one, which would be valid and mean all defaults.
    pub fn replace_config(&self, bytes: &[u8]) -> Result<()> {
        let new = self.dir.path().join("config.new");
        fs::write(&new, bytes)?;
        fs::rename(&new, self.config())?;
        Ok(())
    }

    /// Takes the pipe to which the daemon writes its log, if `change` has set one.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Everything that it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    /// Requests a page.
    pub fn get(&self, path: &str) -> Result<http::Response> {
        http::get(self.address, path)
    }

    /// Scrapes its metrics.
    pub fn metrics(&self) -> Result<Exposition> {
        Exposition::parse(self.get("/metrics")?.ok()?.text()?)
    }

    /// Waits until `find` finds something in its metrics; `what` names it in the error.
    pub fn wait_for<T>(&self, what: &str, find: impl Fn(&Exposition) -> Option<T>) -> Result<T> {
        self.wait_at_most(SEEN, what, find)
    }

    /// Like [`Self::wait_for`], for at most this long.
    pub fn wait_at_most<T>(
        &self,
        at_most: Duration,
        what: &str,
        find: impl Fn(&Exposition) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + at_most;
        loop {
            if let Some(found) = find(&self.metrics()?) {
                return Ok(found);
            }
            if Instant::now() > end {
                bail!(
                    "{what} was not seen within {at_most:?}. Targets:\n{}\nIt said:\n{}",
                    self.get("/targets")
                        .and_then(|page| Ok(page.text()?.to_owned()))?,
                    self.log()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until a process is watched at a tier.
    pub fn wait_for_tier(&self, pid: u32, tier: &str) -> Result<()> {
        let pid = pid.to_string();
        self.wait_for(&format!("process {pid} at {tier}"), |page| {
            let labels = [("pid", pid.as_str()), ("tier", tier)];
            (page.sum("gmpscope_tier", &labels) == 1.0).then_some(())
        })
    }

    /// Waits for a message to its service manager that has this line, and drops the messages before it.
    pub fn wait_for_notification(&mut self, line: &str, at_most: Duration) -> Result<String> {
        let end = Instant::now() + at_most;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero(),
                "no notification {line} within {at_most:?}. It said:\n{}",
                self.log()
            );
            let wait = left.min(Duration::from_millis(200));
            if let Ok(message) = self.notifications.recv_timeout(wait) {
                if message.lines().any(|one| one == line) {
                    return Ok(message);
                }
            } else if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}. It said:\n{}", self.log());
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes two numbers; the child is not yet waited for, so the pid is its own.
        unsafe { libc::kill(self.pid() as i32, signal) };
    }

    /// Whether the daemon is still running.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end, and returns how long that took.
    pub fn wait(&mut self, at_most: Duration) -> Result<(ExitStatus, Duration)> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, began.elapsed()));
            }
            ensure!(
                began.elapsed() < at_most,
                "it did not end within {at_most:?}. It said:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops it as a service manager does.
    pub fn stop(&mut self) -> Result<(ExitStatus, Duration)> {
        self.signal(libc::SIGTERM);
        self.wait(Duration::from_secs(30))
    }

    /// The resources that it holds, according to the kernel.
    pub fn holds(&self) -> Result<Held> {
        Held::of(self.pid())
    }
}

/// Reads the messages to a service manager as they come.
fn notifications(socket: UnixDatagram) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // The timeout makes the thread end soon after the receiver is dropped, even if no messages come any more.
        _ = socket.set_read_timeout(Some(Duration::from_secs(1)));
        loop {
            let message = match socket.recv(&mut buffer) {
                Ok(n) => String::from_utf8_lossy(&buffer[..n]).into_owned(),
                Err(_) => String::new(),
            };
            if send.send(message).is_err() {
                return;
            }
        }
    });
    receive
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The system resources that a process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Open file descriptors, by kind: `bpf-link`, `socket`, `[pidfd]`, a path.
    pub descriptors: BTreeMap<String, usize>,
    /// Memory that is not backed by a file, in bytes: what a leak would increase.
    pub private_bytes: u64,
    /// All resident memory, in bytes.
    pub resident_bytes: u64,
    /// The number of threads.
    pub threads: usize,
}

/// How many times the resources are read, and the pause between two readings.
const READINGS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(40);

impl Held {
    /// Reads the resources of a process several times and keeps the minimum: a descriptor that is open for a moment, to
    /// read a file of /proc for instance, is not held.
    pub fn of(pid: u32) -> Result<Self> {
        let mut held = Self::now(pid)?;
        for _ in 1..READINGS {
            std::thread::sleep(PAUSE);
            let now = Self::now(pid)?;
            held.descriptors.retain(|kind, count| {
                *count = (*count).min(now.descriptors.get(kind).copied().unwrap_or(0));
                *count > 0
            });
            held.private_bytes = held.private_bytes.min(now.private_bytes);
            held.resident_bytes = held.resident_bytes.min(now.resident_bytes);
            held.threads = held.threads.min(now.threads);
        }
        Ok(held)
    }

    fn now(pid: u32) -> Result<Self> {
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            // A descriptor may be closed meanwhile.
            let Ok(target) = fs::read_link(entry?.path()) else {
                continue;
            };
            *descriptors.entry(kind(&target)).or_default() += 1;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        };
        Ok(Self {
            descriptors,
            private_bytes: kilobytes("RssAnon:").context("no RssAnon")? << 10,
            resident_bytes: kilobytes("VmRSS:").context("no VmRSS")? << 10,
            threads: kilobytes("Threads:").context("no Threads")? as usize,
        })
    }

    /// Counts the descriptors, without the files of threads that samples look at: these are as many as hold Ps at the
    /// moment, and no more than 16 for each target.
    pub fn open(&self) -> usize {
        let of_threads = |name: &str| name.starts_with("/proc/N/task/");
        let others = self.descriptors.iter().filter(|(name, _)| !of_threads(name));
        others.map(|(_, count)| count).sum()
    }

    /// Counts the BPF links.
    pub fn links(&self) -> usize {
        let links = self
            .descriptors
            .iter()
            .filter(|(kind, _)| kind.starts_with("bpf_link"));
        links.map(|(_, n)| n).sum()
    }
}

/// `socket:[1234]` → `socket`, `anon_inode:bpf-link` → `bpf-link`, `/proc/77/maps` → `/proc/N/maps`.
fn kind(target: &Path) -> String {
    let text = target.display().to_string();
    let text = text.strip_prefix("anon_inode:").unwrap_or(&text);
    let text = text.split(":[").next().unwrap_or(text);
    let mut kind = String::new();
    for character in text.chars() {
        match character.is_ascii_digit() {
            true if kind.ends_with('N') => {}
            true => kind.push('N'),
            false => kind.push(character),
        }
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_hold_ourselves() {
        let before = Held::of(std::process::id()).unwrap();
        let file = File::open("/proc/self/status").unwrap();
        let after = Held::of(std::process::id()).unwrap();
        let at = |held: &Held| held.descriptors.get("/proc/N/status").copied().unwrap_or(0);
        assert_eq!(at(&after), at(&before) + 1, "{:?}", after.descriptors);
        drop(file);
        assert!(before.resident_bytes > 1 << 20 && before.threads > 0);
        assert_eq!(kind(Path::new("anon_inode:bpf-link")), "bpf-link");
        assert_eq!(kind(Path::new("socket:[123]")), "socket");
    }
}
