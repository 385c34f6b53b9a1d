//! Goroutines could run and did not for so long that they are in no histogram: their waits were not over at the end.

use super::{Evidence, HALTED_MEANWHILE};
use crate::{
    findings::{Outcome, Verdict, figures::seconds},
    model::{
        ongoing::{STARVED_NS, Stretch},
        sched::Who,
    },
};

/// Goroutines whose times are named.
const NAMED: usize = 3;

pub(super) fn check(evidence: &Evidence) -> Outcome {
    found(evidence).into()
}

fn found(evidence: &Evidence) -> Option<Verdict> {
    let ongoing = evidence.ongoing?;
    let runnable = ongoing.runnable.as_ref()?;
    let least_ns = runnable.starved_ns?;
    let (who, have) = match runnable.starved {
        1 => ("1 goroutine".to_owned(), "has"),
        n => (format!("{n} goroutines"), "have"),
    };
    let named: Vec<String> = runnable
        .longest
        .iter()
        .filter(|stretch| stretch.at_least_ns >= STARVED_NS)
        .take(NAMED)
        .map(|stretch| described(evidence, stretch))
        .collect();
    let more = match runnable.starved.saturating_sub(named.len() as u64) {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    let unknown = match runnable.unknown {
        0 => String::new(),
        1 => " (of one other it is not known since when)".to_owned(),
        n => format!(" (of {n} others it is not known since when)"),
    };
    // Who runs for so long may be who keeps the others waiting.
    let running = ongoing
        .running
        .as_ref()
        .and_then(|running| running.longest.first());
    let running = running.filter(|stretch| stretch.at_least_ns >= STARVED_NS);
    let meanwhile = running.map_or_else(String::new, |stretch| {
        format!("; running meanwhile: {}", described(evidence, stretch))
    });
    let is_stopped = ongoing
        .stop
        .is_some_and(|stop| stop.at_least_ns >= Some(STARVED_NS));
    let advice = if !evidence.halted.is_empty() {
        HALTED_MEANWHILE
    } else if is_stopped {
        "The world is being stopped, or is: nothing can run until it starts again."
    } else {
        "Something keeps the Ps: a loop that cannot be preempted (GODEBUG=asyncpreemptoff=1, assembly), threads that \
         get no CPU (a cgroup's quota), or far more goroutines that compute than there are Ps. --mode full shows \
         which goroutine runs."
    };
    Some(Verdict::warning(
        format!(
            "{who} could run and {have} not run for at least {}",
            seconds(least_ns)
        ),
        format!(
            "still waiting to run at the end, in no histogram: {}{more}{unknown}{meanwhile}",
            named.join(", ")
        ),
        advice,
    ))
}

fn described(evidence: &Evidence, stretch: &Stretch) -> String {
    let who = evidence.goroutine(Who {
        goid: stretch.goid,
        gopc: stretch.gopc,
    });
    format!("{who} for at least {}", seconds(stretch.at_least_ns))
}
