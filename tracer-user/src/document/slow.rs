//! Slow waits: those of at least `--slower`.

use serde::{Deserialize, Serialize};

use crate::document::by_name::ByName;
use crate::escape::Untrusted;
use crate::latency::SlowWaits;
use crate::stream::Origin;

/// Number and length of the slow waits, to three significant digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowSummary {
    /// How many waits.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 90th percentile.
    pub p90_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// A slow wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slow {
    /// When the goroutine began to run: nanoseconds since the capture's begin.
    pub at_ns: u64,
    /// How long it had waited.
    pub latency_ns: u64,
    /// Goroutine id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goid: Option<u64>,
    /// Function of its `go` statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_site: Option<Untrusted>,
    /// How it became runnable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ByName<Origin>>,
    /// Thread id of the M that ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Id of the P that it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<u32>,
}

impl SlowSummary {
    /// Sums up all slow waits; `None` if there were none.
    pub fn of(slow: &SlowWaits) -> Option<Self> {
        Some(Self {
            count: slow.count(),
            p50_ns: slow.quantile_ns(500)?,
            p90_ns: slow.quantile_ns(900)?,
            p99_ns: slow.quantile_ns(990)?,
            max_ns: slow.longest().first()?.wait.latency_ns,
        })
    }
}
