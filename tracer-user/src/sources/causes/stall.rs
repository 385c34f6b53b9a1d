//! Whether a target stands still since the CPU quota of its cgroup is used up.
//!
//! The kernel counts a throttled stretch when it ends (`cpu.stat`), and only then is it known that it was one. So
//! samples in which no thread had a CPU are kept back until one has, and then belong to the quota if the count has
//! grown meanwhile. The counter alone would not do: it sums over CPUs, and over all processes of the cgroup.

/// A process that used less than one part in so many of the time had no CPU: at the edges the kernel's figure is late.
const STANDS: u64 = 50;
/// Between samples that are further apart no stretch can be seen, which are 95 ms at most by default.
const COARSE_NS: u64 = 40_000_000;

/// What a sample says of throttling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Progress {
    /// The target ran, for all that is known.
    Runs {
        /// The least share of the time since the last sample in which no thread of it ran.
        off: f64,
    },
    /// No thread of it had a CPU since the last sample: whether it was throttled is not known yet.
    Stands,
    /// It had stood still, and runs again.
    Resumed {
        /// Whether it was throttled.
        throttled: bool,
        /// As in `Runs`.
        off: f64,
    },
    /// The time since the last sample is long, and for this share of it the target was throttled.
    Throttled(f64),
}

/// The CPU time of a target, and what its cgroup counted.
#[derive(Debug, Default)]
pub(super) struct Stall {
    cpu_ns: Option<u64>,
    /// The throttled time when it began to stand still or, of samples that are far apart, at the last one.
    throttled_ns: Option<u64>,
    stands: bool,
}

impl Stall {
    /// Takes a sample after `length_ns`. `cpu_ns` is the target's CPU clock, and `wants` whether it has something to
    /// run, for which it would use `parallel` CPUs. `throttled_ns` reads its cgroup's throttled time, summed over CPUs.
    pub(super) fn take(
        &mut self,
        length_ns: u64,
        cpu_ns: Option<u64>,
        wants: bool,
        parallel: u64,
        throttled_ns: impl FnOnce() -> Option<u64>,
    ) -> Progress {
        let before = std::mem::replace(&mut self.cpu_ns, cpu_ns);
        let used_ns = cpu_ns.zip(before).map(|(now, before)| now.saturating_sub(before));
        let whole = length_ns as f64 * parallel.max(1) as f64;
        if length_ns >= COARSE_NS && cpu_ns.is_some() {
            self.stands = false;
            let now = throttled_ns();
            let before = std::mem::replace(&mut self.throttled_ns, now);
            let grown = now
                .zip(before)
                .map_or(0, |(now, before)| now.saturating_sub(before));
            return match wants {
                true => Progress::Throttled((grown as f64 / whole).clamp(0.0, 1.0)),
                false => Progress::Runs { off: 0.0 },
            };
        }
        let Some(used_ns) = used_ns.filter(|_| wants && length_ns > 0) else {
            self.stands = false;
            return Progress::Runs { off: 0.0 };
        };
        let off = (1.0 - used_ns as f64 / whole).clamp(0.0, 1.0);
        if used_ns.saturating_mul(STANDS) < length_ns {
            if !std::mem::replace(&mut self.stands, true) {
                self.throttled_ns = throttled_ns();
            }
            return Progress::Stands;
        }
        if std::mem::replace(&mut self.stands, false) {
            let grown = throttled_ns().zip(self.throttled_ns);
            let throttled = grown.is_some_and(|(now, before)| now > before);
            return Progress::Resumed { throttled, off };
        }
        Progress::Runs { off }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Takes samples of (ms since the last one, ms of CPU time used in it, throttled time in ms now).
    fn take(stall: &mut Stall, samples: &[(u64, u64, u64)]) -> Vec<(Progress, bool)> {
        let mut cpu_ns = 5_000 * MS;
        stall.take(10 * MS, Some(cpu_ns), true, 1, || None);
        let taken = samples.iter().map(|(length, used, throttled)| {
            cpu_ns += used * MS;
            let mut has_read = false;
            let progress = stall.take(length * MS, Some(cpu_ns), true, 1, || {
                has_read = true;
                Some(throttled * MS)
            });
            (progress, has_read)
        });
        taken.collect()
    }

    #[test]
    fn a_stretch_without_a_cpu_is_throttled_if_the_kernel_has_counted_it() {
        // The counter is read when it begins to stand still, and when it runs again.
        let expected = |throttled| {
            [
                (Progress::Runs { off: 0.5 }, false),
                (Progress::Stands, true),
                (Progress::Stands, false),
                (Progress::Resumed { throttled, off: 0.25 }, true),
                (Progress::Runs { off: 0.0 }, false),
            ]
        };
        for (after, throttled) in [(730, true), (700, false)] {
            let samples = [(10, 5, 0), (10, 0, 700), (10, 0, 0), (8, 6, after), (10, 10, 0)];
            assert_eq!(take(&mut Stall::default(), &samples), expected(throttled));
        }
    }

    #[test]
    fn one_that_has_nothing_to_run_does_not_stand_still() {
        let mut stall = Stall::default();
        for cpu_ns in [Some(5), Some(5), None, Some(5)] {
            let progress = stall.take(10 * MS, cpu_ns, false, 1, || panic!("nothing is to be read"));
            assert_eq!(progress, Progress::Runs { off: 0.0 });
        }
        // What it used is not known.
        let mut stall = Stall::default();
        let progress = stall.take(10 * MS, Some(5), true, 1, || panic!("nothing is to be read"));
        assert_eq!(progress, Progress::Runs { off: 0.0 });
    }

    #[test]
    fn where_several_cpus_were_used_each_counts() {
        let mut stall = Stall::default();
        stall.take(10 * MS, Some(0), true, 4, || None);
        let progress = stall.take(10 * MS, Some(20 * MS), true, 4, || None);
        assert_eq!(progress, Progress::Runs { off: 0.5 });
    }

    #[test]
    fn far_apart_the_counter_is_all_that_there_is() {
        let samples = [
            (250, 50, 1_000),
            (250, 50, 1_125),
            (250, 250, 1_125),
            (250, 0, 9_000),
        ];
        let taken = take(&mut Stall::default(), &samples);
        let shares = [0.0, 0.5, 0.0, 1.0].map(|share| (Progress::Throttled(share), true));
        assert_eq!(taken, shares);
    }
}
