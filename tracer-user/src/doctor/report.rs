//! All checks together, and the modes that they allow.

use serde::Serialize;

use super::{Check, HitCost, Status, Verified};
use crate::plan::Mode;

/// The findings on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Kernel release, as in `uname -r`.
    pub kernel: String,
    /// Processor, by Rust's name.
    pub arch: &'static str,
    /// Which modes are possible on this machine.
    pub modes: Vec<ModeVerdict>,
    /// Nanoseconds that a probe hit costs here: in a tight loop, and in a busy program. Empty where probes
    /// are impossible.
    #[serde(rename = "hit_cost_range_ns", skip_serializing_if = "HitCost::is_empty")]
    pub hit_cost: HitCost,
    /// Number of instructions that the verifier processed, by program. Empty where programs cannot be loaded.
    #[serde(rename = "verified_instructions", skip_serializing_if = "Verified::is_empty")]
    pub verified: Verified,
    /// Each feature and privilege.
    pub checks: Vec<Check>,
}

/// Whether a mode is possible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModeVerdict {
    /// The mode.
    pub mode: Mode,
    /// Whether nothing prevents it.
    pub possible: bool,
    /// Names of the checks that prevent it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prevented_by: Vec<&'static str>,
}

impl Report {
    /// Makes the report of the checks.
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

    /// Each check that prevents the mode, with advice.
    pub fn obstacles(&self, mode: Mode) -> Vec<String> {
        let described = |check: &Check| match &check.what_to_do {
            Some(advice) => format!("{}: {}; {advice}", check.name, check.detail),
            None => format!("{}: {}", check.name, check.detail),
        };
        self.checks
            .iter()
            .filter(|check| check.prevents.contains(&mode))
            .map(described)
            .collect()
    }

    /// The checks with a status other than [`Status::Ok`].
    pub fn troubles(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.status != Status::Ok)
    }
}
