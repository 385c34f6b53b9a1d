//! When the next sample is taken.
//!
//! Much in a program has a period: time slices of 10 ms, quotas of 100 ms, tickers. Samples at equal distances would hit
//! each of these always at the same point, so that distances are random: half to one and a half times the mean.

use std::time::Duration;

/// The share of a core that sampling one target may take, as one part in so many.
const SHARE: u64 = 350;
/// The mean distance is never more than this.
const LONGEST_NS: u64 = 1_000_000_000;

/// The distances of samples.
#[derive(Debug)]
pub(super) struct Pace {
    wanted_ns: u64,
    /// What a sample costs us, by the last measurements, in nanoseconds of CPU time.
    cost_ns: u64,
    random: u64,
}

impl Pace {
    /// So many samples a second, at most one in a nanosecond. The seed may be any number.
    pub(super) fn new(per_second: u32, seed: u64) -> Self {
        Self {
            wanted_ns: 1_000_000_000 / u64::from(per_second.max(1)),
            cost_ns: 0,
            random: seed,
        }
    }

    /// Takes what samples have cost since the last call: where that is more than their share, they become fewer.
    pub(super) fn add_cost(&mut self, samples: u64, cpu: Duration) {
        let cpu_ns = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        if let Some(each) = cpu_ns.checked_div(samples) {
            // One that was disturbed does not count in full.
            self.cost_ns = self.cost_ns.midpoint(each);
        }
    }

    /// The mean distance.
    fn mean_ns(&self) -> u64 {
        let affordable_ns = self.cost_ns.saturating_mul(SHARE);
        self.wanted_ns.max(affordable_ns.min(LONGEST_NS))
    }

    /// Returns the distance of the next sample.
    pub(super) fn next(&mut self) -> Duration {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mean_ns = self.mean_ns().max(1);
        Duration::from_nanos(mean_ns / 2 + (n ^ n >> 31) % mean_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(pace: &mut Pace) -> Duration {
        let sum: Duration = (0..1_000).map(|_| pace.next()).sum();
        sum / 1_000
    }

    #[test]
    fn distances_are_random_and_their_mean_is_what_was_asked_for() {
        let mut pace = Pace::new(100, 3);
        let mut seen = [0u32; 10];
        for _ in 0..1_000 {
            let distance = pace.next();
            assert!(distance >= Duration::from_millis(5) && distance < Duration::from_millis(15));
            seen[(distance.as_millis() - 5) as usize] += 1;
        }
        assert!(seen.iter().all(|times| (60..150).contains(times)), "{seen:?}");
        let mean = mean(&mut pace);
        assert!((9.5..10.5).contains(&(mean.as_secs_f64() * 1e3)), "{mean:?}");
    }

    #[test]
    fn what_costs_more_than_its_share_is_sampled_less_often() {
        let mut pace = Pace::new(100, 3);
        for _ in 0..30 {
            pace.add_cost(10, Duration::from_micros(200));
        }
        assert!(
            mean(&mut pace) < Duration::from_micros(10_500),
            "20 us is affordable"
        );
        for _ in 0..30 {
            pace.add_cost(10, Duration::from_millis(1));
        }
        let slower = mean(&mut pace);
        assert!((33.0..37.0).contains(&(slower.as_secs_f64() * 1e3)), "{slower:?}");
        pace.add_cost(1, Duration::from_secs(1_000));
        assert!(mean(&mut pace) < Duration::from_millis(1_100));
        // Nothing was sampled.
        pace.add_cost(0, Duration::from_secs(1));
    }
}
