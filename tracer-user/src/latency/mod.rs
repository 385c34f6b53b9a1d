//! Collects observations into histograms of waits.
//!
//! A source's own buckets are kept as they are; nothing is redistributed, so every count is exact and every
//! percentile is as fine as the source's buckets and no finer.

mod histogram;
mod slow;
pub mod start;

use std::collections::BTreeMap;

pub use histogram::{Histogram, QUANTILES};
pub use slow::{Slow, SlowWaits};

use crate::stream::{BucketScheme, Event, HistogramKey, Kind, LossCause, Observation, Origin};

/// Everything about latencies that was observed since this was created. Keep one for the capture and one for each
/// interval, and pass every observation to both.
#[derive(Clone, Debug)]
pub struct Latency {
    scheme: BucketScheme,
    by_key: BTreeMap<HistogramKey, Histogram>,
    losses: BTreeMap<LossCause, u64>,
    hits: u64,
    slow: SlowWaits,
}

impl Latency {
    /// Starts empty. Deltas of another scheme than `scheme` are ignored: the gauges of `passive` come with the
    /// runtime's histogram, which is not what another mode measures.
    pub fn new(scheme: BucketScheme) -> Self {
        Self {
            scheme,
            by_key: BTreeMap::new(),
            losses: BTreeMap::new(),
            hits: 0,
            slow: SlowWaits::default(),
        }
    }

    /// Takes in one observation.
    pub fn observe(&mut self, observation: &Observation) {
        match &observation.kind {
            Kind::HistogramDelta(delta) if delta.scheme == self.scheme => {
                let empty = Histogram::new(self.scheme);
                self.by_key.entry(delta.key).or_insert(empty).add_delta(delta);
            }
            Kind::Loss(loss) => {
                let lost = self.losses.entry(loss.cause).or_default();
                *lost = lost.saturating_add(loss.count);
            }
            Kind::Hits(hits) => self.hits = self.hits.saturating_add(*hits),
            Kind::Event(Event::SlowWait(wait)) => self.slow.add(observation.at_ns, wait),
            Kind::HistogramDelta(_)
            | Kind::Snapshot(_)
            | Kind::Event(_)
            | Kind::Transitions(_)
            | Kind::TransitionsSeen(_)
            | Kind::Stacks(_)
            | Kind::Scheduler(_)
            | Kind::Throttling(_)
            | Kind::Ongoing(_)
            | Kind::CauseSamples(_) => {}
        }
    }

    /// Adds what another one of the same scheme has observed later.
    pub fn merge(&mut self, later: &Latency) {
        for (key, histogram) in &later.by_key {
            let empty = Histogram::new(self.scheme);
            self.by_key.entry(*key).or_insert(empty).merge(histogram);
        }
        for (cause, count) in &later.losses {
            let lost = self.losses.entry(*cause).or_default();
            *lost = lost.saturating_add(*count);
        }
        self.hits = self.hits.saturating_add(later.hits);
        self.slow.merge(&later.slow);
    }

    /// The bucket scheme of its histograms.
    pub fn scheme(&self) -> BucketScheme {
        self.scheme
    }

    /// The histogram of all waits. Each wait is counted under one key only.
    pub fn total(&self) -> Histogram {
        self.merged(|_| true)
    }

    /// The histogram of all waits but those of goroutines that gave way of their own will (`runtime.Gosched`), which do
    /// not count as latency. Waits whose origin is not known are in it.
    pub fn without_yields(&self) -> Histogram {
        self.merged(|key| key != HistogramKey::Origin(Origin::Yielded))
    }

    fn merged(&self, is_wanted: impl Fn(HistogramKey) -> bool) -> Histogram {
        let mut merged = Histogram::new(self.scheme);
        for (key, histogram) in &self.by_key {
            if is_wanted(*key) {
                merged.merge(histogram);
            }
        }
        merged
    }

    /// The histograms by key.
    pub fn by_key(&self) -> &BTreeMap<HistogramKey, Histogram> {
        &self.by_key
    }

    /// Number of losses by cause.
    pub fn losses(&self) -> &BTreeMap<LossCause, u64> {
        &self.losses
    }

    /// Number of waits and slow waits that are missing ([`LossCause::makes_incomplete`]).
    pub fn lost(&self) -> u64 {
        let missing = self.losses.iter().filter(|(cause, _)| cause.makes_incomplete());
        missing.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Number of probe hits.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// The slow waits.
    pub fn slow(&self) -> &SlowWaits {
        &self.slow
    }
}

#[cfg(test)]
mod tests;
