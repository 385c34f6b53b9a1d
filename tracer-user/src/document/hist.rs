//! Histograms as the JSON has them.

use serde::{Deserialize, Serialize};

use crate::latency::Histogram;
use crate::stream::BucketScheme;

/// A histogram of waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hist {
    /// How many waits.
    pub count: u64,
    /// Median; percentiles are absent in an empty histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ns: Option<u64>,
    /// 90th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90_ns: Option<u64>,
    /// 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ns: Option<u64>,
    /// 99.9th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p999_ns: Option<u64>,
    /// Width of a bucket relative to its lower bound.
    pub resolution: f64,
    /// Non-empty buckets, ascending: values in (the bucket before's `le_ns`, `le_ns`].
    pub buckets: Vec<Bucket>,
    /// Sum, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum_ns: Option<u64>,
    /// Smallest, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ns: Option<u64>,
    /// Largest, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ns: Option<u64>,
    /// Entries of the runtime's histogram that are not waits (Go ≤ 1.25).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded_zero: Option<u64>,
}

impl Hist {
    /// Returns a histogram in the shape of the JSON.
    pub fn of(histogram: &Histogram) -> Self {
        let scheme: BucketScheme = histogram.scheme();
        let mut buckets: Vec<Bucket> = Vec::new();
        for (index, count) in histogram.counts() {
            buckets.push(Bucket {
                le_ns: scheme.upper_ns(index),
                count,
            });
        }
        let excluded = histogram.excluded_zero();
        Self {
            count: histogram.count(),
            p50_ns: histogram.quantile_ns(500),
            p90_ns: histogram.quantile_ns(900),
            p99_ns: histogram.quantile_ns(990),
            p999_ns: histogram.quantile_ns(999),
            resolution: scheme.resolution(),
            buckets,
            sum_ns: histogram.sum_ns(),
            min_ns: histogram.extremes_ns().map(|(min, _)| min),
            max_ns: histogram.extremes_ns().map(|(_, max)| max),
            excluded_zero: (excluded > 0).then_some(excluded),
        }
    }

    /// Whether there is no histogram: each one that was built has a resolution.
    pub fn is_absent(&self) -> bool {
        self.resolution == 0.0
    }
}

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Largest value of the bucket.
    pub le_ns: u64,
    /// How many values.
    pub count: u64,
}
