//! Whether a target has no CPU since the CPU quota of its cgroup is used up.
//!
//! The kernel counts a throttled stretch when it ends (`cpu.stat`), and only then is it known that it was one. So samples
//! in which the target did not use the CPUs that it would have used are kept back: what the count has grown by was in the
//! last of that time. The counter alone would not do: it sums over CPUs, and over all processes of the cgroup.

/// Less of the time than this without a CPU is not noticed: at the edges of a sample the kernel's figure is late.
const NOTICED: f64 = 0.05;
/// Between samples that are further apart no stretch can be seen, which are 95 ms at most by default.
const COARSE_NS: u64 = 40_000_000;

/// What a sample says of throttling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Progress {
    /// The target ran, for all that is known.
    Runs {
        /// The largest share of the time since the last sample in which it can have had no CPU: what it did not use
        /// of those that it would have used.
        off: f64,
    },
    /// It did not use all CPUs that it would have used.
    Waits {
        /// As in `Runs`.
        off: f64,
        /// For how long it was throttled, of stretches that have ended since the last sample: on all of those CPUs.
        ended_ns: u64,
    },
    /// The time since the last sample is long, and for this share of it the target was throttled.
    Throttled(f64),
}

/// What a sample says of the target's CPU time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    /// When it was taken, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The time since the one before it; 0 for the first.
    pub length_ns: u64,
    /// The target's CPU clock, where its cgroup has a quota.
    pub cpu_ns: Option<u64>,
    /// Whether it has something to run.
    pub wants: bool,
    /// CPUs that it would use for that.
    pub parallel: u64,
}

/// The CPU time of a target, and what its cgroups counted.
#[derive(Debug, Default)]
pub(super) struct Stall {
    cpu_ns: Option<u64>,
    /// The throttled time when that was read last.
    counted: Option<Counted>,
}

/// The throttled time of each cgroup that has a quota, summed over CPUs, in nanoseconds.
#[derive(Debug)]
struct Counted {
    /// When it was read, CLOCK_MONOTONIC.
    at_ns: u64,
    by_level: Vec<Option<u64>>,
}

impl Counted {
    /// By how much it has grown until `now`. The largest figure counts: while a cgroup above is throttled, the time of one
    /// below that has used up its own quota continues to count.
    fn grown(&self, now: &Self) -> u64 {
        let levels = now.by_level.iter().zip(&self.by_level);
        levels
            .filter_map(|(now, before)| Some((*now)?.saturating_sub((*before)?)))
            .max()
            .unwrap_or(0)
    }
}

impl Stall {
    /// Forgets what was counted: the cgroups are others now.
    pub(super) fn forget(&mut self) {
        self.counted = None;
    }

