//! Runs `gmpscope` against a process.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tracer_user::document::capture::Capture;

use crate::environment::gmpscope;
use crate::privilege;

/// How long attaching may take until the first probe, on a machine where other tests compile.
const ATTACHED: Duration = Duration::from_secs(20);
/// How long gmpscope may take to end once asked to. Perf-event links are removed one after the other.
const ENDED: Duration = Duration::from_secs(30);

/// The arguments of `gmpscope attach`.
#[derive(Clone, Debug)]
pub struct Attach {
    pid: u32,
    mode: String,
    duration: Duration,
    more: Vec<String>,
    environment: Vec<(String, String)>,
    user: Option<User>,
}

/// The user that gmpscope is run as.
#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    capabilities: u64,
}

impl Attach {
    /// Attaches to this process, in `auto` mode, for a minute unless it is ended before.
    pub fn to(pid: u32) -> Self {
        Self {
            pid,
            mode: "auto".into(),
            duration: Duration::from_secs(60),
            more: Vec::new(),
            environment: Vec::new(),
            user: None,
        }
    }

    /// Sets the mode.
    pub fn mode(mut self, mode: &str) -> Self {
        self.mode = mode.into();
        self
    }

    /// Sets the duration.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: &str) -> Self {
        self.more.push(arg.into());
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs as this user, with no capability.
    pub fn user(self, uid: u32) -> Self {
        self.user_with(uid, &[])
    }

    /// Runs as this user, with these capabilities (their numbers in linux/capability.h) and no others.
    pub fn user_with(mut self, uid: u32, capabilities: &[u32]) -> Self {
        self.user = Some(User {
            uid,
            capabilities: capabilities.iter().fold(0, |set, number| set | 1 << number),
        });
        self
    }

    /// Starts gmpscope.
    pub fn spawn(&self) -> Result<Tracer> {
        let dir = tempfile::tempdir()?;
        let mut binary = gmpscope()?;
        let output = dir.path().join("capture.json");
        if self.user.is_some() {
            // That user may not be able to reach the binary where it is.
            let copy = dir.path().join("gmpscope");
            std::fs::copy(&binary, &copy)?;
            binary = copy;
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777))?;
        }
        let mut command = Command::new(&binary);
        command
            .args([
                "attach",
                "-p",
                &self.pid.to_string(),
                "--mode",
                &self.mode,
                "--format",
                "json",
            ])
            .args(["--duration", &format!("{}ms", self.duration.as_millis())])
            .arg("-o")
            .arg(&output)
            .args(&self.more)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(user) = self.user {
            privilege::become_user(&mut command, user.uid, user.capabilities);
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Tracer {
            child,
            lines,
            stderr: String::new(),
            output,
            _dir: dir,
        })
    }

    /// Starts gmpscope and waits until it is attached.
    pub fn start(&self) -> Result<Tracer> {
        let mut t = self.spawn()?;
        t.attached()?;
        Ok(t)
    }

    /// Runs gmpscope to its end, whatever its status.
    pub fn run(&self) -> Result<Outcome> {
        self.spawn()?.finish()
    }
}

/// A running `gmpscope`, killed on drop.
#[derive(Debug)]
pub struct Tracer {
    child: Child,
    lines: Receiver<String>,
    stderr: String,
    output: std::path::PathBuf,
    _dir: TempDir,
}

impl Tracer {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the line that says that its probes are live, or its first reading taken.
    pub fn attached(&mut self) -> Result<()> {
        let end = Instant::now() + ATTACHED;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = line.starts_with("attached:");
                    self.stderr.push_str(&line);
                    self.stderr.push('\n');
                    if found {
                        return Ok(());
                    }
                }
                Err(_) => bail!(
                    "gmpscope did not say that it is attached. It said:\n{}",
                    self.stderr
                ),
            }
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes two numbers; the child is not yet waited for, so the pid is its own.
        unsafe { libc::kill(self.pid() as i32, signal) };
    }

    /// Ends it as Ctrl-C does, and collects its output.
    pub fn interrupt(self) -> Result<Outcome> {
        self.signal(libc::SIGINT);
        self.finish()
    }

    /// Waits for its end, and collects its output.
    pub fn finish(mut self) -> Result<Outcome> {
        let end = Instant::now() + ENDED + Duration::from_secs(60);
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > end {
                bail!("gmpscope did not end. It said:\n{}", self.stderr);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(1)) {
            self.stderr.push_str(&line);
            self.stderr.push('\n');
        }
        let json = std::fs::read_to_string(&self.output).ok();
        let capture = match &json {
            Some(text) if !text.trim().is_empty() => {
                Some(serde_json::from_str(text).with_context(|| format!("the capture is not one: {text}"))?)
            }
            _ => None,
        };
        Ok(Outcome {
            status,
            capture,
            json,
            stderr: std::mem::take(&mut self.stderr),
        })
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The results of a finished `gmpscope`.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status.
    pub status: ExitStatus,
    /// The capture, if there is one.
    pub capture: Option<Capture>,
    /// The capture as written.
    pub json: Option<String>,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// The exit status as a shell has it: 128 + n if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// The capture of a successful run.
    pub fn captured(self) -> Result<Capture> {
        if self.code() != 0 {
            bail!(
                "gmpscope ended with status {}. It said:\n{}",
                self.code(),
                self.stderr
            );
        }
        self.capture
            .with_context(|| format!("gmpscope wrote no capture. It said:\n{}", self.stderr))
    }

    /// Fails unless the run ended with this status and its message has all these words: an error must name what failed,
    /// on what, and what to do next, and must not be a panic.
    pub fn expect_failure(&self, code: i32, words: &[&str]) -> Result<()> {
        if self.code() != code {
            bail!(
                "expected status {code}, got {}. It said:\n{}",
                self.code(),
                self.stderr
            );
        }
        if self.stderr.contains("panicked") {
            bail!("it panicked:\n{}", self.stderr);
        }
        let said = self.stderr.to_lowercase();
        for w in words {
            if !said.contains(&w.to_lowercase()) {
                bail!("its message does not have {w:?}:\n{}", self.stderr);
            }
        }
        Ok(())
    }
}

/// Runs `gmpscope` with these arguments to its end.
pub fn gmpscope_with<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Result<Outcome> {
    let out = Command::new(gmpscope()?)
        .args(args)
        .stdin(Stdio::null())
        .output()?;
    Ok(Outcome {
        status: out.status,
        capture: None,
        json: Some(String::from_utf8_lossy(&out.stdout).into_owned()),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    })
}
