//! Sums up samples, and keeps back those of which it is not known yet whether the quota of the cgroup was used up.

use std::collections::VecDeque;

use super::shares::Shares;
use super::stall::Progress;
use crate::model::sched::Cause;
use crate::stream::causes::CauseSamples;

/// Samples are kept back for so long at most: no period of a quota is longer than a second.
const MOST_KEPT_NS: u64 = 2_000_000_000;

/// A sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// The time that it stands for.
    pub length_ns: u64,
    /// Goroutines that could run and did not.
    pub runnable: u64,
    /// Why goroutines waited.
    pub shares: Shares,
}

/// A sample that is kept back.
#[derive(Clone, Copy, Debug)]
struct Kept {
    sample: Sample,
    /// The time of it in which it can have been throttled, and is not known to have been.
    off_ns: f64,
    /// The time of it in which it was throttled.
    throttled_ns: f64,
}

/// Samples since the last sums were taken.
#[derive(Debug, Default)]
pub(super) struct Batch {
    sums: CauseSamples,
    by_cause: [f64; Cause::COUNT],
    /// Samples that are kept back, in order. The first of them may be the one in which a stretch began.
    kept: VecDeque<Kept>,
    /// The time that those stand for.
    kept_ns: u64,
}

impl Batch {
    /// Adds a sample.
    pub(super) fn add(&mut self, sample: Sample, progress: Progress) {
        match progress {
            Progress::Runs { off } => {
                self.settle();
                self.keep(sample, off);
            }
            Progress::Waits { off, ended_ns } => {
                self.keep(sample, off);
                if ended_ns > 0 {
                    self.end_stretch(ended_ns);
                }
            }
            Progress::Throttled(share) => {
                self.settle();
                self.count(&sample, share);
            }
        }
        while self.kept_ns > MOST_KEPT_NS && self.count_oldest() {}
    }

    fn keep(&mut self, sample: Sample, off: f64) {
        self.kept_ns = self.kept_ns.saturating_add(sample.length_ns);
        self.kept.push_back(Kept {
            sample,
            off_ns: off * sample.length_ns as f64,
            throttled_ns: 0.0,
        });
    }

    /// Applies that stretches have ended within the last sample: they were in the last of the time in which the target
    /// did not run. All but the last sample are settled with that: another stretch may have begun in it.
    fn end_stretch(&mut self, ended_ns: u64) {
        let mut left_ns = ended_ns as f64;
        for kept in self.kept.iter_mut().rev() {
            let ns = left_ns.min(kept.off_ns);
            kept.off_ns -= ns;
            kept.throttled_ns += ns;
            left_ns -= ns;
        }
        while self.kept.len() > 1 {
            self.count_oldest();
        }
    }

    /// Counts the oldest of those that are kept back; returns whether there was one.
    fn count_oldest(&mut self) -> bool {
        let Some(oldest) = self.kept.pop_front() else {
            return false;
        };
        let length_ns = oldest.sample.length_ns;
        self.kept_ns = self.kept_ns.saturating_sub(length_ns);
        self.count(&oldest.sample, oldest.throttled_ns / length_ns.max(1) as f64);
        true
    }

    /// Counts what was kept back: of what is not known to have been throttled, the quota was not the cause.
    pub(super) fn settle(&mut self) {
        while self.count_oldest() {}
    }

    /// Counts a sample that was dropped.
    pub(super) fn add_torn(&mut self) {
        self.sums.torn += 1;
    }

    /// Counts goroutines that Ps have taken to run.
    pub(super) fn add_executed(&mut self, executed: u64) {
        self.sums.executed = self.sums.executed.saturating_add(executed);
    }

    /// Returns the sums since the last call, without what is kept back; `None` if nothing was counted.
    pub(super) fn take(&mut self) -> Option<CauseSamples> {
        let mut sums = std::mem::take(&mut self.sums);
        let by_cause = std::mem::replace(&mut self.by_cause, [0.0; Cause::COUNT]);
        // Rounded one by one, so that they add up to the whole.
        sums.by_cause = Cause::ALL
            .into_iter()
            .zip(by_cause)
            .map(|(cause, ns)| (cause as u8, ns.round() as u64))
            .filter(|(_, ns)| *ns > 0)
            .collect();
        let causes = sums.by_cause.iter().map(|(_, ns)| *ns);
        sums.runnable_ns = causes.fold(0, u64::saturating_add);
        (sums != CauseSamples::default()).then_some(sums)
    }

