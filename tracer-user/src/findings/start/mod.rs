//! What made a start slow.
//!
//! A phase is called slow for a reason that was seen in it: it slept, it got no CPU, it met page faults, or it computed
//! far longer than in this binary's other starts. How long it took alone is not a reason: what is long depends on the
//! program and the machine.

mod calls;
mod forked;
mod godebug_distorts_start;
mod phase_cpu_above_others;
mod phase_page_faults;
mod phase_slept;
mod phase_without_cpu;
mod stage;

use super::{Finding, Rule, check_all, gomaxprocs_above_limit, warnings_first};
use crate::{
    model::start::{Phase, Start},
    stream::start::Usage,
};

pub use calls::errno;

/// Least share of the whole start that a phase must have for a finding: one part in this many.
const SHARE: u64 = 5;
/// Least share of a phase that its reason must make up: one part in this many.
const MOST: u64 = 2;

/// What the rules look at.
pub struct Evidence<'a> {
    /// The start that is judged.
    pub start: &'a Start,
    /// Other starts of the same binary.
    pub others: &'a [Start],
    /// CPUs that its cgroup may use, where it is limited.
    pub cgroup_cpu_limit: Option<f64>,
    /// How often its cgroup was throttled meanwhile, and for how long in nanoseconds.
    pub throttled: Option<(u64, u64)>,
    /// Its `GODEBUG`.
    pub godebug: Option<&'a str>,
    /// Minor version of Go: 27 for Go 1.27.3; `None` where unknown.
    pub go_minor: Option<u32>,
}

/// What the rules about a phase look at.
struct PhaseEvidence<'a> {
    /// The start that the phase belongs to, and what surrounds it.
    of: &'a Evidence<'a>,
    phase: &'a Phase,
    usage: Usage,
    took_ns: u64,
    /// Time on a CPU.
    cpu_ns: u64,
    /// Whether the start was cut off in this phase.
    unfinished: bool,
}

impl<'a> PhaseEvidence<'a> {
    /// The evidence about a phase; `None` where the phase is too short to matter, or the kernel reports no usage.
    fn about(phase: &'a Phase, of: &'a Evidence<'a>) -> Option<Self> {
        let start = of.start;
        let (usage, took_ns) = (phase.usage?, phase.duration_ns());
        (took_ns >= start.duration_ns() / SHARE).then(|| Self {
            of,
            phase,
            usage,
            took_ns,
            cpu_ns: phase.cpu_ns().unwrap_or(0),
            unfinished: !start.ended.is_whole() && start.phases.last() == Some(phase),
        })
    }
}

/// Every rule about a phase, in the order in which findings are shown.
fn phase_rules<'a>() -> [Rule<PhaseEvidence<'a>>; 4] {
    [
        Rule {
            id: "start-phase-slept",
            check: phase_slept::check,
        },
        Rule {
            id: "start-phase-without-cpu",
            check: phase_without_cpu::check,
        },
        Rule {
            id: "start-phase-page-faults",
            check: phase_page_faults::check,
        },
        Rule {
            id: "start-phase-cpu-above-others",
            check: phase_cpu_above_others::check,
        },
    ]
}

/// Every rule about a start as a whole, in the order in which findings are shown.
fn rules<'a>() -> [Rule<Evidence<'a>>; 3] {
    [
        Rule {
            id: "start-forked",
            check: forked::check,
        },
        Rule {
            id: "godebug-distorts-start",
            check: godebug_distorts_start::check,
        },
        Rule {
            id: "gomaxprocs-above-cgroup-limit",
            check: |evidence: &Evidence| {
                gomaxprocs_above_limit::check(
                    evidence.start.gomaxprocs,
                    evidence.cgroup_cpu_limit,
                    evidence.go_minor,
                )
            },
        },
    ]
}

/// Checks every rule: those about each phase, then those about the whole; warnings come first. What a start is judged by is
/// seen in each mode.
pub fn find(evidence: &Evidence) -> Vec<Finding> {
    let phases = evidence.start.phases.iter();
    let mut findings: Vec<Finding> = phases
        .filter_map(|phase| PhaseEvidence::about(phase, evidence))
        .flat_map(|phase| check_all(&phase_rules(), &phase).findings)
        .chain(check_all(&rules(), evidence).findings)
        .collect();
    warnings_first(&mut findings);
    findings
}

#[cfg(test)]
mod tests;
