//! Goroutines that allocate stand still, since the collector makes them pay for that with work, and there is none left.

use super::Evidence;
use crate::{
    findings::{
        Outcome, Verdict,
        figures::{duration, mean},
    },
    plan::Mode,
};

/// The runtime's reason of a goroutine that waits for credit: it owes work, found none to do, and must not allocate until
/// the workers have done more (mgcmark.go, `gcParkAssist`). One that does the work itself keeps running, and is not seen.
const REASON: &str = "GC assist wait";
/// Goroutines that wait for it at a time, on average, from which on it is a finding: one in twenty moments.
const STORM: f64 = 0.05;

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let Some(report) = evidence.report else {
        return without_events(evidence);
    };
    let waits = report.by_reason.iter().find(|(reason, _)| reason == REASON);
    let Some((_, delta)) = waits else {
        return Outcome::Ok;
    };
    let waited_ns = delta.sum_ns.unwrap_or(0);
    let at_a_time = evidence.at_a_time(waited_ns);
    if at_a_time < STORM {
        return Outcome::Ok;
    }
    let count = delta
        .counts
        .iter()
        .fold(0u64, |sum, (_, n)| sum.saturating_add(*n));
    let longest = delta.extremes_ns.map_or_else(String::new, |(_, longest)| {
        format!(", up to {} each", duration(longest))
    });
    Verdict::warning(
        "goroutines that allocate waited for the garbage collector".to_owned(),
        format!(
            "{count} waits for assist credit took {}{longest}: {} goroutines at a time; the collector marked for {} of {}",
            duration(waited_ns),
            mean(at_a_time),
            duration(report.world.gc_ns),
            duration(evidence.window_ns)
        ),
        "The program allocates faster than the collector marks. Allocate less in the hot path (reuse buffers, fewer \
         pointers), or give the collector more room: a larger GOGC, or a GOMEMLIMIT that is not nearly reached.",
    )
    .into()
}

/// Where the collector did not run, nobody can have waited for it.
fn without_events(evidence: &Evidence) -> Outcome {
    match evidence.model.pauses() {
        Some(pauses) if pauses.gc.0 == 0 => Outcome::Ok,
        _ => Outcome::recheck(
            Mode::Full,
            "whether goroutines that allocate wait for the garbage collector",
        ),
    }
}
