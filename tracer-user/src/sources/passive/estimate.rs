//! What a random sample says of the whole: an estimate, and the interval that it lies in.

/// The quantile of the normal distribution for an interval that holds in 95 of 100 samples.
const Z: f64 = 1.959_963_985;

/// An estimated count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Estimate {
    /// The most likely count.
    pub value: u64,
    /// The ends of the interval of 95 %. Never below what was seen, nor above what the rest leaves room for.
    pub range: (u64, u64),
}

/// Estimates how many of `size` have a property that `count` of a sample of `sample` have, which was drawn without
/// putting back.
///
/// The interval is Wilson's, which also holds for rare properties and small samples, with the sample's size corrected
/// for a finite population: a sample of all leaves nothing to guess.
pub(super) fn estimate(count: u64, sample: u64, size: u64) -> Estimate {
    let count = count.min(sample);
    if sample >= size {
        return Estimate {
            value: count,
            range: (count, count),
        };
    }
    if sample == 0 {
        return Estimate {
            value: 0,
            range: (0, size),
        };
    }
    let value = scaled(count, size, sample);
    let (whole, drawn) = (size as f64, sample as f64);
    let share = count as f64 / drawn;
    // Each member that is drawn makes the rest smaller, so the sample says as much as a larger one with putting back.
    let n = drawn * (whole - 1.0) / (whole - drawn);
    let scale = 1.0 / (1.0 + Z * Z / n);
    let centre = (share + Z * Z / (2.0 * n)) * scale;
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt() * scale;
    // Casts of floats saturate.
    let low = ((centre - half) * whole).floor() as u64;
    let high = ((centre + half) * whole).ceil() as u64;
    let most = size - (sample - count);
    Estimate {
        value,
        range: (low.max(count).min(value), high.min(most).max(value)),
    }
}

/// Scales `count` of `sample` to `size`, rounded.
fn scaled(count: u64, size: u64, sample: u64) -> u64 {
    let scaled = (u128::from(count) * u128::from(size) + u128::from(sample) / 2) / u128::from(sample.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_of_all_is_exact() {
        for (count, size) in [(0, 7), (3, 7), (7, 7), (0, 0)] {
            let all = estimate(count, size, size);
            assert_eq!((all.value, all.range), (count, (count, count)));
        }
    }

    #[test]
    fn the_interval_of_a_large_sample_is_that_of_the_textbook() {
        // 300 of 1,000 of a population that is so large that it does not matter: Wilson's interval is 27.2 % to 32.9 %.
        let found = estimate(300, 1_000, 1_000_000_000);
        assert_eq!(found.value, 300_000_000);
        assert_eq!(found.range.0 / 1_000_000, 272, "{found:?}");
        assert_eq!(found.range.1 / 1_000_000, 329, "{found:?}");
        // Half of the population leaves an interval that is narrower by the root of one half.
        let (whole, half) = (estimate(300, 1_000, 1 << 40), estimate(300, 1_000, 2_000));
        let width = |found: Estimate, size: u64| (found.range.1 - found.range.0) as f64 / size as f64;
        let ratio = width(half, 2_000) / width(whole, 1 << 40);
        assert!((0.68..0.74).contains(&ratio), "{ratio}");
    }

    #[test]
    fn the_interval_is_within_what_is_possible() {
        for size in [1u64, 2, 7, 100, 81_921] {
            for sample in [0, 1, 2, 50, 1024].into_iter().filter(|sample| *sample <= size) {
                for count in [0, 1, sample / 2, sample] {
                    let count = count.min(sample);
                    let Estimate {
                        value,
                        range: (low, high),
                    } = estimate(count, sample, size);
                    assert!(low <= value && value <= high, "{count} of {sample} of {size}");
                    assert!(low >= count && high <= size - (sample - count));
                }
            }
        }
        // Of 81,921 gs one in 1,024 lives: from one to some four hundred.
        let (low, high) = estimate(1, 1024, 81_921).range;
        assert!(low <= 20 && (300..600).contains(&high), "{low} {high}");
    }

    #[test]
    fn counts_near_the_largest_number_do_not_overflow() {
        let found = estimate(u64::MAX / 2, u64::MAX / 2, u64::MAX);
        assert_eq!(found.value, u64::MAX);
    }
}
