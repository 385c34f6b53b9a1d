//! A phase that computed far longer than in the other starts of the same binary.

use super::PhaseEvidence;
use crate::findings::{Outcome, Verdict, figures::milliseconds};

/// Least number of starts to compare with.
const OTHERS: usize = 2;
/// How many times the median CPU time of the other starts is far above it.
const FAR_ABOVE: u64 = 3;
/// Differences of CPU time below this are noise.
const NOISE_NS: u64 = 2_000_000;

pub(super) fn check(evidence: &PhaseEvidence) -> Outcome {
    found(evidence).into()
}

fn found(evidence: &PhaseEvidence) -> Option<Verdict> {
    let (phase, cpu) = (evidence.phase, evidence.cpu_ns);
    let mut others: Vec<u64> = evidence
        .of
        .others
        .iter()
        .filter_map(|start| {
            let same = start.phases.iter().find(|other| other.kind == phase.kind)?;
            same.cpu_ns()
        })
        .collect();
    if others.len() < OTHERS {
        return None;
    }
    others.sort_unstable();
    let usual = others.get(others.len() / 2).copied()?;
    (cpu >= usual.saturating_mul(FAR_ABOVE) && cpu >= usual.saturating_add(NOISE_NS)).then(|| {
        Verdict::warning(
            format!("{} computed far longer than in other starts", phase.kind.name()),
            format!(
                "{} on the CPU; the median of {} other starts of this binary is {}",
                milliseconds(cpu),
                others.len(),
                milliseconds(usual)
            ),
            "What it computes depends on something that was different this time: its input, its environment, \
             a cache that was cold.",
        )
    })
}
