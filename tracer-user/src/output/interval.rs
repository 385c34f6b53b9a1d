//! `--interval`: one line for each stretch of time, of what happened in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::escape::Untrusted;
use crate::latency::Latency;
use crate::model::Symbolizer;

use crate::document::build::{Named, hist};
use crate::document::capture::{Hist, Slow};
use crate::output::text::table::largest;
use crate::output::text::units::duration;

/// Value of [`Interval::schema`].
pub const SCHEMA: &str = "gmpscope.interval/1";

/// What happened in one stretch of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// [`SCHEMA`].
    pub schema: String,
    /// Its begin, in nanoseconds since the capture's.
    pub at_ns: u64,
    /// Its length.
    pub duration_ns: u64,
    /// Every wait that was seen in it. Its extremes are left out: they are of the whole capture.
    pub runnable_to_running: Hist,
    /// By how the goroutine became runnable: `exact`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_origin: BTreeMap<Untrusted, Hist>,
    /// By function of the `go` statement: `sampled`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_creation_site: BTreeMap<Untrusted, Hist>,
    /// The longest waits of at least `--slower` in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slow: Vec<Slow>,
    /// Waits that are missing.
    pub lost_events: u64,
    /// Probe hits in it.
    pub probe_hits: u64,
}

/// The interval from `from_ns` to `to_ns` (CLOCK_MONOTONIC) of a capture that began at `begin_ns`; `latency`
/// holds what was observed in it alone.
pub fn build(
    latency: &Latency,
    symbolizer: &dyn Symbolizer,
    begin_ns: u64,
    from_ns: u64,
    to_ns: u64,
) -> Interval {
    let named = Named { symbolizer, begin_ns };
    named.prepare(latency, None);
    let without_extremes = |mut hist: Hist| {
        (hist.min_ns, hist.max_ns) = (None, None);
        hist
    };
    let all = |hists: BTreeMap<Untrusted, Hist>| {
        hists
            .into_iter()
            .map(|(name, hist)| (name, without_extremes(hist)))
            .collect()
    };
    Interval {
        schema: SCHEMA.to_owned(),
        at_ns: from_ns.saturating_sub(begin_ns),
        duration_ns: to_ns.saturating_sub(from_ns),
        runnable_to_running: without_extremes(hist(&latency.total())),
        by_origin: all(named.by_origin(latency)),
        by_creation_site: all(named.by_creation_site(latency)),
        slow: latency
            .slow()
            .longest()
            .iter()
            .map(|slow| named.slow(slow))
            .collect(),
        lost_events: latency.lost(),
        probe_hits: latency.hits(),
    }
}

/// The line above the lines, for people.
pub fn header() -> String {
    format!(
        "{:>8} {:>10} {:>7} {:>7} {:>7} {:>7} {:>7} {:>8} {:>9}\n",
        "until", "waits", "p50", "p90", "p99", "p99.9", "max", "lost", "hits"
    )
}

impl Interval {
    /// The interval in one line, for people: its end, and upper bounds of the buckets.
    pub fn line(&self) -> String {
        let hist = &self.runnable_to_running;
        let quantile = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), duration);
        format!(
            "{:>7.1}s {:>10} {:>7} {:>7} {:>7} {:>7} {:>7} {:>8} {:>9}\n",
            self.at_ns.saturating_add(self.duration_ns) as f64 / 1e9,
            hist.count,
            quantile(hist.p50_ns),
            quantile(hist.p90_ns),
            quantile(hist.p99_ns),
            quantile(hist.p999_ns),
            quantile(largest(hist)),
            self.lost_events,
            self.probe_hits,
        )
    }
}
