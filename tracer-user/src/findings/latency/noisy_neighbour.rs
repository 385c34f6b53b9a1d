//! Goroutines wait because the thread of their P has no CPU, which the kernel gives to something else.

use super::{
    Evidence, WITHOUT_THREADS,
    share::{Least, Share},
};
use crate::{
    findings::{
        Outcome, Verdict,
        figures::{duration, mean},
    },
    model::sched::Cause,
    plan::Mode,
};

/// Each busy machine preempts a little; a tenth of the waiting is more than that.
const NOISY: Least = Least {
    share: 0.1,
    at_a_time: 0.05,
};

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let what = "whether goroutines wait because the kernel runs something else";
    if evidence.mode == Mode::Full && !evidence.sees_threads() {
        return Outcome::recheck(Mode::Full, format!("{what}{WITHOUT_THREADS}"));
    }
    let share = match Share::reaching(evidence, Cause::OsPreempted, NOISY, what) {
        Ok(share) => share,
        Err(outcome) => return outcome,
    };
    let ps = evidence
        .gomaxprocs
        .map_or_else(String::new, |gomaxprocs| format!(" ({gomaxprocs})"));
    Verdict::warning(
        "goroutines waited because the kernel ran something else on the CPUs".to_owned(),
        format!("{}{}", share.describe(), threads(evidence)),
        format!(
            "Other processes use these CPUs, or there are fewer CPUs than Ps{ps}, or the host of a virtual machine uses \
             them (`st` in top): move the others away, give this cgroup a larger cpu.weight, or set GOMAXPROCS to the CPUs \
             that there are."
        ),
    )
    .at(evidence.clearest_moment(Cause::OsPreempted))
    .into()
}

/// What the target's threads had of the CPUs: `; its threads had 1.50 CPUs on average, and could have used …`.
fn threads(evidence: &Evidence) -> String {
    let Some(world) = evidence.report.map(|report| &report.world) else {
        return String::new();
    };
    let (had, wanted) = (
        evidence.at_a_time(world.on_cpu_ns),
        evidence.at_a_time(world.on_cpu_ns.saturating_add(world.waiting_for_cpu_ns)),
    );
    format!(
        "; its threads had {} CPUs on average and could have used {}: they could run and had none for {} in all",
        mean(had),
        mean(wanted),
        duration(world.waiting_for_cpu_ns)
    )
}
