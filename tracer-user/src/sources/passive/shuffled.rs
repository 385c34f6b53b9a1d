//! A random order of numbers that needs no memory.

/// Every number below a length once, in a random order: each prefix is a random sample without putting back.
///
/// A fixed order that is spread evenly would do for a walk that is repeated: but the runtime's own habits (gs are reused
/// in the order in which they died, those at the front are the oldest) would then bias each walk in the same way, and the
/// first g, which is main's, would be in each of them.
///
/// A Feistel network permutes the numbers of an even number of bits; what lies beyond the length is permuted again until
/// it does not, which ends since a permutation's cycle leads back to where it began.
pub(super) struct Shuffled {
    length: u64,
    half_bits: u32,
    keys: [u64; 4],
    next: u64,
}

impl Shuffled {
    pub(super) fn new(length: u64, seed: u64) -> Self {
        let bits = u64::BITS - length.saturating_sub(1).leading_zeros();
        let mut state = seed;
        Self {
            length,
            half_bits: bits.div_ceil(2).max(1),
            keys: std::array::from_fn(|_| {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                mix(state)
            }),
            next: 0,
        }
    }

    fn permute(&self, number: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let halves = (number >> self.half_bits & mask, number & mask);
        let (left, right) = self.keys.iter().fold(halves, |(left, right), key| {
            (right, left ^ (mix(right ^ key) & mask))
        });
        left << self.half_bits | right
    }
}

impl Iterator for Shuffled {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.next >= self.length {
            return None;
        }
        let mut number = self.permute(self.next);
        while number >= self.length {
            number = self.permute(number);
        }
        self.next += 1;
        Some(number)
    }
}

/// The finalizer of SplitMix64.
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_once() {
        for length in [0u64, 1, 2, 3, 4, 5, 6, 97, 1000, 1024, 1025, 100_000] {
            let mut order: Vec<u64> = Shuffled::new(length, 42).collect();
            order.sort_unstable();
            assert!(order.into_iter().eq(0..length), "{length}");
        }
    }

    #[test]
    fn a_seed_repeats_and_another_one_does_not() {
        let order = |seed| Shuffled::new(1000, seed).collect::<Vec<_>>();
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
    }

    /// Over many seeds each number is in a sample of a tenth in a tenth of the cases, the first one too.
    #[test]
    fn no_number_is_preferred() {
        const SEEDS: u64 = 2_000;
        let mut drawn = [0u64; 100];
        for seed in 0..SEEDS {
            for number in Shuffled::new(100, seed).take(10) {
                drawn[number as usize] += 1;
            }
        }
        // 200 expected, with a standard deviation of 13.4.
        for (number, count) in drawn.iter().enumerate() {
            assert!((130..=270).contains(count), "{number} was drawn {count} times");
        }
    }

    #[test]
    fn the_longest_length_is_possible() {
        let first = Shuffled::new(u64::MAX, 3).take(1000);
        assert!(first.into_iter().all(|number| number < u64::MAX));
    }
}
