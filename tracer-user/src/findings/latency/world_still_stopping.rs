//! The world was being stopped, or was, and that was not over at the end: its time is in no figure of pauses.

use super::{Evidence, HALTED_MEANWHILE};
use crate::findings::{
    Outcome, Verdict,
    figures::{milliseconds, seconds},
};

/// A stop of the world takes less than a millisecond in most programs. From here on it is a finding.
const LONG_NS: u64 = 100_000_000;
/// From here on it is written in seconds.
const SECOND_NS: u64 = 1_000_000_000;

pub(super) fn check(evidence: &Evidence) -> Outcome {
    found(evidence).into()
}

fn found(evidence: &Evidence) -> Option<Verdict> {
    let stop = evidence.ongoing?.stop?;
    let at_least_ns = stop.at_least_ns.filter(|ns| *ns >= LONG_NS)?;
    let took = match at_least_ns {
        ns if ns < SECOND_NS => milliseconds(ns),
        ns => seconds(ns),
    };
    let reason = stop
        .reason_name()
        .map_or_else(String::new, |name| format!(", for: {name}"));
    let (state, advice) = match stop.not_stopped {
        Some(0) => (
            "every P has stopped".to_owned(),
            "Whoever stopped it is still at work (a dump of all goroutines or of the heap, a debugger), or its thread gets \
             no CPU.",
        ),
        Some(ps) => (
            format!("Ps that have not stopped: {ps}"),
            "A goroutine that cannot be preempted delays it: a loop without calls under GODEBUG=asyncpreemptoff=1, or \
             assembly; or a thread gets no CPU. --mode full shows which goroutine runs.",
        ),
        None => (
            "how many Ps have stopped is not known".to_owned(),
            "A goroutine that cannot be preempted delays it, or whoever stopped it is still at work.",
        ),
    };
    let advice = match evidence.halted {
        [] => advice,
        _ => HALTED_MEANWHILE,
    };
    Some(Verdict::warning(
        format!("the world has been stopping, or stopped, for at least {took}"),
        format!("not over at the end, its time in no figure of pauses{reason}; {state}"),
        advice,
    ))
}
