//! The bounds of classic buckets.
//!
//! All sources have a bucket bound at every quarter of every power of two from 256 ns on. Bounds are chosen among
//! these, so that none divides a bucket of a source, and every count is exact. A bound is one nanosecond less than such
//! a value, since `le` includes its bound: 1.023e-06 is "shorter than 1024 ns".
//!
//! Each bound is a series, so there are two widths. [`Bounds::Fine`], for what a process has once or six times, has two
//! bounds per power of two: a quantile is off by a third to a half at most. [`Bounds::Coarse`], for what a process or a
//! binary has dozens of times, has one. Native histograms are as fine as the source.

use crate::{latency::Histogram, stream::buckets::UNBOUNDED_NS};

/// The first bound, 2^10 ns. Shorter waits do not matter.
const FIRST: u32 = 10;
/// Up to 2^30 ns, [`Bounds::Fine`] has two bounds per power of two.
const FINE_UP_TO: u32 = 30;
/// The last bound, 2^36 ns or 69 s.
const LAST: u32 = 36;

/// Which bounds a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// Two per power of two up to a second, then one.
    Fine,
    /// One per power of two.
    Coarse,
}

impl Bounds {
    /// The inclusive upper bounds, ascending, in nanoseconds.
    pub fn upper_ns(self) -> impl Iterator<Item = u64> {
        (FIRST..=LAST).flat_map(move |power| {
            let whole = 1u64 << power;
            let half = (self == Self::Fine && power < FINE_UP_TO).then_some(whole + whole / 2);
            std::iter::once(whole).chain(half).map(|ns| ns - 1)
        })
    }

    /// (upper bound in seconds, waits in this bucket), not cumulative; the last bucket reaches to infinity.
    pub fn count(self, histogram: &Histogram) -> Vec<(f64, u64)> {
        let scheme = histogram.scheme();
        let mut source = histogram.counts().peekable();
        let mut buckets = Vec::with_capacity(48);
        for bound in self.upper_ns().chain([UNBOUNDED_NS]) {
            let mut inside = 0u64;
            while let Some((_, count)) = source.next_if(|(index, _)| scheme.upper_ns(*index) <= bound) {
                inside = inside.saturating_add(count);
            }
            let seconds = match bound {
                UNBOUNDED_NS => f64::INFINITY,
                ns => ns as f64 / 1e9,
            };
            buckets.push((seconds, inside));
        }
        buckets
    }
}

/// The sum of the waits in seconds, if the source knows it. If not, each wait counts with the middle of its bucket, and
/// one in the overflow bucket with its lower bound.
pub fn sum_seconds(histogram: &Histogram) -> f64 {
    if let Some(ns) = histogram.sum_ns() {
        return ns as f64 / 1e9;
    }
    let scheme = histogram.scheme();
    let middle = |index: u16| match (scheme.lower_ns(index), scheme.upper_ns(index)) {
        (low, UNBOUNDED_NS) => low as f64,
        (low, high) => (low as f64 + high as f64) / 2.0,
    };
    // Not `sum()`, which is -0 for an empty iterator.
    let add = |sum: f64, (index, count): (u16, u64)| sum + middle(index) * count as f64;
    histogram.counts().fold(0.0, add) / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::metrics::testing::histogram;
    use crate::stream::BucketScheme;

    const ALL: [BucketScheme; 3] = [BucketScheme::Go119, BucketScheme::Go121, BucketScheme::Kernel];

    #[test]
    fn no_bound_divides_a_bucket_of_a_source() {
        for bounds in [Bounds::Fine, Bounds::Coarse] {
            for bound in bounds.upper_ns() {
                for scheme in ALL {
                    let index = scheme.index_of(bound);
                    assert_eq!(scheme.upper_ns(index), bound, "{scheme:?} {bound}");
                }
            }
        }
        assert_eq!(Bounds::Fine.upper_ns().count(), 47);
        assert_eq!(Bounds::Coarse.upper_ns().count(), 27);
    }

    #[test]
    fn each_wait_is_in_its_bucket_and_none_is_lost() {
        for scheme in ALL {
            let waits = [0, 5, 1023, 1024, 1535, 1536, 5_000_000, 3_000_000_000_000_000];
            let histogram = histogram(scheme, &waits);
            for bounds in [Bounds::Fine, Bounds::Coarse] {
                let buckets = bounds.count(&histogram);
                let mut below = 0;
                let mut seen = 0;
                for (le, count) in buckets {
                    assert!(le > 0.0);
                    below += count;
                    seen = waits.iter().filter(|ns| **ns as f64 / 1e9 <= le).count() as u64;
                    assert_eq!(below, seen, "{scheme:?} {le}");
                }
                assert_eq!(seen, waits.len() as u64);
            }
        }
    }

    #[test]
    fn a_sum_is_known_or_the_middle_of_buckets() {
        let known = histogram(BucketScheme::Kernel, &[1_000_000, 2_000_000]);
        assert_eq!(sum_seconds(&known), 0.003);
        let estimated = histogram(BucketScheme::Go121, &[1024, 1279]);
        assert_eq!(sum_seconds(&estimated), 2.0 * 1151.5 / 1e9);
        let none = sum_seconds(&histogram(BucketScheme::Go121, &[]));
        assert!(none == 0.0 && none.is_sign_positive());
    }
}
