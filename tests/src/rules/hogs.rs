//! Processes that take all the CPU time that they get.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Processes that compute on one CPU, which end when this is dropped.
#[derive(Debug)]
pub struct Hogs(Vec<Child>);

impl Hogs {
    /// Starts so many on a CPU.
    pub fn start(count: u32, cpu: &str) -> Result<Self> {
        let mut hogs = Self(Vec::new());
        for _ in 0..count {
            let hog = Command::new("taskset")
                .args(["-c", cpu, "sh", "-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .spawn()
                .context("starting a process that computes: taskset is part of util-linux")?;
            hogs.0.push(hog);
        }
        Ok(hogs)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            // One that has ended is not there to be killed.
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}
