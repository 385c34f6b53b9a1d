//! What the probes cost the target: the ratio of its CPU time with them and without them, as predicted from their hits
//! and as measured.

use serde::{Deserialize, Serialize};

use crate::stream::cpu_use::{CpuSlice, CpuUse};

/// Fewest tracked waits and fewest slices on either side that a measurement needs.
const FEWEST_WAITS: u64 = 100;
const FEWEST_SLICES: usize = 5;
/// Share of the CPU time above which the rest, which is the target's own, is too uncertain to divide by.
const HIGHEST_SHARE: f64 = 0.98;

/// The ratio that follows from the number of hits and the cost of a hit on this machine: CPU time ÷ (CPU time − hits ×
/// cost).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverheadPredicted {
    /// With the lower cost of a hit. At most 50.
    pub low: f64,
    /// With the higher; absent where that leaves less than a fiftieth of the CPU time to the target itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
}

/// The ratio of the CPU time per tracked wait while the probes were there and just before. It is that of the probes as
/// far as the work that comes with each wait was the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverheadMeasured {
    /// The ratio.
    pub ratio: f64,
    /// Lower end of its 95 % interval, from the scatter of the slices that were measured.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// CPU time and tracked waits before the probes were there.
    pub before: CpuSlice,
    /// CPU time and tracked waits while they were.
    pub during: CpuSlice,
}

impl OverheadPredicted {
    /// Predicts it from hits, the [low, high] cost of a hit and the CPU time of the window; without hits, the others need
    /// not be known.
    pub fn of(hits: u64, hit_ns: Option<[u64; 2]>, cpu_ns: Option<u64>) -> Option<Self> {
        if hits == 0 {
            return Some(Self {
                low: 1.0,
                high: Some(1.0),
            });
        }
        let (hit_ns, cpu_ns) = (hit_ns?, cpu_ns.filter(|ns| *ns > 0)?);
        let [low, high] = hit_ns.map(|ns| hits as f64 * ns as f64 / cpu_ns as f64);
        let ratio = |share: f64| rounded(1.0 / (1.0 - share));
        Some(Self {
            low: ratio(low.min(HIGHEST_SHARE)),
            high: (high <= HIGHEST_SHARE).then(|| ratio(high)),
        })
    }
}

impl OverheadMeasured {
    /// Whether it is more certain than what was predicted.
    pub fn is_more_certain_than(&self, predicted: Option<OverheadPredicted>) -> bool {
        let width = predicted.and_then(|predicted| Some(predicted.high? / predicted.low));
        width.is_none_or(|width| self.high / self.low < width)
    }

    /// Computes it from what was measured; `None` where that is too little.
    pub fn of(used: &CpuUse) -> Option<Self> {
        let (before, during) = (PerWait::of(&used.before)?, PerWait::of(&used.during)?);
        let ratio = during.cpu_ns() / before.cpu_ns();
        let uncertainty = before.uncertainty.hypot(during.uncertainty).exp();
        Some(Self {
            ratio: rounded(ratio),
            low: rounded(ratio / uncertainty),
            high: rounded(ratio * uncertainty),
            before: before.sum,
            during: during.sum,
        })
    }
}

/// CPU time per wait.
struct PerWait {
    sum: CpuSlice,
    /// Half of the relative 95 % interval.
    uncertainty: f64,
}

impl PerWait {
    /// Computes the ratio of the sums, and from the residuals of the slices how uncertain it is: the usual estimator of a
    /// ratio (Cochran, Sampling Techniques, chapter 6). Neighbouring slices have the error of the reading between them
    /// with opposite signs; so the products of neighbours count, too (Newey and West, with one lag). At least one slice's
    /// part of the squares remains.
    fn of(slices: &[CpuSlice]) -> Option<Self> {
        let sum = CpuSlice::sum(slices);
        if sum.waits < FEWEST_WAITS || sum.cpu_ns == 0 || slices.len() < FEWEST_SLICES {
            return None;
        }
        let per_wait = sum.cpu_ns as f64 / sum.waits as f64;
        let residuals: Vec<f64> = slices
            .iter()
            .map(|slice| slice.cpu_ns as f64 - per_wait * slice.waits as f64)
            .collect();
        let squares: f64 = residuals.iter().map(|residual| residual * residual).sum();
        let neighbours = residuals.iter().zip(residuals.iter().skip(1));
        let products: f64 = neighbours.map(|(one, next)| one * next).sum();
        let slices = slices.len() as f64;
        let variance = (squares + 2.0 * products).max(squares / slices) * slices / (slices - 1.0);
        let error = variance.sqrt() / sum.cpu_ns as f64;
        Some(Self {
            sum,
            uncertainty: error * student(slices - 1.0),
        })
    }

    fn cpu_ns(&self) -> f64 {
        self.sum.cpu_ns as f64 / self.sum.waits as f64
    }
}

/// The 97.5 % quantile of Student's t distribution, for one degree of freedom and more: up to nine as tables have it, then
/// within 1 %.
fn student(degrees: f64) -> f64 {
    const TABLE: [f64; 9] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
    match TABLE.get(degrees as usize - 1) {
        Some(quantile) => *quantile,
        None => 1.96 + 2.65 / degrees,
    }
}