    /// Takes a sample. `throttled_ns` reads the throttled time of each cgroup that has a quota, summed over CPUs.
    pub(super) fn take(&mut self, sample: Used, throttled_ns: impl FnOnce() -> Vec<Option<u64>>) -> Progress {
        let Used {
            at_ns,
            length_ns,
            cpu_ns,
            wants,
            parallel,
        } = sample;
        let count = || Counted {
            at_ns,
            by_level: throttled_ns(),
        };
        let before = std::mem::replace(&mut self.cpu_ns, cpu_ns);
        let used_ns = cpu_ns.zip(before).map(|(now, before)| now.saturating_sub(before));
        let whole = length_ns as f64 * parallel.max(1) as f64;
        if length_ns >= COARSE_NS && cpu_ns.is_some() {
            let now = count();
            // An older count has grown by what belongs to other samples, too.
            let is_last = |counted: &Counted| counted.at_ns == at_ns.saturating_sub(length_ns);
            let before = self.counted.take().filter(is_last);
            let grown = before.map_or(0, |before| before.grown(&now));
            self.counted = Some(now);
            // It had a CPU in what it used, whatever other processes of the cgroup had.
            let most = 1.0 - used_ns.unwrap_or(0) as f64 / whole;
            return match wants {
                true => Progress::Throttled((grown as f64 / whole).min(most).clamp(0.0, 1.0)),
                false => Progress::Runs { off: 0.0 },
            };
        }
        let Some(used_ns) = used_ns.filter(|_| wants && length_ns > 0) else {
            // What is counted meanwhile is that of other processes.
            self.counted = None;
            return Progress::Runs { off: 0.0 };
        };
        let off = (1.0 - used_ns as f64 / whole).clamp(0.0, 1.0);
        if off < NOTICED && self.counted.is_some() {
            return Progress::Runs { off };
        }
        let now = count();
        let grown = self.counted.replace(now).zip(self.counted.as_ref());
        match grown {
            Some((before, now)) if off >= NOTICED => Progress::Waits {
                off,
                ended_ns: before.grown(now) / parallel.max(1),
            },
            _ => Progress::Runs { off },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A sample of a target that has something to run on one CPU.
    fn used(at_ns: u64, length_ns: u64, cpu_ns: Option<u64>) -> Used {
        Used {
            at_ns,
            length_ns,
            cpu_ns,
            wants: true,
            parallel: 1,
        }
    }

    /// Takes samples of (ms since the last one, ms of CPU time used in it, throttled time in ms now).
    fn take(stall: &mut Stall, samples: &[(u64, u64, u64)]) -> Vec<(Progress, bool)> {
        let (mut at_ns, mut cpu_ns) = (7_000 * MS, 5_000 * MS);
        stall.take(used(at_ns, 0, Some(cpu_ns)), Vec::new);
        let taken = samples.iter().map(|(length, cpu, throttled)| {
            at_ns += length * MS;
            cpu_ns += cpu * MS;
            let mut has_read = false;
            let progress = stall.take(used(at_ns, length * MS, Some(cpu_ns)), || {
                has_read = true;
                vec![Some(throttled * MS)]
            });
            (progress, has_read)
        });
        taken.collect()
    }

    #[test]
    fn what_was_counted_ended_in_the_sample_before_it_was_read() {
        let waits = |off, ended_ms| Progress::Waits {
            off,
            ended_ns: ended_ms * MS,
        };
        let samples = [
            (10, 10, 700),
            (10, 10, 0),
            (10, 5, 700),
            // A thread of the runtime runs for a moment, and finds that it is throttled as well.
            (10, 1, 700),
            (10, 0, 700),
            (8, 6, 720),
            (10, 10, 0),
        ];
        let expected = [
            (Progress::Runs { off: 0.0 }, true),
            (Progress::Runs { off: 0.0 }, false),
            (waits(0.5, 0), true),
            (waits(0.9, 0), true),
            (waits(1.0, 0), true),
            (waits(0.25, 20), true),
            (Progress::Runs { off: 0.0 }, false),
        ];
        assert_eq!(take(&mut Stall::default(), &samples), expected);
    }

    #[test]
    fn one_that_has_nothing_to_run_does_not_wait() {
        let mut stall = Stall::default();
        for cpu_ns in [Some(5), Some(5), None, Some(5)] {
            let rests = Used {
                wants: false,
                ..used(90 * MS, 10 * MS, cpu_ns)
            };
            let progress = stall.take(rests, || panic!("nothing is to be read"));
            assert_eq!(progress, Progress::Runs { off: 0.0 });
        }
        // What it used is not known.
        let mut stall = Stall::default();
        let progress = stall.take(used(90 * MS, 10 * MS, Some(5)), || {
            panic!("nothing is to be read")
        });
        assert_eq!(progress, Progress::Runs { off: 0.0 });
    }

    #[test]
    fn where_several_cpus_were_used_each_counts() {
        let mut stall = Stall::default();
        let four = |at_ns, cpu_ns| Used {
            parallel: 4,
            ..used(at_ns, 10 * MS, Some(cpu_ns))
        };
        stall.take(four(90 * MS, 0), Vec::new);
        stall.take(four(100 * MS, 40 * MS), || vec![Some(0)]);
        let progress = stall.take(four(110 * MS, 60 * MS), || vec![Some(24 * MS)]);
        let ended_ns = 6 * MS;
        assert_eq!(progress, Progress::Waits { off: 0.5, ended_ns });
    }

    #[test]
    fn far_apart_the_counter_is_all_that_there_is() {
        let samples = [
            (250, 50, 1_000),
            (250, 50, 1_125),
            (250, 250, 1_125),
            (250, 0, 9_000),
            // Another process of its cgroup was throttled, too: it ran itself for half of the time.
            (250, 125, 9_250),
        ];
        let taken = take(&mut Stall::default(), &samples);
        let shares = [0.0, 0.5, 0.0, 1.0, 0.5].map(|share| (Progress::Throttled(share), true));
        assert_eq!(taken, shares);
    }

    #[test]
    fn an_older_count_says_nothing_of_the_time_since_the_last_sample() {
        let samples = [
            (10, 0, 1_000),
            (10, 5, 1_005),
            // That of the last sample.
            (100, 20, 1_055),
            (10, 0, 1_060),
            (10, 10, 0),
            // That of the last sample but one.
            (100, 20, 9_000),
            (100, 20, 9_025),
        ];
        let taken = take(&mut Stall::default(), &samples);
        let progress: Vec<Progress> = taken.into_iter().map(|(progress, _)| progress).collect();
        let waits = |off, ended_ms| Progress::Waits {
            off,
            ended_ns: ended_ms * MS,
        };
        let expected = [
            // What it is compared with is read first.
            Progress::Runs { off: 1.0 },
            waits(0.5, 5),
            Progress::Throttled(0.5),
            waits(1.0, 5),
            Progress::Runs { off: 0.0 },
            Progress::Throttled(0.0),
            Progress::Throttled(0.25),
        ];
        assert_eq!(progress, expected);
    }

    #[test]
    fn each_cgroup_is_compared_with_itself_and_the_largest_growth_counts() {
        let mut stall = Stall::default();
        let mut take = |at_ms: u64, by_level: &[Option<u64>]| {
            let by_level: Vec<Option<u64>> = by_level.iter().map(|ms| Some((*ms)? * MS)).collect();
            stall.take(used(at_ms * MS, 100 * MS, Some(0)), || by_level)
        };
        take(1_000, &[Some(10), Some(900), None]);
        let progress = take(1_100, &[Some(35), Some(950), Some(5_000)]);
        assert_eq!(progress, Progress::Throttled(0.5));
        let progress = take(1_200, &[Some(110), Some(960), None]);
        assert_eq!(progress, Progress::Throttled(0.75));
        // They are others now.
        stall.forget();
        let progress = stall.take(used(1_300 * MS, 100 * MS, Some(0)), || vec![Some(9_000 * MS)]);
        assert_eq!(progress, Progress::Throttled(0.0));
    }
}
