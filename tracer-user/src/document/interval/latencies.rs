//! The waits of one interval.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::by_name::ByName;
use crate::document::hist::Hist;
use crate::document::named::Named;
use crate::document::slow::Slow;
use crate::escape::Untrusted;
use crate::latency::Latency;
use crate::stream::{Origin, Symbolizer};

/// The waits of one interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// [`Self::SCHEMA`].
    pub schema: String,
    /// Its begin, in nanoseconds since the begin of the capture.
    pub at_ns: u64,
    /// Its length.
    pub duration_ns: u64,
    /// Every wait that was seen in it, without the extremes, which are those of the whole capture.
    pub runnable_to_running: Hist,
    /// Of them, all but voluntary yields (`runtime.Gosched`): `exact`, `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_yields: Option<Hist>,
    /// By how the goroutine became runnable: `exact`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_origin: BTreeMap<ByName<Origin>, Hist>,
    /// By function of the `go` statement: `sampled`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_creation_site: BTreeMap<Untrusted, Hist>,
    /// The longest waits of at least `--slower` in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slow: Vec<Slow>,
    /// Waits that are missing from the histograms.
    pub lost_events: u64,
    /// Probe hits in it.
    pub probe_hits: u64,
}

impl Interval {
    /// Value of [`Self::schema`].
    pub const SCHEMA: &str = "gmpscope.interval/1";

    /// Builds the interval from `from_ns` to `to_ns` (CLOCK_MONOTONIC) of a capture that began at `begin_ns`; `latency`
    /// contains only what was observed in it. `knows_yields`: voluntary yields are distinguished from others.
    pub fn of(
        latency: &Latency,
        knows_yields: bool,
        symbolizer: &dyn Symbolizer,
        begin_ns: u64,
        from_ns: u64,
        to_ns: u64,
    ) -> Self {
        let named = Named { symbolizer, begin_ns };
        named.prepare(latency, None, None);
        Self {
            schema: Self::SCHEMA.to_owned(),
            at_ns: from_ns.saturating_sub(begin_ns),
            duration_ns: to_ns.saturating_sub(from_ns),
            runnable_to_running: without_extremes(Hist::of(&latency.total())),
            without_yields: knows_yields.then(|| without_extremes(Hist::of(&latency.without_yields()))),
            by_origin: all_without_extremes(named.by_origin(latency)),
            by_creation_site: all_without_extremes(named.by_creation_site(latency)),
            slow: named.longest(latency),
            lost_events: latency.lost(),
            probe_hits: latency.hits(),
        }
    }

    /// The waits that count as latency: without voluntary yields, where the mode can distinguish them.
    pub fn waits(&self) -> &Hist {
        self.without_yields.as_ref().unwrap_or(&self.runnable_to_running)
    }
}

fn without_extremes(mut hist: Hist) -> Hist {
    (hist.min_ns, hist.max_ns) = (None, None);
    hist
}

fn all_without_extremes<K: Ord>(hists: BTreeMap<K, Hist>) -> BTreeMap<K, Hist> {
    hists
        .into_iter()
        .map(|(name, hist)| (name, without_extremes(hist)))
        .collect()
}
