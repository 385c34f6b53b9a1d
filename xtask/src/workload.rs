//! Go programs of tests/workloads, running: the line protocol of its internal/control.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// What a workload answers to each command.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// `parked`, `running` or `count`.
    pub event: String,
    /// CPU time of its process so far.
    pub cpu_ns: u64,
    /// Iterations so far.
    pub iterations: u64,
    /// What only this workload says.
    #[serde(default)]
    pub extra: serde_json::Value,
}

/// A running workload. It ends when its standard input does, so at the latest with us.
pub struct Workload {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// Its first answer, with what its set-up found.
    pub first: Event,
}

impl Workload {
    /// Starts it, parked.
    pub fn start(binary: &Path, arguments: &[&str], gomaxprocs: u32) -> Result<Self> {
        let mut child = Command::new(binary)
            .arg("-control")
            .args(arguments)
            .env("GOMAXPROCS", gomaxprocs.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().context("a workload without a pipe")?);
        let first = answer(&mut stdout)?;
        Ok(Self {
            child,
            stdin,
            stdout,
            first,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it run.
    pub fn run(&mut self) -> Result<()> {
        match self.command("go")?.event.as_str() {
            "running" => Ok(()),
            other => bail!("a workload that was let run says that it is {other}"),
        }
    }

    /// Sends a command (`count`, `trace start FILE`, …) and waits for the answer.
    pub fn command(&mut self, line: &str) -> Result<Event> {
        let stdin = self.stdin.as_mut().context("the workload was stopped")?;
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .with_context(|| format!("telling a workload to {line}"))?;
        answer(&mut self.stdout).with_context(|| format!("after the command `{line}`"))
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<()> {
        drop(self.stdin.take());
        self.child.wait().context("waiting for a workload's end")?;
        Ok(())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // After `stop` both fail, which is as it should be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(stdout: &mut BufReader<ChildStdout>) -> Result<Event> {
    let mut line = String::new();
    if stdout.read_line(&mut line)? == 0 {
        bail!("the workload ended by itself");
    }
    serde_json::from_str(&line).with_context(|| format!("a workload said {line:?}"))
}
