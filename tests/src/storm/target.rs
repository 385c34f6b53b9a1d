//! The programs that are attached to, round after round.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::Fault;
use super::verdict::TargetState;
use crate::Workload;
use crate::kernel::patched_text;

/// Ps of a target: more than one, so that its threads hit its probes at the same time.
const GOMAXPROCS: u32 = 2;
/// The block whose checksum is deliberately wrong.
const FAULT: &str = "100";

/// A running program that checks what it computes.
#[derive(Debug)]
pub struct Target {
    binary: PathBuf,
    name: String,
    workload: Workload,
    /// Its number of results at the last check.
    results: u64,
    /// Whether it was found ended, or with breakpoints in its text.
    is_spoilt: bool,
}

impl Target {
    /// Starts a target, and lets it run.
    pub fn start(binary: PathBuf, name: String, fault: Option<Fault>) -> Result<Self> {
        let arguments: &[&str] = match fault {
            Some(Fault::Checksum) => &["-fault", FAULT],
            _ => &[],
        };
        let mut workload = Workload::start(&binary, GOMAXPROCS, arguments)?;
        workload.go()?;
        Ok(Self {
            binary,
            name,
            workload,
            results: 0,
            is_spoilt: false,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.workload.pid()
    }

    /// Its program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// How many results it has checked.
    pub fn results(&self) -> u64 {
        self.results
    }

    /// Reads its state.
    pub fn check(&mut self) -> Result<TargetState> {
        let mut state = TargetState {
            name: self.name.clone(),
            before: self.results,
            ..TargetState::default()
        };
        if let Err(e) = self.describe(&mut state) {
            let status = match self.workload.wait(Duration::from_secs(1)) {
                Ok(status) => status.to_string(),
                Err(_) => "still running".to_owned(),
            };
            state.ended = Some(format!("{e:#} ({status})"));
        }
        Ok(state)
    }

    fn describe(&mut self, state: &mut TargetState) -> Result<()> {
        state.after = self.workload.count()?.iterations;
        state.patched = patched_text(self.pid())?.len();
        state.status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        Ok(())
    }

    /// Records how many results it has now.
    pub fn seen(&mut self, state: &TargetState) {
        self.results = state.after.max(self.results);
        self.is_spoilt = state.ended.is_some() || state.patched > 0;
    }

    /// Restarts it without a fault, if it has ended or its fault would be seen again after every further round; then
    /// returns how many results it had checked.
    pub fn restart_if_faulty(&mut self) -> Result<Option<u64>> {
        if !self.is_spoilt {
            return Ok(None);
        }
        let results = self.results;
        *self = Self::start(self.binary.clone(), self.name.clone(), None)?;
        Ok(Some(results))
    }
}
