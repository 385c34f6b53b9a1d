//! The world stood still for a good part of the time.

use super::Evidence;
use crate::findings::{
    Outcome, Verdict,
    figures::{milliseconds, percent, share},
};

/// Share of the time from which on a stopped world is a finding.
const STOPPED_SHARE: f64 = 0.01;

/// Share of the stopped time from which on its cause is named alone.
const MOST_SHARE: f64 = 0.9;

/// What to do about pauses of which this share is the garbage collector's.
fn advice(share_of_gc: f64) -> String {
    let gc = "fewer allocations, or a larger GOGC or GOMEMLIMIT, so that it runs less often";
    let others = "something reads memory statistics (runtime.ReadMemStats), takes goroutine profiles or dumps, or changes \
                  GOMAXPROCS often";
    match share_of_gc {
        share if share >= MOST_SHARE => format!("No goroutine runs meanwhile. The GC stops it: {gc}."),
        share if share <= 1.0 - MOST_SHARE => {
            format!("No goroutine runs meanwhile. It is not the GC: {others}.")
        }
        _ => format!("No goroutine runs meanwhile. GC: {gc}. Others: {others}."),
    }
}

pub(super) fn check(evidence: &Evidence) -> Outcome {
    found(evidence).into()
}

fn found(evidence: &Evidence) -> Option<Verdict> {
    let pauses = evidence.model.pauses()?;
    let stopped = pauses.gc.1.saturating_add(pauses.other.1);
    let share_of_gc = share(pauses.gc.1, stopped);
    let share = share(stopped, pauses.window_ns);
    (share >= STOPPED_SHARE).then(|| {
        Verdict::warning(
            format!("the world was stopped for about {} of the time", percent(share)),
            format!(
                "{} pauses of the GC took about {}, {} others about {}, of {}",
                pauses.gc.0,
                milliseconds(pauses.gc.1),
                pauses.other.0,
                milliseconds(pauses.other.1),
                milliseconds(pauses.window_ns)
            ),
            advice(share_of_gc),
        )
    })
}
