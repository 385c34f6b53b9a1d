//! Native (exponential) histograms.
//!
//! Prometheus divides each power of two of *seconds* into 2^schema buckets that grow by the same factor; our sources
//! divide powers of two of nanoseconds evenly. Their bounds never coincide, so a source's bucket is counted in the
//! native bucket that contains its upper bound: a wait appears shorter than it was by at most one native bucket, and
//! longer by at most the width of its source bucket and of one native bucket. The schema is chosen so that native
//! buckets are narrower than the narrowest bucket of the source, which keeps its buckets separate:
//!
//! | source | its buckets are wide | schema | native buckets are wide |
//! |---|---|---|---|
//! | Go 1.21+ | 14.3 to 25 % | 3 | 9.1 % |
//! | Go 1.19, 1.20; kernel | 3.2 to 6.25 % | 5 | 2.2 % |

use std::sync::LazyLock;

use crate::{latency::Histogram, stream::BucketScheme};

/// The upper bound of the zero bucket in seconds, 2^-23: waits of at most 119 ns. It is a bound in every schema, so
/// that histograms can be merged.
pub const ZERO_THRESHOLD: f64 = 1.0 / (1u32 << 23) as f64;
const ZERO_NS: u64 = 119;

/// Up to so many empty buckets in a row are written out, since a new span would take more bytes.
const BRIDGED: i32 = 2;

/// A histogram as protobuf carries it.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// There are 2^schema buckets per power of two.
    pub schema: i32,
    /// Waits of at most [`ZERO_THRESHOLD`].
    pub zero_count: u64,
    /// (gap to the span before, buckets in it); the first gap is from index 0.
    pub spans: Vec<(i32, u32)>,
    /// The count of each bucket, as the difference to the one before.
    pub deltas: Vec<i64>,
}

impl Native {
    /// Converts the histogram of a source.
    pub fn of(histogram: &Histogram) -> Self {
        let scheme = histogram.scheme();
        let indexes = indexes(scheme);
        let mut native = Self {
            schema: schema(scheme),
            zero_count: 0,
            spans: Vec::new(),
            deltas: Vec::new(),
        };
        // Indexes ascend. They are equal only where the source is finer than the schema: in its linear part at the
        // bottom.
        let mut buckets: Vec<(i32, u64)> = Vec::new();
        for (index, count) in histogram.counts() {
            if scheme.upper_ns(index) <= ZERO_NS {
                native.zero_count = native.zero_count.saturating_add(count);
                continue;
            }
            let Some(at) = indexes.get(usize::from(index)) else {
                continue;
            };
            match buckets.last_mut() {
                Some((last, sum)) if last == at => *sum = sum.saturating_add(count),
                _ => buckets.push((*at, count)),
            }
        }
        let mut before = 0i64;
        let mut next: Option<i32> = None;
        for (at, count) in buckets {
            let gap = at - next.unwrap_or(0);
            match native.spans.last_mut() {
                Some((_, length)) if gap <= BRIDGED => {
                    for _ in 0..gap {
                        native.deltas.push(-std::mem::take(&mut before));
                    }
                    *length += gap.unsigned_abs() + 1;
                }
                _ => native.spans.push((gap, 1)),
            }
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            native.deltas.push(count - before);
            before = count;
            next = Some(at + 1);
        }
        native
    }
}

/// The schema for histograms of a source; see the documentation of this module.
pub fn schema(scheme: BucketScheme) -> i32 {
    match scheme {
        BucketScheme::Go121 => 3,
        BucketScheme::Go119 | BucketScheme::Kernel => 5,
    }
}

/// The native index of each bucket of a source, including the overflow bucket.
fn indexes(scheme: BucketScheme) -> &'static [i32] {
    static TABLES: LazyLock<[Vec<i32>; 3]> = LazyLock::new(|| {
        [BucketScheme::Go119, BucketScheme::Go121, BucketScheme::Kernel].map(|scheme| {
            (0..=scheme.buckets())
                .map(|index| index_of(scheme.upper_ns(index) as f64 / 1e9, schema(scheme)))
                .collect()
        })
    });
    let [go119, go121, kernel] = &*TABLES;
    match scheme {
        BucketScheme::Go119 => go119,
        BucketScheme::Go121 => go121,
        BucketScheme::Kernel => kernel,
    }
}

