//! The noisy neighbour: another process, which computes without a pause.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::container::Container;
use super::cpus;

/// A process that computes, in a control group of its own; killed on drop.
#[derive(Debug)]
pub struct Neighbour {
    child: Child,
    // Removed once the process has been killed.
    _container: Container,
}

impl Neighbour {
    /// Starts it in this control group, on this CPU.
    pub fn start(container: Container, cpu: usize) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
        container.hold(&mut command, cpu)?;
        Ok(Self {
            child: command.spawn().context("starting the neighbour")?,
            _container: container,
        })
    }

    /// Moves it to another CPU, as `taskset -p` does.
    pub fn move_to(&self, cpu: usize) -> Result<()> {
        cpus::confine(self.child.id(), cpu).with_context(|| format!("moving the neighbour to CPU {cpu}"))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
