//! A histogram that a million waits a second are added to: its buckets are an array, not a map.

use tracer_ebpf::histogram::{BUCKETS, bucket_of};

use crate::stream::{BucketScheme, HistogramDelta, HistogramKey};

/// Waits, counted in the buckets that the kernel side uses.
#[derive(Clone, Debug)]
pub struct Counts {
    counts: Box<[u64; BUCKETS]>,
    sum_ns: u64,
    extremes_ns: (u64, u64),
    count: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            sum_ns: 0,
            extremes_ns: (u64::MAX, 0),
            count: 0,
        }
    }
}

impl Counts {
    /// Adds a wait.
    pub fn add(&mut self, ns: u64) {
        if let Some(count) = self.counts.get_mut(bucket_of(ns)) {
            *count += 1;
        }
        self.count += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.extremes_ns = (self.extremes_ns.0.min(ns), self.extremes_ns.1.max(ns));
    }

    /// The number of waits.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All waits as a delta; `None` if there are none.
    pub fn delta(&self, key: HistogramKey) -> Option<HistogramDelta> {
        (self.count > 0).then(|| HistogramDelta {
            key,
            scheme: BucketScheme::Kernel,
            counts: (0u16..)
                .zip(self.counts.iter())
                .filter(|(_, count)| **count > 0)
                .map(|(bucket, count)| (bucket, *count))
                .collect(),
            sum_ns: Some(self.sum_ns),
            extremes_ns: Some(self.extremes_ns),
            excluded_zero: 0,
        })
    }

    /// Returns all waits as a delta, and removes them.
    pub fn take(&mut self, key: HistogramKey) -> Option<HistogramDelta> {
        let delta = self.delta(key)?;
        self.counts.fill(0);
        (self.sum_ns, self.extremes_ns, self.count) = (0, (u64::MAX, 0), 0);
        Some(delta)
    }
}
