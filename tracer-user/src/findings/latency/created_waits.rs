//! Goroutines that were made and then waited long for their first run.

use super::{Evidence, LONG_NS, severity_of};
use crate::{
    findings::{
        Outcome, Verdict,
        advice::more_cpu,
        figures::{percent, share},
    },
    stream::Origin,
};

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let Some(created) = evidence.waits(Origin::Created) else {
        return Outcome::Ok;
    };
    let long = created.count_above(LONG_NS);
    let share = share(long, created.count());
    let found = (long > 0).then(|| Verdict {
        severity: severity_of(share),
        title: format!("{long} new goroutines waited more than 100 us for their first run"),
        evidence: format!(
            "{long} of {} waits created->running ({})",
            created.count(),
            percent(share)
        ),
        advice: format!(
            "Goroutines are made faster than the Ps can take them up: look for bursts of go statements, bound them with \
             a worker pool or a semaphore; or {}.",
            more_cpu(evidence.gomaxprocs, evidence.cgroup_cpu_limit)
        ),
        at_ns: None,
    });
    found.into()
}