/// Six decimals are more than the precision of any of these.
fn rounded(ratio: f64) -> f64 {
    (ratio * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(cpu_ns: &[u64], waits: u64) -> Vec<CpuSlice> {
        cpu_ns.iter().map(|&cpu_ns| CpuSlice { cpu_ns, waits }).collect()
    }

    #[test]
    fn a_prediction_is_relative_to_the_cpu_time_without_probes() {
        let predicted = |hits, hit_ns, cpu_ns| OverheadPredicted::of(hits, hit_ns, cpu_ns);
        let none = OverheadPredicted {
            low: 1.0,
            high: Some(1.0),
        };
        assert_eq!(predicted(0, None, None), Some(none));
        assert_eq!(predicted(5, None, Some(1)), None);
        assert_eq!(predicted(5, Some([1, 1]), Some(0)), None);
        let half = predicted(1_000, Some([250, 500]), Some(1_000_000)).unwrap();
        assert_eq!((half.low, half.high), (1.333333, Some(2.0)));
        // All of the CPU time, and more than that.
        let all = predicted(1_000, Some([500, 1_000]), Some(1_000_000)).unwrap();
        assert_eq!((all.low, all.high), (2.0, None));
        let more = predicted(u64::MAX, Some([u64::MAX; 2]), Some(1)).unwrap();
        assert_eq!((more.low, more.high), (50.0, None));
    }

    #[test]
    fn a_measurement_knows_how_uncertain_it_is() {
        let before = slices(&[100, 100, 100, 100, 100], 100);
        let during = slices(&[1_500; 5], 100);
        let exact = OverheadMeasured::of(&CpuUse { before, during }).unwrap();
        assert_eq!((exact.ratio, exact.low, exact.high), (15.0, 15.0, 15.0));
        let before = slices(&[90, 110, 100, 95, 105], 100);
        let during = slices(&[1_400, 1_600, 1_500, 1_450, 1_550], 100);
        let scattered = OverheadMeasured::of(&CpuUse { before, during }).unwrap();
        assert_eq!(scattered.ratio, 15.0);
        assert!(scattered.low < 14.9 && 13.0 < scattered.low, "{scattered:?}");
        assert!(scattered.high > 15.1 && 17.5 > scattered.high, "{scattered:?}");
        assert!(scattered.is_more_certain_than(None));
        let predicted = |high| Some(OverheadPredicted { low: 1.001, high });
        assert!(!scattered.is_more_certain_than(predicted(Some(1.002))));
        assert!(scattered.is_more_certain_than(predicted(None)));
    }

    /// Readings that are late by up to a tick leave the sum nearly right, and the interval knows that.
    #[test]
    fn what_one_slice_has_too_much_its_neighbour_has_too_little() {
        let late = [0, 3, 1, 4, 2, 0, 4, 1, 3, 2, 1];
        let readings: Vec<u64> = (0..=10u64).zip(late).map(|(n, late)| 10 * n + 5 - late).collect();
        let before: Vec<u64> = readings.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let used = CpuUse {
            before: slices(&before, 100),
            during: slices(&[150; 10], 100),
        };
        let measured = OverheadMeasured::of(&used).unwrap();
        assert!(measured.low <= 15.0 && 15.0 <= measured.high, "{measured:?}");
        assert!(measured.high / measured.low < 1.4, "{measured:?}");
    }

    /// Some 95 of 100 intervals contain the true ratio, from slices that scatter like those of real programs.
    #[test]
    fn the_interval_holds_what_it_promises() {
        let mut random = 88_172_645_463_325_252_u64;
        let mut next = |middle: f64| {
            // The sum of twelve uniform numbers: nearly normal, with a deviation of 10 %.
            let sum: f64 = (0..12)
                .map(|_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    (random >> 11) as f64 / (1u64 << 53) as f64
                })
                .sum();
            (middle * (1.0 + (sum - 6.0) / 10.0)) as u64
        };
        let mut held = 0;
        for _ in 0..1_000 {
            let before = (0..10).map(|_| next(1e6)).collect::<Vec<_>>();
            let during = (0..10).map(|_| next(3e6)).collect::<Vec<_>>();
            let used = CpuUse {
                before: slices(&before, 1_000),
                during: slices(&during, 1_000),
            };
            let measured = OverheadMeasured::of(&used).unwrap();
            held += u32::from(measured.low <= 3.0 && 3.0 <= measured.high);
        }
        // With the products of neighbours it is a few too few.
        assert!((850..=990).contains(&held), "{held} of 1000");
    }

    #[test]
    fn too_little_is_not_measured() {
        let few = slices(&[100; 5], 19);
        let enough = slices(&[100; 5], 20);
        let of = |before: &[CpuSlice], during: &[CpuSlice]| {
            OverheadMeasured::of(&CpuUse {
                before: before.to_vec(),
                during: during.to_vec(),
            })
        };
        assert!(of(&enough, &enough).is_some());
        assert!(of(&few, &enough).is_none());
        assert!(of(&enough, &few).is_none());
        assert!(of(&enough[..4], &enough).is_none());
        assert!(of(&enough, &enough[..4]).is_none());
        assert!(of(&[], &[]).is_none());
    }
}
