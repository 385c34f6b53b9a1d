//! Most of the waiting was done by goroutines that had been running and were put back in the queue.

use super::Evidence;
use crate::{
    findings::{
        Outcome, Verdict,
        advice::more_cpu,
        figures::{milliseconds, percent, share},
    },
    latency::Histogram,
    stream::Origin,
};

/// Share of all waiting time from which on preempted goroutines dominate it.
const PREEMPTED_SHARE: f64 = 0.5;
/// Waiting time of a capture below which nothing dominates.
const NEGLIGIBLE_NS: u64 = 1_000_000;

pub(super) fn check(evidence: &Evidence) -> Outcome {
    found(evidence).into()
}

fn found(evidence: &Evidence) -> Option<Verdict> {
    let preempted = evidence.waits(Origin::Preempted)?;
    let waited = preempted.sum_ns()?;
    // Who yields of its own will does not wait for anything.
    let all = evidence.latency.without_yields().sum_ns()?;
    let yields = evidence.waits(Origin::Yielded).map_or(0, Histogram::count);
    let share = share(waited, all);
    (share >= PREEMPTED_SHARE && waited >= NEGLIGIBLE_NS).then(|| {
        Verdict::warning(
            "most of the waiting was done by preempted goroutines".to_owned(),
            format!(
                "{} waits after preemption took {} of {} of all waiting ({}){}",
                preempted.count(),
                milliseconds(waited),
                milliseconds(all),
                percent(share),
                if yields > 0 {
                    ", voluntary yields left out"
                } else {
                    ""
                }
            ),
            format!(
                "More goroutines compute than there are Ps, so they take turns of about 10 ms: let fewer of them compute \
                 at a time; or {}.",
                more_cpu(evidence.gomaxprocs, evidence.cgroup_cpu_limit)
            ),
        )
    })
}
