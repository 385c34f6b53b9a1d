//! Goroutines wait because Ps do the work of the garbage collector.

use super::{
    Evidence,
    share::{Least, Share},
};
use crate::{
    findings::{
        Outcome, Verdict,
        figures::{counted, duration},
    },
    model::sched::Cause,
    plan::Mode,
};

/// While it marks, the collector takes a quarter of the Ps: a fifth of all waiting means that it marks nearly always, or
/// that it also takes Ps that would otherwise be idle.
const COLLECTING: Least = Least {
    share: 0.2,
    at_a_time: 0.05,
};

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let what = "whether goroutines wait because Ps do the collector's work";
    if is_hidden(evidence) {
        return Outcome::recheck(Mode::Full, what);
    }
    let share = match Share::reaching(evidence, Cause::Gc, COLLECTING, what) {
        Ok(share) => share,
        Err(outcome) => return outcome,
    };
    let world = evidence.report.map(|report| &report.world);
    let cycles = world.map_or_else(String::new, |world| {
        format!(
            "; {} of the collector marked for {} of {}",
            counted(world.gc_cycles, "cycle"),
            duration(world.gc_ns),
            duration(evidence.window_ns)
        )
    });
    Verdict::warning(
        "goroutines waited because Ps did the garbage collector's work".to_owned(),
        format!("{}{cycles}", share.describe()),
        "Allocate less, or raise GOGC or GOMEMLIMIT, so that it runs less often; runtime.GC() that the program calls itself \
         is not needed.",
    )
    .at(evidence.clearest_moment(Cause::Gc))
    .into()
}

/// Whether the collector ran and no sample shows where: its workers are not always distinguished from other goroutines.
fn is_hidden(evidence: &Evidence) -> bool {
    let Some(estimate) = evidence.estimate.filter(|_| evidence.causes.is_none()) else {
        return false;
    };
    let is_seen = estimate.by_cause.iter().any(|part| part.cause == Cause::Gc);
    // Unknown before Go 1.22.
    let ran = evidence.model.pauses().is_none_or(|pauses| pauses.gc.0 > 0);
    !is_seen && ran
}