    fn count(&mut self, sample: &Sample, throttled: f64) {
        let sums = &mut self.sums;
        sums.samples += 1;
        sums.length_ns = sums.length_ns.saturating_add(sample.length_ns);
        if sample.runnable == 0 {
            return;
        }
        sums.some_ns = sums.some_ns.saturating_add(sample.length_ns);
        let weight = sample.runnable as f64 * sample.length_ns as f64;
        sums.largest_ns = sums.largest_ns.max(weight as u64);
        let shares = match throttled > 0.0 {
            true => sample.shares.throttled(throttled),
            false => sample.shares,
        };
        for (sum, (_, share)) in self.by_cause.iter_mut().zip(shares.iter()) {
            *sum += weight * share;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn sample(runnable: u64, cause: Cause) -> Sample {
        Sample {
            length_ns: 10 * MS,
            runnable,
            shares: Shares::whole(cause),
        }
    }

    const RUNS: Progress = Progress::Runs { off: 0.25 };

    fn times(batch: &mut Batch) -> Vec<(Cause, u64)> {
        let sums = batch.take().unwrap_or_default();
        let all: u64 = sums.by_cause.iter().map(|(_, ns)| ns).sum();
        assert_eq!(all, sums.runnable_ns);
        let known = |number: u8| Cause::ALL[usize::from(number)];
        sums.by_cause
            .iter()
            .map(|(cause, ns)| (known(*cause), ns / MS))
            .collect()
    }

    #[test]
    fn each_sample_counts_with_its_goroutines_and_its_time() {
        let mut batch = Batch::default();
        batch.add(sample(3, Cause::PBusy), RUNS);
        batch.add(sample(0, Cause::Unknown), RUNS);
        batch.add(sample(1, Cause::Spinning), RUNS);
        batch.add_torn();
        batch.add_executed(17);
        batch.settle();
        let sums = batch.take().unwrap();
        assert_eq!((sums.samples, sums.torn, sums.executed), (3, 1, 17));
        assert_eq!((sums.length_ns, sums.some_ns), (30 * MS, 20 * MS));
        assert_eq!((sums.runnable_ns, sums.largest_ns), (40 * MS, 30 * MS));
        let expected = [(Cause::Spinning as u8, 10 * MS), (Cause::PBusy as u8, 30 * MS)];
        assert_eq!(sums.by_cause, expected);
        assert_eq!(batch.take(), None);
    }

    const fn waits(off: f64, ended_ms: u64) -> Progress {
        Progress::Waits {
            off,
            ended_ns: ended_ms * MS,
        }
    }

    #[test]
    fn what_has_ended_was_in_the_last_of_the_time_without_a_cpu() {
        let mut batch = Batch::default();
        batch.add(sample(2, Cause::PBusy), RUNS);
        batch.add(sample(2, Cause::PBusy), RUNS);
        // Up to here all but the last are counted: that is where the stretch may have begun.
        assert_eq!(times(&mut batch), [(Cause::PBusy, 20)]);
        for _ in 0..7 {
            batch.add(sample(2, Cause::PBusy), waits(1.0, 0));
        }
        assert_eq!(times(&mut batch), []);
        // Half of this one, the seven, and a tenth of the first.
        batch.add(sample(2, Cause::PBusy), waits(0.5, 76));
        assert_eq!(
            times(&mut batch),
            [(Cause::CgroupThrottled, 142), (Cause::PBusy, 18)]
        );
        batch.settle();
        assert_eq!(
            times(&mut batch),
            [(Cause::CgroupThrottled, 10), (Cause::PBusy, 10)]
        );
    }

    #[test]
    fn a_stretch_that_the_kernel_has_not_counted_is_not_throttled() {
        let mut batch = Batch::default();
        for _ in 0..3 {
            batch.add(sample(2, Cause::PBusy), waits(1.0, 0));
        }
        batch.add(sample(2, Cause::PBusy), RUNS);
        batch.settle();
        assert_eq!(times(&mut batch), [(Cause::PBusy, 80)]);
    }

    #[test]
    fn others_may_be_throttled_for_longer_than_it_can_have_been() {
        let mut batch = Batch::default();
        batch.add(sample(1, Cause::PBusy), waits(0.5, 0));
        batch.add(sample(1, Cause::PBusy), waits(0.5, 900));
        batch.settle();
        assert_eq!(
            times(&mut batch),
            [(Cause::CgroupThrottled, 10), (Cause::PBusy, 10)]
        );
    }

    #[test]
    fn samples_that_are_far_apart_are_shared_out_by_the_counter() {
        let mut batch = Batch::default();
        batch.add(sample(4, Cause::OsPreempted), Progress::Throttled(0.25));
        let expected = [(Cause::CgroupThrottled, 10), (Cause::OsPreempted, 30)];
        assert_eq!(times(&mut batch), expected);
    }

    #[test]
    fn what_stands_still_for_long_is_counted_all_the_same() {
        let mut batch = Batch::default();
        for _ in 0..300 {
            batch.add(sample(1, Cause::OsPreempted), waits(1.0, 0));
            let kept_ns: u64 = batch.kept.iter().map(|kept| kept.sample.length_ns).sum();
            assert!(kept_ns <= MOST_KEPT_NS);
        }
        assert_eq!(times(&mut batch), [(Cause::OsPreempted, 1_000)]);
        batch.settle();
        assert_eq!(times(&mut batch), [(Cause::OsPreempted, 2_000)]);
    }

    #[test]
    fn a_stretch_of_very_many_samples_is_throttled_as_a_whole() {
        let mut batch = Batch::default();
        let short = Sample {
            length_ns: MS,
            ..sample(1, Cause::PBusy)
        };
        for _ in 0..1_000 {
            batch.add(short, waits(1.0, 0));
        }
        batch.add(short, waits(1.0, 1_001));
        batch.settle();
        assert_eq!(times(&mut batch), [(Cause::CgroupThrottled, 1_001)]);
    }
}
