//! A running workload, and the protocol by which it is parked and released.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::event::Event;

/// How long a workload may take to answer. A spinning program on a busy machine needs a while to park.
const ANSWER: Duration = Duration::from_secs(30);

/// A workload that was started with `-control`; killed on drop.
#[derive(Debug)]
pub struct Workload {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    /// Its first event, `parked`.
    pub first: Event,
}

impl Workload {
    /// Starts a binary and waits until it is parked.
    pub fn start(binary: &Path, gomaxprocs: u32, args: &[&str]) -> Result<Self> {
        let mut command = Command::new(binary);
        command
            .arg("-control")
            .args(args)
            .env("GOMAXPROCS", gomaxprocs.to_string())
            .env_remove("GODEBUG");
        Self::start_by(command)
    }

    /// Starts a workload by a command that ends with `-control`, and waits until it is parked.
    pub fn start_by(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let first = match next(&lines, "parked") {
            Ok(e) => e,
            Err(e) => {
                _ = child.kill();
                _ = child.wait();
                return Err(e.context(format!("starting {command:?}")));
            }
        };
        Ok(Self {
            child,
            stdin,
            lines,
            first,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it run until it is parked. The returned event has what the runtime had recorded before.
    pub fn go(&mut self) -> Result<Event> {
        self.say("go")?;
        next(&self.lines, "running")
    }

    /// Lets it do this many iterations; it is parked when this returns.
    pub fn go_for(&mut self, iterations: u64) -> Result<Event> {
        self.say(&format!("go {iterations}"))?;
        next(&self.lines, "running")?;
        next(&self.lines, "parked")
    }

    /// Parks it.
    pub fn park(&mut self) -> Result<Event> {
        self.say("park")?;
        next(&self.lines, "parked")
    }

    /// Lets it run for a time, then parks it.
    pub fn go_during(&mut self, time: Duration) -> Result<Event> {
        self.go()?;
        std::thread::sleep(time);
        self.park()
    }

    /// Iterations and CPU time so far, whether it is running or not.
    pub fn count(&mut self) -> Result<Event> {
        self.say("count")?;
        next(&self.lines, "count")
    }

    /// Begins to record `runtime/trace` into a file.
    pub fn trace_start(&mut self, file: &Path) -> Result<Event> {
        self.say(&format!("trace start {}", file.display()))?;
        next(&self.lines, "")
    }

    /// Ends the recording.
    pub fn trace_stop(&mut self) -> Result<Event> {
        self.say("trace stop")?;
        next(&self.lines, "")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes two numbers; the child is not yet waited for, so the pid is its own.
        unsafe { libc::kill(self.pid() as i32, signal) };
    }

    /// Whether it is still running.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    pub fn wait(&mut self, at_most: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + at_most;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("the workload did not end within {at_most:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn say(&mut self, line: &str) -> Result<()> {
        self.stdin
            .write_all(format!("{line}\n").as_bytes())
            .with_context(|| format!("the workload does not take {line:?}: it has ended"))
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn next(lines: &Receiver<String>, event: &str) -> Result<Event> {
    let line = match lines.recv_timeout(ANSWER) {
        Ok(line) => line,
        Err(RecvTimeoutError::Timeout) => bail!("the workload did not say {event:?} within {ANSWER:?}"),
        Err(RecvTimeoutError::Disconnected) => bail!("the workload ended before it said {event:?}"),
    };
    let e: Event = serde_json::from_str(&line).with_context(|| format!("not an event: {line}"))?;
    if !event.is_empty() && e.event != event {
        bail!("expected the event {event:?}, got {line}");
    }
    Ok(e)
}
