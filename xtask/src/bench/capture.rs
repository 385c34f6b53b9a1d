//! The parts of a capture (`gmpscope.capture/1`) that the benchmarks read.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde::Deserialize;

/// A capture.
#[derive(Clone, Debug, Deserialize)]
pub struct Capture {
    /// How it was captured.
    pub capture: Info,
    /// All waits.
    pub runnable_to_running: Hist,
}

/// How it was captured.
#[derive(Clone, Debug, Deserialize)]
pub struct Info {
    /// `passive`, `sampled`, `exact` or `full`.
    pub mode: String,
    /// Beginning of the window (RFC 3339).
    pub started_at: String,
    /// Length of the window in nanoseconds.
    pub duration_ns: u64,
    /// How often a probe was hit.
    pub probe_hits: u64,
    /// Events that were seen and lost.
    pub lost_events: u64,
    /// The ratio of the target's CPU time with probes and without, by the number of hits.
    #[serde(default)]
    pub overhead_predicted: Option<Predicted>,
    /// The same ratio as gmpscope measured it.
    #[serde(default)]
    pub overhead_measured: Option<Measured>,
}

/// A predicted ratio.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Predicted {
    /// With the lower cost of a hit.
    pub low: f64,
    /// With the higher, where that leaves anything.
    #[serde(default)]
    pub high: Option<f64>,
}

/// A measured ratio; its interval is not read.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Measured {
    /// The ratio.
    pub ratio: f64,
}

/// A histogram; only its count is read.
#[derive(Clone, Debug, Deserialize)]
pub struct Hist {
    /// Number of waits.
    pub count: u64,
}

impl Capture {
    /// Reads a capture as `-o FILE` wrote it.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a capture", file.display()))
    }

    /// Splits the life of a gmpscope that `began` then and ran for so long: from its start to the beginning of its window,
    /// and from the end of its window to its exit.
    pub fn edges(&self, began: SystemTime, took: Duration) -> Result<(Duration, Duration)> {
        let window_began = self
            .capture
            .started_at
            .parse::<jiff::Timestamp>()
            .map(SystemTime::from)
            .with_context(|| format!("the capture began at {:?}", self.capture.started_at))?;
        let start = window_began
            .duration_since(began)
            .context("the capture began before gmpscope did")?;
        let finish = took
            .checked_sub(start + self.duration())
            .context("the window is longer than gmpscope ran")?;
        Ok((start, finish))
    }

    /// Length of the window.
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.capture.duration_ns)
    }
}
