//! Bucket bounds of every [`BucketScheme`].
//!
//! Sources of the formulas: `runtime/histogram.go`, `(*timeHistogram).record`, of Go 1.19.8 (720 buckets)
//! and of Go 1.21 to 1.27 (160 buckets, alike in all); [`tracer_ebpf::histogram`] for the kernel's. In none
//! of them does a bucket cross a power of two.

use tracer_ebpf::histogram as kernel;

use super::BucketScheme;

/// Upper bound of a bucket that takes everything above its lower bound: the largest duration of Go.
pub const UNBOUNDED_NS: u64 = i64::MAX as u64;

/// Go 1.19: `timeHistSubBucketBits`.
const GO119_SUB_BITS: u32 = 4;
/// Go 1.19: `timeHistNumSuperBuckets` × `timeHistNumSubBuckets`.
const GO119_BUCKETS: u16 = 45 << GO119_SUB_BITS;
/// Go 1.21+: `timeHistSubBucketBits`.
const GO121_SUB_BITS: u32 = 2;
/// Go 1.21+: `timeHistMinBucketBits` − 1: the first bucket bit's value is 256 ns.
const GO121_MIN_BIT: u32 = 8;
/// Go 1.21+: `timeHistNumBuckets` × `timeHistNumSubBuckets`.
const GO121_BUCKETS: u16 = 40 << GO121_SUB_BITS;

impl BucketScheme {
    /// Returns the number of regular buckets. An index equal to it is the overflow bucket of Go 1.21+.
    pub const fn buckets(self) -> u16 {
        match self {
            Self::Go119 => GO119_BUCKETS,
            Self::Go121 => GO121_BUCKETS,
            Self::Kernel => kernel::BUCKETS as u16,
        }
    }

    /// Returns the smallest value of bucket `index`, in nanoseconds. Indexes past the overflow bucket count as that.
    pub const fn lower_ns(self, index: u16) -> u64 {
        match self {
            Self::Go119 => log_linear(min(index, GO119_BUCKETS - 1), GO119_SUB_BITS, GO119_SUB_BITS),
            Self::Go121 => log_linear(min(index, GO121_BUCKETS), GO121_SUB_BITS, GO121_MIN_BIT),
            Self::Kernel => kernel::lower_bound(min(index, kernel::BUCKETS as u16 - 1) as usize),
        }
    }

    /// Returns the largest value of bucket `index`, in nanoseconds; [`UNBOUNDED_NS`] for the bucket that takes
    /// everything above.
    pub const fn upper_ns(self, index: u16) -> u64 {
        let last = match self {
            // These have no overflow bucket: the last one takes what is too large.
            Self::Go119 | Self::Kernel => self.buckets() - 1,
            Self::Go121 => self.buckets(),
        };
        if index >= last {
            UNBOUNDED_NS
        } else {
            self.lower_ns(index + 1) - 1
        }
    }

    /// Returns the index of the bucket that holds `ns`.
    pub fn index_of(self, ns: u64) -> u16 {
        let found = match self {
            Self::Go119 => log_linear_index(ns, GO119_SUB_BITS, GO119_SUB_BITS).min(GO119_BUCKETS - 1),
            Self::Go121 => log_linear_index(ns, GO121_SUB_BITS, GO121_MIN_BIT).min(GO121_BUCKETS),
            Self::Kernel => kernel::bucket_of(ns) as u16,
        };
        debug_assert!(self.lower_ns(found) <= ns);
        found
    }

    /// Returns the largest width of a bucket relative to its lower bound (above the linear part at the bottom).
    pub const fn resolution(self) -> f64 {
        match self {
            Self::Go119 | Self::Kernel => 1.0 / 16.0,
            Self::Go121 => 0.25,
        }
    }

    /// Returns the upper bound of the first bucket that spans more than one power of two: 63 where the scheme is
    /// coarse at the bottom, otherwise 0.
    pub const fn linear_floor_ns(self) -> u64 {
        match self {
            Self::Go119 | Self::Kernel => 0,
            Self::Go121 => 63,
        }
    }
}

/// Returns the lower bound of bucket `index`: there are `1 << sub_bits` buckets for the values below `1 << min_bit`,
/// then as many for each power of two.
const fn log_linear(index: u16, sub_bits: u32, min_bit: u32) -> u64 {
    let (power, sub) = ((index >> sub_bits) as u32, (index & ((1 << sub_bits) - 1)) as u64);
    if power == 0 {
        sub << (min_bit - sub_bits)
    } else {
        let bit = min_bit + power - 1;
        (1 << bit) | (sub << (bit - sub_bits))
    }
}

