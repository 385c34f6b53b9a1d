//! Goroutines could run and did not for longer than a turn of another one, and what the Ps did meanwhile.

use super::{
    Evidence, HALTED_MEANWHILE,
    evidence::middle_of,
    severity_of,
    slow_wait::{describe, main_cause, picture},
};
use crate::{
    findings::{
        Outcome, Verdict,
        advice::against,
        figures::{counted, duration, percent, share},
    },
    model::sched::SlowestWait,
    plan::Mode,
};

/// Goroutines run for 10 ms at a time before they must give way: whoever waits longer waited behind more than one, or for
/// something else.
const LONG_NS: u64 = 10_000_000;
/// Waits that are described.
const NAMED: usize = 3;

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let latencies = evidence.latencies();
    let ended = latencies.count_above(LONG_NS);
    let Some(causes) = evidence.causes else {
        return match ended {
            0 => Outcome::Ok,
            n => Outcome::recheck(
                Mode::Full,
                format!(
                    "what the Ps did while {} took more than {}",
                    counted(n, "wait"),
                    duration(LONG_NS)
                ),
            ),
        };
    };
    let long: Vec<&SlowestWait> = causes
        .slowest
        .iter()
        .filter(|wait| wait.duration_ns > LONG_NS)
        .collect();
    let Some(longest) = long.first().copied() else {
        return Outcome::Ok;
    };
    // Those that are kept one by one may be more: some have not ended, and a bucket may hold the bound.
    let count = ended.max(long.len() as u64);
    let share = share(count, latencies.count().max(count));
    let named: Vec<String> = long
        .iter()
        .take(NAMED)
        .map(|wait| describe(evidence, wait))
        .collect();
    let picture = picture(evidence, longest).map_or_else(String::new, |picture| format!("; {picture}"));
    let advice = match (evidence.halted, main_cause(long.iter().copied())) {
        ([_, ..], _) => HALTED_MEANWHILE.to_owned(),
        ([], Some(cause)) => against(cause, evidence.gomaxprocs, evidence.cgroup_cpu_limit),
        ([], None) => "What kept them from running is not known.".to_owned(),
    };
    Verdict {
        severity: severity_of(share),
        title: format!(
            "{} of goroutines that could run took more than {}, up to {}",
            counted(count, "wait"),
            duration(LONG_NS),
            duration(longest.duration_ns)
        ),
        evidence: format!(
            "{} of all waits; the longest: {}{picture}",
            percent(share),
            named.join("; ")
        ),
        advice,
        at_ns: Some(evidence.since_begin(middle_of(longest))),
    }
    .into()
}
