//! A phase whose thread could have run for most of its time, and had no CPU.

use super::{MOST, PhaseEvidence};
use crate::findings::{Verdict, figures::milliseconds};

/// Waiting for a CPU below this comes with every busy machine.
const NO_CPU_NS: u64 = 20_000_000;

pub(super) fn check(evidence: &PhaseEvidence) -> Option<Verdict> {
    let (took, waiting) = (evidence.took_ns, evidence.usage.waiting_ns);
    if waiting < NO_CPU_NS || waiting < took / MOST {
        return None;
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
    Some(Verdict::warning(
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
        "More CPU for the cgroup while it starts, or less to do until main.main.",
    ))
}