/// The inverse of [`log_linear`], without an upper limit but that of `u16`.
fn log_linear_index(ns: u64, sub_bits: u32, min_bit: u32) -> u16 {
    let index = if ns >> min_bit == 0 {
        ns >> (min_bit - sub_bits)
    } else {
        let bit = ns.ilog2();
        let sub = (ns >> (bit - sub_bits)) & ((1 << sub_bits) - 1);
        (u64::from(bit - min_bit + 1) << sub_bits) | sub
    };
    u16::try_from(index).unwrap_or(u16::MAX)
}

const fn min(a: u16, b: u16) -> u16 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [BucketScheme; 3] = [BucketScheme::Go119, BucketScheme::Go121, BucketScheme::Kernel];

    /// `(*timeHistogram).record` of Go 1.21+, line by line; `None` is its overflow.
    fn record_of_go121(duration: u64) -> Option<u16> {
        let len64 = u64::BITS - duration.leading_zeros();
        let (bucket_bit, bucket) = if len64 < 9 { (9, 0) } else { (len64, len64 - 9 + 1) };
        let sub_bucket = (duration >> (bucket_bit - 1 - 2)) % 4;
        (bucket < 40).then_some((bucket * 4) as u16 + sub_bucket as u16)
    }

    /// `(*timeHistogram).record` of Go 1.19, line by line.
    fn record_of_go119(duration: u64) -> u16 {
        if duration < 16 {
            return duration as u16;
        }
        let super_bucket = u64::BITS - duration.leading_zeros() - 4;
        if super_bucket * 16 >= 720 {
            return 44 * 16 + 15;
        }
        (super_bucket * 16) as u16 + ((duration >> (super_bucket - 1)) % 16) as u16
    }

    #[test]
    fn bounds_are_those_of_runtime_metrics() {
        // Lower bounds of `/sched/latencies:seconds` of Go 1.27 and 1.19, as whole nanoseconds.
        for (index, ns) in [
            (0, 0),
            (1, 64),
            (4, 256),
            (9, 640),
            (12, 1024),
            (13, 1280),
            (160, 1 << 47),
        ] {
            assert_eq!(BucketScheme::Go121.lower_ns(index), ns, "bucket {index}");
        }
        assert_eq!(BucketScheme::Go121.lower_ns(159), 123_145_302_310_912);
        for (index, ns) in [(0, 0), (15, 15), (16, 16), (31, 31), (32, 32), (33, 34)] {
            assert_eq!(BucketScheme::Go119.lower_ns(index), ns, "bucket {index}");
        }
        assert_eq!(BucketScheme::Go119.lower_ns(719), 272_678_883_688_448);
    }

    #[test]
    fn buckets_touch_and_do_not_cross_a_power_of_two() {
        for scheme in ALL {
            for index in 0..scheme.buckets() {
                let (low, high) = (scheme.lower_ns(index), scheme.upper_ns(index));
                assert_eq!(scheme.index_of(low), index, "{scheme:?} {index}");
                assert_eq!(
                    scheme.index_of(high),
                    index.max(scheme.index_of(high)),
                    "{scheme:?} {index}"
                );
                if high == UNBOUNDED_NS || high <= scheme.linear_floor_ns() {
                    continue;
                }
                assert_eq!(scheme.index_of(high), index, "{scheme:?} {index}");
                assert!(
                    low == high || low.ilog2() == high.ilog2(),
                    "{scheme:?} {index}: {low}..={high}"
                );
                let width = (high - low + 1) as f64 / low.max(1) as f64;
                let linear = low < 256;
                assert!(
                    linear || width <= scheme.resolution(),
                    "{scheme:?} {index}: {low}..={high}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn every_duration_is_where_the_runtime_puts_it(bits in 0u32..63, noise: u64) {
            let ns = noise >> (63 - bits) >> 1;
            prop_assert_eq!(BucketScheme::Go121.index_of(ns), record_of_go121(ns).unwrap_or(160));
            prop_assert_eq!(BucketScheme::Go119.index_of(ns), record_of_go119(ns));
            for scheme in ALL {
                let index = scheme.index_of(ns);
                prop_assert!(scheme.lower_ns(index) <= ns && ns <= scheme.upper_ns(index));
            }
        }
    }
}
