//! A phase whose thread could have run for most of its time, and had no CPU.

use super::{Evidence, MOST, PhaseEvidence};
use crate::findings::{Outcome, Verdict, figures::milliseconds};

/// Waiting for a CPU below this comes with every busy machine.
const NO_CPU_NS: u64 = 20_000_000;

/// What can be done: a limit can be raised, and where there is none, others had the CPUs.
fn advice(evidence: &Evidence) -> &'static str {
    let was_throttled = evidence.throttled.is_some_and(|(periods, _)| periods > 0);
    match evidence.cgroup_cpu_limit {
        Some(_) => "More CPU for the cgroup while it starts, or less to do until main.main.",
        None if was_throttled => {
            "More CPU for a cgroup above its own while it starts, or less to do until main.main."
        }
        None => {
            "Its cgroup has no limit that can be seen: other programs had the CPUs. Start it when or where fewer compete, \
             with a larger share (cpu.weight, nice), or with less to do until main.main."
        }
    }
}

pub(super) fn check(evidence: &PhaseEvidence) -> Outcome {
    let (took, waiting) = (evidence.took_ns, evidence.usage.waiting_ns);
    if waiting < NO_CPU_NS || waiting < took / MOST {
        return Outcome::Ok;
    }
    let throttled = match evidence.of.throttled {
        Some((periods, ns)) if periods > 0 => format!(
            "; meanwhile the kernel throttled its cgroup in {periods} periods, for {} in all",
            milliseconds(ns)
        ),
        _ => String::new(),
    };
    let limit = evidence.of.cgroup_cpu_limit.map_or_else(String::new, |limit| {
        format!("; the cgroup may use {limit:.2} CPUs")
    });
    Outcome::Finding(Verdict::warning(
        format!(
            "{} got no CPU for {}",
            evidence.phase.kind.name(),
            milliseconds(waiting)
        ),
        format!(
            "it took {}, and its thread could have run and did not for {} of it{limit}{throttled}",
            milliseconds(took),
            milliseconds(waiting)
        ),
        advice(evidence.of),
    ))
}
