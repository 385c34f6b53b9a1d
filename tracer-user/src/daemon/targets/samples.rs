//! When targets are sampled for why their goroutines wait.
//!
//! One that has nothing to run is sampled with its ordinary readings alone: a hundred idle processes cost next to
//! nothing. One that has is sampled some four times a second, less often where there are many of them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use crate::stream::causes::CauseSamples;

/// The least mean time from one sample of a target to the next.
const SHORTEST_NS: u64 = 250_000_000;
/// The least mean time between two samples of any targets: each costs us some 50 microseconds, with all that it wakes.
const EACH_NS: u64 = 16_000_000;
/// A target whose Ps switch more often than this has something to run.
const BUSY_PER_SECOND: u64 = 100;
/// Samples are taken so much later than the loop turns, at most, which is at multiples of a time that programs have as a
/// period, too.
const DELAY_NS: u64 = 100_000_000;

/// A target of which so many samples in a row were torn is not taken to have something to run: what lies there may not be
/// a scheduler.
const MOST_TORN: u32 = 8;
/// The part of a core that sampling one target may take, as one part in so many.
const SHARE: u32 = 350;
/// Samples come later by no more than this, whatever they cost.
const LATER: Duration = Duration::from_secs(10);

/// What is known of the samples of a target.
#[derive(Debug, Default)]
pub(super) struct Sampled {
    is_busy: bool,
    /// So many in a row were torn.
    torn: u32,
    /// For how much time a sample stands at most, in nanoseconds.
    pub(super) most_ns: u64,
}

impl Sampled {
    /// Of a target that was not sampled yet, and may have something to run.
    pub(super) fn new(is_busy: bool) -> Self {
        Self {
            is_busy,
            ..Self::default()
        }
    }

    /// Whether it had something to run when it was last sampled, or that is not known yet.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Adds samples.
    pub(super) fn add(&mut self, seen: &CauseSamples) {
        self.torn = match seen.samples {
            0 => self.torn.saturating_add(1),
            _ => 0,
        };
        self.is_busy = is_busy(seen) && self.torn < MOST_TORN;
    }
}

/// Whether a target had something to run while these samples were taken.
fn is_busy(seen: &CauseSamples) -> bool {
    let switches = u128::from(seen.executed) * 1_000_000_000;
    let idle = u128::from(seen.length_ns) * u128::from(BUSY_PER_SECOND);
    // What was only torn says as much: a P has changed its state meanwhile.
    seen.runnable_ns > 0 || switches > idle || seen.samples == 0
}

/// The times at which busy targets are to be sampled, by PID.
#[derive(Debug, Default)]
pub(super) struct SampleTimes {
    by_pid: BTreeMap<u32, u64>,
    due: BTreeSet<(u64, u32)>,
}

impl SampleTimes {
    /// Has a target sampled again, after a random time, and later where its last sample has cost much. Returns the longest
    /// that this time can be.
    pub(super) fn schedule(&mut self, pid: u32, now_ns: u64, cost: Duration) -> u64 {
        self.remove(pid);
        let later = cost.saturating_mul(SHARE).min(LATER);
        let later_ns = u64::try_from(later.as_nanos()).unwrap_or(0);
        let mean_ns = SHORTEST_NS.max(EACH_NS.saturating_mul(self.by_pid.len() as u64 + 1));
        let due_ns = now_ns
            .saturating_add(later_ns + mean_ns / 2)
            .saturating_add(random(pid, now_ns) % mean_ns);
        self.by_pid.insert(pid, due_ns);
        self.due.insert((due_ns, pid));
        later_ns + mean_ns / 2 + mean_ns
    }

    /// Has a target not sampled any more.
    pub(super) fn remove(&mut self, pid: u32) {
        if let Some(due_ns) = self.by_pid.remove(&pid) {
            self.due.remove(&(due_ns, pid));
        }
    }

    /// When the next target is to be sampled.
    pub(super) fn next(&self) -> Option<u64> {
        self.due.first().map(|(due_ns, _)| *due_ns)
    }

