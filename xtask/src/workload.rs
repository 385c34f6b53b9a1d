//! Runs Go programs of tests/workloads and talks to them by the line protocol of their package internal/control.

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
    /// CPU time of the process so far.
    pub cpu_ns: u64,
    /// Iterations so far.
    pub iterations: u64,
    /// What is specific to this workload.
    #[serde(default)]
    pub extra: serde_json::Value,
}

/// A running workload. It exits when its standard input is closed, so at the latest when xtask exits.
pub struct Workload {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// Its first answer, with the results of its set-up.
    pub first: Event,
}

impl Workload {
    /// Starts a workload, which does nothing until [`Self::run`].
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

    /// Lets the workload run.
    pub fn run(&mut self) -> Result<()> {
        match self.command("go")?.event.as_str() {
            "running" => Ok(()),
            other => bail!("a workload that was asked to run answered {other}"),
        }
    }

    /// Sends a command (`count`, `trace start FILE`, …) and waits for the answer.
    pub fn command(&mut self, line: &str) -> Result<Event> {
        let stdin = self.stdin.as_mut().context("the workload was stopped")?;
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .with_context(|| format!("sending a workload the command `{line}`"))?;
        answer(&mut self.stdout).with_context(|| format!("after the command `{line}`"))
    }

    /// Ends the workload.
    pub fn stop(mut self) -> Result<()> {
        drop(self.stdin.take());
        self.child.wait().context("waiting for a workload's end")?;
        Ok(())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // Both fail after `stop`, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(stdout: &mut BufReader<ChildStdout>) -> Result<Event> {
    let mut line = String::new();
    if stdout.read_line(&mut line)? == 0 {
        bail!("the workload exited");
    }
    serde_json::from_str(&line).with_context(|| format!("a workload answered {line:?}"))
}
