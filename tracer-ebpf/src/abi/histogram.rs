//! The kernel's histogram of nanoseconds: log-linear, 16 buckets to the power of two, so that a bucket is
//! at most 1/16 of its lower bound wide.

/// Buckets to a power of two, as a power of two.
const SUB_BITS: u32 = 4;
/// Buckets to a power of two.
const SUB: u64 = 1 << SUB_BITS;
/// First power of two that is entirely in the last bucket: 2^42 ns is 73 minutes.
const MAX_EXPONENT: u32 = 42;

/// Number of buckets; the last also takes everything above.
pub const BUCKETS: usize = ((MAX_EXPONENT - SUB_BITS + 1) as usize) << SUB_BITS;

/// A histogram in the BPF maps. All zero is empty.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Histogram {
    /// Values per bucket; see [`bucket_of`].
    pub counts: [u64; BUCKETS],
    /// Sum of all values, in nanoseconds.
    pub sum_ns: u64,
    /// Largest value.
    pub max_ns: u64,
    /// `u64::MAX` − smallest value, so that zero means none.
    pub min_ns_inverted: u64,
}

/// Index of the bucket of `ns`.
#[inline(always)]
pub fn bucket_of(ns: u64) -> usize {
    if ns < SUB {
        return ns as usize;
    }
    let exponent = log2(ns);
    let sub = (ns >> (exponent - SUB_BITS)) & (SUB - 1);
    let index = ((((exponent - SUB_BITS + 1) as u64) << SUB_BITS) + sub) as usize;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// Lowest value of bucket `index`, in nanoseconds.
pub const fn lower_bound(index: usize) -> u64 {
    let (octave, sub) = ((index as u64) >> SUB_BITS, (index as u64) & (SUB - 1));
    if octave == 0 {
        sub
    } else {
        (SUB + sub) << (octave - 1)
    }
}

/// Floor of log2 by bisection: BPF before version 4 has no instruction that counts leading zeros, and
/// the compiler's replacement is longer.
#[inline(always)]
fn log2(mut v: u64) -> u32 {
    let mut n = 0;
    if v >> 32 != 0 {
        v >>= 32;
        n += 32;
    }
    if v >> 16 != 0 {
        v >>= 16;
        n += 16;
    }
    if v >> 8 != 0 {
        v >>= 8;
        n += 8;
    }
    if v >> 4 != 0 {
        v >>= 4;
        n += 4;
    }
    if v >> 2 != 0 {
        v >>= 2;
        n += 2;
    }
    n + (v >> 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_buckets_are_inverse() {
        for index in 0..BUCKETS {
            let low = lower_bound(index);
            assert_eq!(bucket_of(low), index, "lower bound {low}");
            if index + 1 < BUCKETS {
                assert_eq!(
                    bucket_of(lower_bound(index + 1) - 1),
                    index,
                    "last value of bucket {index}"
                );
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_bucket_is_at_most_a_sixteenth_wide() {
        for index in SUB as usize..BUCKETS - 1 {
            let (low, high) = (lower_bound(index), lower_bound(index + 1));
            assert!((high - low) * 16 <= low, "bucket {index}: {low}..{high}");
        }
    }
}
