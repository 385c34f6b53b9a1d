//! `--interval` of starts: one line for each stretch of time, of those that came to `main.main` in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::escape::Untrusted;
use crate::latency::start::{PhaseTimes, TOTAL};
use crate::{
    document::{build::hist, capture::Hist, followed::BinaryOf},
    output::text::{
        layout::{WIDTH, tail},
        units::duration,
    },
};

/// Value of [`StartsInterval::schema`].
pub const STARTS_SCHEMA: &str = "gmpscope.starts/1";

/// The starts of one stretch of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartsInterval {
    /// [`STARTS_SCHEMA`].
    pub schema: String,
    /// Its begin, in nanoseconds since the capture's.
    pub at_ns: u64,
    /// Its length.
    pub duration_ns: u64,
    /// Starts that came to `main.main` in it.
    pub runs: u64,
    /// How long each phase took, and `total`; absent with `--follow`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub histograms: BTreeMap<Untrusted, Hist>,
    /// With `--follow`: the binaries that started in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binaries: Vec<BinaryOf>,
}

impl StartsInterval {
    /// The interval from `from_ns` to `to_ns` (CLOCK_MONOTONIC) of a capture that began at `begin_ns`; `times` are
    /// of it alone.
    pub fn of(times: &PhaseTimes, begin_ns: u64, from_ns: u64, to_ns: u64) -> Self {
        Self {
            schema: STARTS_SCHEMA.to_owned(),
            at_ns: from_ns.saturating_sub(begin_ns),
            duration_ns: to_ns.saturating_sub(from_ns),
            runs: times.total().map_or(0, |total| total.count()),
            histograms: times
                .phases()
                .map(|(name, times)| (name.into(), hist(times)))
                .collect(),
            binaries: Vec::new(),
        }
    }

    /// The same of several binaries.
    pub fn of_binaries(binaries: Vec<BinaryOf>, begin_ns: u64, from_ns: u64, to_ns: u64) -> Self {
        Self {
            runs: binaries.iter().map(|binary| binary.runs).sum(),
            binaries,
            ..Self::of(&PhaseTimes::default(), begin_ns, from_ns, to_ns)
        }
    }

    /// The line above [`Self::lines`].
    pub fn header(followed: bool) -> String {
        format!(
            "{:>8} {:>8} {:>8} {:>8} {:>8}{}\n",
            "time",
            "starts",
            "p50",
            "p90",
            "max",
            if followed { "  program" } else { "" }
        )
    }

    /// For people: whole starts, those of each binary on a line.
    pub fn lines(&self) -> String {
        if self.binaries.is_empty() {
            return self.line(self.runs, self.histograms.get(&TOTAL.into())) + "\n";
        }
        let lines = self.binaries.iter().map(|binary| {
            let line = self.line(binary.runs, binary.total());
            let room = WIDTH.saturating_sub(line.chars().count() + 2);
            format!("{line}  {}\n", tail(&binary.exe.to_string(), room))
        });
        lines.collect()
    }

    fn line(&self, runs: u64, total: Option<&Hist>) -> String {
        let shown =
            |of: fn(&Hist) -> Option<u64>| total.and_then(of).map_or_else(|| "-".to_owned(), duration);
        format!(
            "{:>7.1}s {runs:>8} {:>8} {:>8} {:>8}",
            self.at_ns.saturating_add(self.duration_ns) as f64 / 1e9,
            shown(|hist| hist.p50_ns),
            shown(|hist| hist.p90_ns),
            shown(|hist| hist.max_ns)
        )
    }
}
