//! The clients of the server: `shop load`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::held;
use crate::surroundings::Group;

/// What clients saw: the time from an order to its answer (`tests/workloads/shop/load.go`).
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Seen {
    /// The number of orders.
    pub orders: u64,
    /// Half of the answers took at most this long.
    pub p50_ns: u64,
    /// 99 % of the answers took at most this long.
    pub p99_ns: u64,
    /// The longest that an answer took.
    pub max_ns: u64,
}

/// Clients that order from a server.
#[derive(Debug)]
pub struct Clients {
    program: PathBuf,
    group: Group,
    cpu: usize,
}

/// Clients that order until they are killed, on drop.
#[derive(Debug)]
pub struct Ordering(Child);

impl Clients {
    /// Clients of this build of `shop`, in a control group and on a CPU.
    pub fn new(program: &Path, group: Group, cpu: usize) -> Self {
        Self {
            program: program.to_owned(),
            group,
            cpu,
        }
    }

    /// Has them order for this long, and returns what they saw.
    pub fn order_for(&self, url: &str, time: Duration) -> Result<Seen> {
        let time = format!("{}ms", time.as_millis());
        let mut command = self.command(&["-for", &time, url])?;
        let output = command.output().context("starting the clients")?;
        ensure!(
            output.status.success(),
            "the clients failed with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).context("what the clients saw cannot be read")
    }

    /// Starts them.
    pub fn order(&self, url: &str) -> Result<Ordering> {
        let mut command = self.command(&[url])?;
        let child = command.stdout(Stdio::null()).spawn();
        Ok(Ordering(child.context("starting the clients")?))
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command
            .arg("load")
            .args(arguments)
            .env_remove("GOMAXPROCS")
            .env_remove("GODEBUG")
            .stdin(Stdio::null());
        held(&self.group, self.cpu).apply(&mut command)?;
        Ok(command)
    }
}

impl Ordering {
    /// Whether they have not ended.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }
}

impl Drop for Ordering {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