    /// Returns the next target that is to be sampled now. It is scheduled again when that was done.
    pub(super) fn pop(&mut self, now_ns: u64) -> Option<u32> {
        let (_, pid) = *self.due.first().filter(|(due_ns, _)| *due_ns <= now_ns)?;
        self.remove(pid);
        Some(pid)
    }
}

/// How much later than the loop turns samples are taken.
pub fn sample_delay(now_ns: u64) -> Duration {
    Duration::from_nanos(random(0, now_ns) % DELAY_NS)
}

fn random(pid: u32, now_ns: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (pid, now_ns).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// How often each of so many busy targets is sampled in a minute, in turns of 250 ms.
    fn samples_in_a_minute(targets: u32) -> Vec<u32> {
        let mut times = SampleTimes::default();
        for pid in 0..targets {
            times.schedule(pid, SECOND, Duration::ZERO);
        }
        let mut taken = vec![0; targets as usize];
        for turn in 4..244 {
            let now_ns = turn * SECOND / 4;
            while let Some(pid) = times.pop(now_ns) {
                taken[pid as usize] += 1;
                times.schedule(pid, now_ns, Duration::ZERO);
            }
        }
        taken
    }

    #[test]
    fn a_few_are_sampled_some_times_a_second_and_many_share_what_that_costs() {
        let few = samples_in_a_minute(3);
        assert!(few.iter().all(|taken| (120..=240).contains(taken)), "{few:?}");
        let many = samples_in_a_minute(500);
        let all: u32 = many.iter().sum();
        assert!((2_000..=3_800).contains(&all), "{all}");
        assert!(many.iter().all(|taken| (3..=12).contains(taken)), "{many:?}");
    }

    #[test]
    fn one_that_is_removed_is_not_sampled() {
        let mut times = SampleTimes::default();
        for pid in [7, 8, 7] {
            times.schedule(pid, SECOND, Duration::ZERO);
        }
        assert!(times.next().is_some_and(|due_ns| due_ns > SECOND));
        times.remove(7);
        assert_eq!(times.pop(SECOND), None, "not yet");
        assert_eq!(times.pop(9 * SECOND), Some(8));
        assert_eq!((times.pop(9 * SECOND), times.next()), (None, None));
    }

    #[test]
    fn one_is_busy_if_somebody_waits_or_its_ps_switch() {
        let seen = |runnable_ns, executed| CauseSamples {
            samples: 1,
            length_ns: SECOND / 2,
            runnable_ns,
            executed,
            ..CauseSamples::default()
        };
        for (runnable_ns, executed, busy) in [(0, 0, false), (0, 50, false), (0, 51, true), (1, 0, true)] {
            assert_eq!(
                is_busy(&seen(runnable_ns, executed)),
                busy,
                "{runnable_ns} {executed}"
            );
        }
        let torn = CauseSamples {
            torn: 1,
            ..CauseSamples::default()
        };
        assert!(is_busy(&torn));
        let mut sampled = Sampled::new(true);
        for n in 1..12 {
            sampled.add(&torn);
            assert_eq!(sampled.is_busy(), n < MOST_TORN, "{n}");
        }
        sampled.add(&seen(1, 0));
        assert!(sampled.is_busy());
        sampled.add(&torn);
        assert!(sampled.is_busy());
    }

    #[test]
    fn what_costs_much_is_sampled_later_and_no_sample_comes_later_than_is_said() {
        for (cost_us, least_ms) in [(0, 125), (2_000, 825), (u64::MAX, 10_125)] {
            let mut times = SampleTimes::default();
            let longest_ns = times.schedule(7, SECOND, Duration::from_micros(cost_us));
            let distance_ns = times.next().unwrap() - SECOND;
            assert!(distance_ns >= least_ms * 1_000_000, "{distance_ns}");
            assert!(distance_ns <= longest_ns, "{distance_ns} {longest_ns}");
        }
    }
}
