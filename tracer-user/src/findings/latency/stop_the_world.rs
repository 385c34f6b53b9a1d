//! The world stood still for a good part of the time.

use super::Evidence;
use crate::findings::{
    Verdict,
    figures::{milliseconds, percent, share},
};

/// Share of the time from which on a stopped world is a finding.
const STOPPED_SHARE: f64 = 0.01;

pub(super) fn check(evidence: &Evidence) -> Option<Verdict> {
    let pauses = evidence.model.pauses()?;
    let stopped = pauses.gc.1.saturating_add(pauses.other.1);
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
            "No goroutine runs meanwhile. GC: fewer allocations, a larger GOGC or GOMEMLIMIT. Others: \
             something reads memory statistics, goroutine profiles or changes GOMAXPROCS often.",
        )
    })
}
