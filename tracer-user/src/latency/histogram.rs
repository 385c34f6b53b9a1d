//! One histogram, in the buckets of its source.

use std::collections::BTreeMap;

use crate::stream::{BucketScheme, HistogramDelta};

/// The quantiles that are shown, as (per mille, name).
pub const QUANTILES: [(u32, &str); 4] = [(500, "p50"), (900, "p90"), (990, "p99"), (999, "p99.9")];

/// Waits counted in buckets. Counts are exact; sum and extremes are known only if they are for every part.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    scheme: BucketScheme,
    counts: BTreeMap<u16, u64>,
    count: u64,
    sum_ns: Option<u64>,
    extremes_ns: Option<(u64, u64)>,
    excluded_zero: u64,
}

impl Histogram {
    /// An empty histogram.
    pub fn new(scheme: BucketScheme) -> Self {
        Self {
            scheme,
            counts: BTreeMap::new(),
            count: 0,
            sum_ns: None,
            extremes_ns: None,
            excluded_zero: 0,
        }
    }

    /// Adds the waits of a delta of the same scheme. One of another scheme is a mistake of the caller, and is ignored.
    pub fn add_delta(&mut self, delta: &HistogramDelta) {
        let added = Self::of_delta(delta);
        self.merge(&added);
    }

    fn of_delta(delta: &HistogramDelta) -> Self {
        let mut histogram = Self::new(delta.scheme);
        for (index, count) in delta.counts.iter().filter(|(_, count)| *count > 0) {
            // An index past the overflow bucket is not one of the scheme: it counts as overflow.
            let slot = histogram
                .counts
                .entry((*index).min(delta.scheme.buckets()))
                .or_default();
            *slot = slot.saturating_add(*count);
            histogram.count = histogram.count.saturating_add(*count);
        }
        if histogram.count > 0 {
            histogram.sum_ns = delta.sum_ns;
            histogram.extremes_ns = delta.extremes_ns;
        }
        histogram.excluded_zero = delta.excluded_zero;
        histogram
    }

    /// Adds the waits of another histogram of the same scheme.
    pub fn merge(&mut self, other: &Histogram) {
        if other.scheme != self.scheme {
            debug_assert!(false, "merging {:?} into {:?}", other.scheme, self.scheme);
            return;
        }
        self.excluded_zero = self.excluded_zero.saturating_add(other.excluded_zero);
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            (self.sum_ns, self.extremes_ns) = (other.sum_ns, other.extremes_ns);
        } else {
            let both = self.sum_ns.zip(other.sum_ns);
            self.sum_ns = both.map(|(a, b)| a.saturating_add(b));
            let both = self.extremes_ns.zip(other.extremes_ns);
            self.extremes_ns = both.map(|(a, b)| (a.0.min(b.0), a.1.max(b.1)));
        }
        for (index, count) in &other.counts {
            let slot = self.counts.entry(*index).or_default();
            *slot = slot.saturating_add(*count);
        }
        self.count = self.count.saturating_add(other.count);
    }

    /// The bucket scheme.
    pub fn scheme(&self) -> BucketScheme {
        self.scheme
    }

    /// Number of waits.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// (bucket index, count), ascending, no zero counts.
    pub fn counts(&self) -> impl DoubleEndedIterator<Item = (u16, u64)> + '_ {
        self.counts.iter().map(|(index, count)| (*index, *count))
    }

    /// Upper bound, in nanoseconds, of the bucket with the wait of rank ⌈count × `per_mille` ÷ 1000⌉ (the first for
    /// 0); the wait itself may be shorter by the bucket's width. `None` if there are no waits.
    pub fn quantile_ns(&self, per_mille: u32) -> Option<u64> {
        let rank = (u128::from(self.count) * u128::from(per_mille.min(1000)))
            .div_ceil(1000)
            .max(1);
        let mut seen = 0u128;
        let holds = |(_, count): &(&u16, &u64)| {
            seen += u128::from(**count);
            seen >= rank
        };
        self.counts
            .iter()
            .find(holds)
            .map(|(index, _)| self.scheme.upper_ns(*index))
    }

    /// Upper bound of the highest bucket that is not empty.
    pub fn highest_ns(&self) -> Option<u64> {
        self.counts
            .last_key_value()
            .map(|(index, _)| self.scheme.upper_ns(*index))
    }

    /// Number of waits that were certainly longer than `ns`: those in buckets that are entirely above it.
    pub fn count_above(&self, ns: u64) -> u64 {
        self.counts()
            .filter(|(index, _)| self.scheme.lower_ns(*index) > ns)
            .map(|(_, count)| count)
            .sum()
    }

    /// Sum of all waits, if it is known.
    pub fn sum_ns(&self) -> Option<u64> {
        self.sum_ns
    }

    /// Smallest and largest wait since the capture began, if they are known.
    pub fn extremes_ns(&self) -> Option<(u64, u64)> {
        self.extremes_ns
    }

    /// Number of entries that were not waits and were left out.
    pub fn excluded_zero(&self) -> u64 {
        self.excluded_zero
    }
}
