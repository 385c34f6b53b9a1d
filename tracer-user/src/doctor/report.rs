//! All checks together, and which modes they leave.

use serde::Serialize;

use super::{Check, HitCost, Status, Verified};
use crate::plan::Mode;

/// What was found on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Kernel release, as in `uname -r`.
    pub kernel: String,
    /// Processor, in Rust's words.
    pub arch: &'static str,
    /// Which modes are possible here, whatever the target.
    pub modes: Vec<ModeVerdict>,
    /// Nanoseconds that a probe hit costs here: in a tight loop, and in a busy program. Empty where probes
    /// are impossible.
    #[serde(rename = "hit_cost_range_ns", skip_serializing_if = "HitCost::is_empty")]
    pub hit_cost: HitCost,
    /// Instructions that the verifier went through, by program. Empty where programs cannot be loaded.
    #[serde(rename = "verified_instructions", skip_serializing_if = "Verified::is_empty")]
    pub verified: Verified,
    /// Each feature and privilege.
    pub checks: Vec<Check>,
}

/// Whether a mode is possible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModeVerdict {
    /// Which.
    pub mode: Mode,
    /// Whether nothing prevents it.
    pub possible: bool,
    /// Names of the checks that prevent it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prevented_by: Vec<&'static str>,
}

impl Report {
    /// Draws the conclusion from the checks.
    pub fn new(kernel: String, checks: Vec<Check>, hit_cost: HitCost, verified: Verified) -> Self {
        let verdict = |mode: Mode| {
            let prevented_by: Vec<&'static str> = checks
                .iter()
                .filter(|check| check.prevents.contains(&mode))
                .map(|check| check.name)
                .collect();
            ModeVerdict {
                mode,
                possible: prevented_by.is_empty(),
                prevented_by,
            }
        };
        Self {
            kernel,
            arch: std::env::consts::ARCH,
            modes: Mode::ALL.map(verdict).to_vec(),
            hit_cost,
            verified,
            checks,
        }
    }

    /// Whether this machine allows the mode.
    pub fn allows(&self, mode: Mode) -> bool {
        self.modes
            .iter()
            .any(|verdict| verdict.mode == mode && verdict.possible)
    }

    /// Why it does not: each check that prevents the mode, with what to do.
    pub fn obstacles(&self, mode: Mode) -> Vec<String> {
        let told = |check: &Check| match &check.what_to_do {
            Some(advice) => format!("{}: {}; {advice}", check.name, check.detail),
            None => format!("{}: {}", check.name, check.detail),
        };
        self.checks
            .iter()
            .filter(|check| check.prevents.contains(&mode))
            .map(told)
            .collect()
    }

    /// Checks that are not as they should be.
    pub fn troubles(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.status != Status::Ok)
    }
}
