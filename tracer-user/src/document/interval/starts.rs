//! The starts that reached `main.main` in one interval.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::{followed::BinaryOf, hist::Hist};
use crate::escape::Untrusted;
use crate::latency::start::PhaseTimes;

/// The starts of one interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartsInterval {
    /// [`Self::SCHEMA`].
    pub schema: String,
    /// Its begin, in nanoseconds since the begin of the capture.
    pub at_ns: u64,
    /// Its length.
    pub duration_ns: u64,
    /// Starts that reached `main.main` in it.
    pub runs: u64,
    /// How long each phase took, and `total`; absent with `--follow`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub histograms: BTreeMap<Untrusted, Hist>,
    /// With `--follow`: the binaries that started in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binaries: Vec<BinaryOf>,
}

impl StartsInterval {
    /// Value of [`Self::schema`].
    pub const SCHEMA: &str = "gmpscope.starts/1";

    /// Builds the interval from `from_ns` to `to_ns` (CLOCK_MONOTONIC) of a capture that began at `begin_ns`; `times`
    /// contain only those of starts in it.
    pub fn of(times: &PhaseTimes, begin_ns: u64, from_ns: u64, to_ns: u64) -> Self {
        Self {
            schema: Self::SCHEMA.to_owned(),
            at_ns: from_ns.saturating_sub(begin_ns),
            duration_ns: to_ns.saturating_sub(from_ns),
            runs: times.total().map_or(0, |total| total.count()),
            histograms: times
                .phases()
                .map(|(name, times)| (name.into(), Hist::of(times)))
                .collect(),
            binaries: Vec::new(),
        }
    }

    /// Builds an interval of several binaries, whose figures contain only starts in it.
    pub fn of_binaries(binaries: Vec<BinaryOf>, begin_ns: u64, from_ns: u64, to_ns: u64) -> Self {
        Self {
            runs: binaries.iter().map(|binary| binary.runs).sum(),
            binaries,
            ..Self::of(&PhaseTimes::default(), begin_ns, from_ns, to_ns)
        }
    }
}