/// The index of the bucket that contains `seconds`: bucket i reaches from (not including) 2^((i−1)/2^schema) to
/// 2^(i/2^schema).
fn index_of(seconds: f64, schema: i32) -> i32 {
    if seconds <= 0.0 {
        return i32::MIN;
    }
    let mut index = (seconds.log2() * f64::from(1 << schema)).ceil() as i32;
    // Logarithms are rounded.
    while upper_bound(index, schema) < seconds {
        index += 1;
    }
    while upper_bound(index - 1, schema) >= seconds {
        index -= 1;
    }
    index
}

/// The upper bound of a native bucket, in seconds.
fn upper_bound(index: i32, schema: i32) -> f64 {
    (f64::from(index) / f64::from(1 << schema)).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::metrics::testing::histogram;
    use proptest::prelude::*;

    const ALL: [BucketScheme; 3] = [BucketScheme::Go119, BucketScheme::Go121, BucketScheme::Kernel];

    /// (index, count) of a native histogram, unpacked as Prometheus does.
    fn unpack(native: &Native) -> Vec<(i32, i64)> {
        let (mut at, mut count) = (0, 0);
        let mut deltas = native.deltas.iter();
        let mut buckets = Vec::new();
        for (gap, length) in &native.spans {
            at += gap;
            for _ in 0..*length {
                count += deltas.next().unwrap();
                buckets.push((at, count));
                at += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        buckets
    }

    #[test]
    fn a_bucket_of_a_source_is_where_its_upper_bound_lies() {
        for scheme in ALL {
            let schema = schema(scheme);
            for (index, at) in indexes(scheme).iter().enumerate() {
                let upper = scheme.upper_ns(index as u16);
                if upper <= ZERO_NS {
                    assert!(upper as f64 / 1e9 <= ZERO_THRESHOLD);
                    continue;
                }
                let seconds = upper as f64 / 1e9;
                assert!(seconds > ZERO_THRESHOLD, "{scheme:?} {index}");
                assert!(upper_bound(*at, schema) >= seconds, "{scheme:?} {index}");
                assert!(upper_bound(at - 1, schema) < seconds, "{scheme:?} {index}");
            }
        }
    }

    #[test]
    fn buckets_of_a_source_stay_separate() {
        for scheme in ALL {
            let indexes = indexes(scheme);
            for index in 1..scheme.buckets() {
                // In the linear part at the bottom, and in the last, buckets are not of the usual width.
                if scheme.lower_ns(index) >= 256 {
                    let (a, b) = (indexes[usize::from(index) - 1], indexes[usize::from(index)]);
                    assert!(a < b, "{scheme:?} {index}");
                }
            }
        }
    }

    #[test]
    fn short_gaps_are_bridged_and_long_ones_are_spans() {
        let native = Native::of(&histogram(
            BucketScheme::Go121,
            &[10, 10, 1024, 1280, 1280, 1_000_000_000],
        ));
        assert_eq!(native.zero_count, 2);
        assert_eq!(native.spans.len(), 2, "{native:?}");
        let counts: Vec<i64> = unpack(&native)
            .iter()
            .map(|b| b.1)
            .filter(|count| *count > 0)
            .collect();
        assert_eq!(counts, [1, 2, 1]);
        assert_eq!(Native::of(&Histogram::new(BucketScheme::Kernel)).spans, []);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_shown_shorter(
            waits in prop::collection::vec((0u32..45, any::<u64>()), 0..60),
            which in 0usize..3,
        ) {
            let waits: Vec<u64> = waits.iter().map(|(bits, noise)| (noise >> 19) >> (44 - bits)).collect();
            let histogram = histogram(ALL[which], &waits);
            let native = Native::of(&histogram);
            let buckets = unpack(&native);
            let total: i64 = buckets.iter().map(|b| b.1).sum();
            prop_assert_eq!(total as u64 + native.zero_count, waits.len() as u64);
            prop_assert!(buckets.iter().all(|b| b.1 >= 0));
            // However far up: as many waits are at most that long as the native histogram says, or more.
            let mut shown = native.zero_count;
            for (index, count) in buckets {
                shown += count as u64;
                let bound = upper_bound(index, native.schema);
                let real = waits.iter().filter(|ns| **ns as f64 / 1e9 <= bound).count() as u64;
                prop_assert!(shown <= real, "{} {} {}", index, shown, real);
            }
        }
    }
}
