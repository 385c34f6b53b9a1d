//! Why goroutines waited to run, as samples of the run queues estimate it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::by_name::ByName;
use crate::model::estimate;
use crate::model::sched::Cause;

/// An estimate from samples of the runtime's memory: `passive`, `sampled`, and the others where samples were asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CauseEstimate {
    /// Samples that were used.
    pub samples: u64,
    /// Samples that were left out, since the Ps changed while they were taken.
    pub torn: u64,
    /// Mean number of runnable goroutines.
    pub runnable_mean: f64,
    /// Share of the samples with at least one runnable goroutine.
    pub some: f64,
    /// The share of each cause in all waiting to run; voluntary yields cannot be distinguished.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_cause: BTreeMap<ByName<Cause>, ShareEstimate>,
    /// Mean wait, by Little's law: runnable goroutines ÷ goroutines that were executed in a second. An upper bound,
    /// since one that inherits the time slice of another is not counted among these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_wait_ns: Option<u64>,
    /// Times that a P began to execute a goroutine with a new time slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executed: Option<u64>,
}

/// The share of one cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShareEstimate {
    /// The share, between 0 and 1.
    pub share: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl CauseEstimate {
    /// Converts the model's estimate.
    pub fn of(estimate: &estimate::CauseEstimate) -> Self {
        let by_cause = estimate.by_cause.iter().map(|of| {
            let share = ShareEstimate {
                share: rounded(of.share),
                low: rounded(of.low),
                high: rounded(of.high),
            };
            (ByName(of.cause), share)
        });
        Self {
            samples: estimate.samples,
            torn: estimate.torn,
            runnable_mean: rounded(estimate.runnable_mean),
            some: rounded(estimate.some),
            by_cause: by_cause.collect(),
            mean_wait_ns: estimate.mean_wait_ns,
            executed: estimate.executed,
        }
    }
}

/// Rounds to six decimals, which is more than the precision of any of these.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::estimate::CauseShare;

    #[test]
    fn an_estimate_is_converted_with_six_decimals_and_survives_json() {
        let share = |cause, share| CauseShare {
            cause,
            share,
            low: share / 2.0,
            high: share * 1.5,
        };
        let seen = estimate::CauseEstimate {
            samples: 498,
            torn: 3,
            runnable_mean: 12.345_678_9,
            some: 2.0 / 3.0,
            by_cause: vec![share(Cause::PBusy, 1.0 / 3.0), share(Cause::Gc, 0.5)],
            mean_wait_ns: Some(6_100_000),
            executed: None,
        };
        let estimate = CauseEstimate::of(&seen);
        let value = serde_json::to_value(&estimate).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "samples": 498,
                "torn": 3,
                "runnable_mean": 12.345_679,
                "some": 0.666_667,
                "by_cause": {
                    "gc": { "share": 0.5, "low": 0.25, "high": 0.75 },
                    "p_busy": { "share": 0.333_333, "low": 0.166_667, "high": 0.5 }
                },
                "mean_wait_ns": 6_100_000
            })
        );
        assert_eq!(serde_json::from_value::<CauseEstimate>(value).unwrap(), estimate);
    }
}
