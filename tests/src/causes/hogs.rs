//! Processes that do nothing but use a CPU.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::placement::Placement;

/// Processes that compute; killed on drop, and when the thread ends that started them.
#[derive(Debug, Default)]
pub struct Hogs(Vec<Child>);

impl Hogs {
    /// Starts one for each niceness, all on this CPU.
    pub fn start(niceness: &[i32], cpu: Option<usize>) -> Result<Self> {
        let mut hogs = Self::default();
        for niceness in niceness {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
            let placement = Placement {
                cpu,
                niceness: Some(*niceness),
                ends_with_us: true,
                ..Placement::default()
            };
            placement.apply(&mut command);
            hogs.0
                .push(command.spawn().context("starting a process that computes")?);
        }
        Ok(hogs)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            _ = hog.kill();
            _ = hog.wait();
        }
    }
}
