//! Processes that do nothing but use a CPU.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::cpus;
use super::placement::Placement;

/// A process that computes without a pause; killed on drop, and when the thread ends that started it.
#[derive(Debug)]
pub struct Hog(Child);

impl Hog {
    /// Starts it, placed so.
    pub fn start(placement: Placement<'_>) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
        let placement = Placement {
            ends_with_us: true,
            ..placement
        };
        placement.apply(&mut command)?;
        let child = command.spawn().context("starting a process that computes")?;
        Ok(Self(child))
    }

    /// Moves it to another CPU, as `taskset -p` does.
    pub fn move_to(&self, cpu: usize) -> Result<()> {
        cpus::confine(self.0.id(), cpu)
            .with_context(|| format!("moving a process that computes to CPU {cpu}"))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
