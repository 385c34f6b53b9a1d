//! What `--follow` adds to the starts of a capture: many programs, and how many of them were not seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::hist::Hist;
use crate::escape::Untrusted;
use crate::latency::start::{PhaseTimes, TOTAL};
use crate::stream::{TargetInfo, step::MergedPhase};

/// Starts of one binary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BinaryOf {
    /// Path of the executable.
    pub exe: Untrusted,
    /// See [`TargetInfo::go_version`].
    pub go_version: Untrusted,
    /// See [`TargetInfo::build_mode`].
    pub build_mode: Untrusted,
    /// Starts that reached `main.main`; of a library in a C program, the end of its inits.
    pub runs: u64,
    /// Starts that ended before `main.main`, or had not ended when the capture did.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unfinished: u64,
    /// The phase with the longest median.
    #[serde(default, skip_serializing_if = "Untrusted::is_empty")]
    pub slowest_phase: Untrusted,
    /// Times by phase, and `total`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub histograms: BTreeMap<Untrusted, Hist>,
    /// Phases that cannot be distinguished in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<MergedPhase>,
}

impl BinaryOf {
    /// Builds the description of a binary's starts from the times of their phases.
    pub fn of(info: &TargetInfo, unfinished: u64, times: &PhaseTimes) -> Self {
        let histograms: BTreeMap<Untrusted, Hist> = times
            .phases()
            .map(|(name, times)| (name.into(), Hist::of(times)))
            .collect();
        let slowest = histograms
            .iter()
            .filter(|(name, _)| **name != TOTAL)
            .max_by_key(|(_, hist)| hist.p50_ns);
        Self {
            exe: info.exe.clone(),
            go_version: info.go_version.clone(),
            build_mode: info.build_mode.clone(),
            runs: times.total().map_or(0, |total| total.count()),
            unfinished,
            slowest_phase: slowest.map_or_else(Untrusted::default, |(name, _)| name.clone()),
            histograms,
            merged: Vec::new(),
        }
    }

    /// Returns the histogram of whole starts.
    pub fn total(&self) -> Option<&Hist> {
        self.histograms.get(&TOTAL.into())
    }
}

/// What a command and its descendants executed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TreeOf {
    /// Programs that were executed.
    pub execs: u64,
    /// Of them, those that are not Go programs.
    pub others: u64,
    /// Of them, those that were not analysed in time, or cannot be traced: starts may be missing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unseen: u64,
    /// Of them, those that ended before their first instruction.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ended_early: u64,
    /// Processes that were still running when the command had ended, and were not followed any more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub outlived: u64,
    /// File systems whose programs are held until they are probed.
    pub watched_file_systems: u64,
    /// File systems whose programs are not held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_watched: Vec<Untrusted>,
    /// Programs that other processes executed meanwhile: each waited for one answer.
    pub execs_of_others: u64,
    /// Programs, whoever executed them, that were released without probes because gmpscope was stopped or got no CPU:
    /// starts may be missing.
    #[serde(rename = "let_go", default, skip_serializing_if = "is_zero")]
    pub released_unprobed: u64,
    /// Starts that `starts` has no room for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}
