//! What stands out in the latencies and gauges of a capture.

mod created_waits;
mod late_poll;
mod long_waits_by_creation_site;
mod preemption_dominates;
mod starved_goroutines;
mod stop_the_world;
mod target_halted;
mod world_still_stopping;

use super::{Finding, Rule, Severity, check_all, gomaxprocs_above_limit};
use crate::{
    latency::{Histogram, Latency},
    model::{Model, ongoing::Ongoing},
    stream::{HistogramKey, Origin, Symbolizer, step::Halted},
};

/// What the rules look at.
pub struct Evidence<'a> {
    /// The latencies.
    pub latency: &'a Latency,
    /// The gauges.
    pub model: &'a Model,
    /// What had begun and was not over at the end, where it is known.
    pub ongoing: Option<&'a Ongoing>,
    /// Names of creation sites.
    pub symbolizer: &'a dyn Symbolizer,
    /// CPUs that the target's cgroup may use, where it is limited.
    pub cgroup_cpu_limit: Option<f64>,
    /// GOMAXPROCS, where known.
    pub gomaxprocs: Option<u32>,
    /// Minor version of Go: 27 for Go 1.27.3; `None` where unknown.
    pub go_minor: Option<u32>,
    /// How often the target was found stopped, traced or frozen.
    pub halted: &'a [Halted],
    /// Length of the window.
    pub window_ns: u64,
}

impl<'a> Evidence<'a> {
    /// Waits Runnable→Running of goroutines that became runnable in this way.
    fn waits(&self, origin: Origin) -> Option<&'a Histogram> {
        self.latency.by_key().get(&HistogramKey::Origin(origin))
    }
}

/// A new or sampled goroutine that waits longer than this is reported.
const LONG_NS: u64 = 100_000;
/// Share of long waits from which on they are a warning.
const LONG_SHARE: f64 = 0.01;

/// The advice about what was not over in a target that did not run at all for a while.
const HALTED_MEANWHILE: &str = "The process did not run at all for a part of that time, as another finding says: let it run, \
                                and see whether this is still so.";

/// How much it matters that this share of all waits was long.
fn severity_of(share_of_long: f64) -> Severity {
    match share_of_long >= LONG_SHARE {
        true => Severity::Warning,
        false => Severity::Info,
    }
}

/// Every rule, in the order in which findings are shown.
fn rules<'a>() -> [Rule<Evidence<'a>>; 9] {
    [
        Rule {
            id: "target-halted",
            check: target_halted::check,
        },
        Rule {
            id: "starved-goroutines",
            check: starved_goroutines::check,
        },
        Rule {
            id: "world-still-stopping",
            check: world_still_stopping::check,
        },
        Rule {
            id: "created-waits",
            check: created_waits::check,
        },
        Rule {
            id: "long-waits-by-creation-site",
            check: long_waits_by_creation_site::check,
        },
        Rule {
            id: "preemption-dominates",
            check: preemption_dominates::check,
        },
        Rule {
            id: "gomaxprocs-above-cgroup-limit",
            check: |evidence: &Evidence| {
                gomaxprocs_above_limit::check(
                    evidence.gomaxprocs,
                    evidence.cgroup_cpu_limit,
                    evidence.go_minor,
                )
            },
        },
        Rule {
            id: "late-poll",
            check: late_poll::check,
        },
        Rule {
            id: "stop-the-world",
            check: stop_the_world::check,
        },
    ]
}

/// Checks every rule.
pub fn find(evidence: &Evidence) -> Vec<Finding> {
    check_all(&rules(), evidence)
}

#[cfg(test)]
mod tests;
