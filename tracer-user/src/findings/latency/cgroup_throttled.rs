//! Goroutines wait because the CPU quota of the cgroup is used up: all threads stand still until the next period.

use super::{
    Evidence, WITHOUT_THREADS,
    share::{Least, Share},
};
use crate::{
    findings::{
        Outcome, Verdict,
        figures::{cpus, duration},
    },
    model::sched::Cause,
    plan::Mode,
};

/// A quota that is rarely reached is not worth a change; one that takes a hundredth of the time is.
const THROTTLED: Least = Least {
    share: 0.05,
    at_a_time: 0.01,
};

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let what = "whether goroutines wait because the CPU quota is used up";
    if evidence.mode == Mode::Full && !evidence.sees_threads() {
        return Outcome::recheck(Mode::Full, format!("{what}{WITHOUT_THREADS}"));
    }
    let share = match Share::reaching(evidence, Cause::CgroupThrottled, THROTTLED, what) {
        Ok(share) => share,
        Err(outcome) => return outcome,
    };
    let quota = match (evidence.limits.cpu_quota, evidence.cgroup_cpu_limit) {
        (Some(quota), _) => format!(
            "; its cgroup may use {} of CPU time in each {} ({})",
            duration(quota.quota_ns),
            duration(quota.period_ns),
            cpus(quota.cpus())
        ),
        (None, Some(limit)) => format!("; its cgroup may use {}", cpus(limit)),
        (None, None) => {
            "; its quota is not known: it may be that of a cgroup that is not visible here".to_owned()
        }
    };
    Verdict::warning(
        "goroutines waited because the CPU quota of the cgroup was used up".to_owned(),
        format!("{}{quota}", share.describe()),
        format!(
            "All threads of the process stand still until the next period begins: raise the CPU limit, or use less CPU \
             time.{}",
            spread(evidence)
        ),
    )
    .at(evidence.clearest_moment(Cause::CgroupThrottled))
    .into()
}

/// What fewer Ps would do, as a sentence behind another; empty where there are not too many.
fn spread(evidence: &Evidence) -> String {
    let fits = evidence.cgroup_cpu_limit.map(|limit| limit.ceil().max(1.0));
    match (evidence.gomaxprocs, fits) {
        (Some(gomaxprocs), Some(fits)) if f64::from(gomaxprocs) > fits => format!(
            " With GOMAXPROCS {gomaxprocs} it can be used up in a small part of a period; GOMAXPROCS={fits:.0} spreads it \
             over more of it."
        ),
        _ => String::new(),
    }
}
