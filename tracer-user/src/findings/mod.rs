//! What stands out, with the figures behind it. Each rule looks at one thing and says nothing when its
//! figures do not carry it.

mod rules;
pub mod start;

use serde::{Deserialize, Serialize};

use crate::escape::Untrusted;
use crate::latency::Latency;
use crate::model::Model;
use crate::stream::Symbolizer;

/// Something that stood out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable name of the rule.
    pub id: String,
    /// `info`, `warning`.
    pub severity: String,
    /// One line.
    pub title: Untrusted,
    /// The figures behind it.
    pub evidence: Untrusted,
    /// What to do.
    pub advice: String,
}

/// All that a rule may look at.
pub struct Evidence<'a> {
    /// The latencies.
    pub latency: &'a Latency,
    /// The gauges.
    pub model: &'a Model,
    /// Names of creation sites.
    pub symbolizer: &'a dyn Symbolizer,
    /// CPUs that the target's cgroup may use, where it is limited.
    pub cgroup_cpu_limit: Option<f64>,
    /// GOMAXPROCS, where known.
    pub gomaxprocs: Option<u32>,
}

/// A rule: its stable name, and what it makes of the evidence.
struct Rule {
    id: &'static str,
    apply: fn(&Evidence) -> Option<Verdict>,
}

/// What a rule found.
struct Verdict {
    warning: bool,
    title: String,
    evidence: String,
    advice: String,
}

/// Every rule, in the order in which findings are shown.
const RULES: [Rule; 5] = [
    Rule {
        id: "created-waits",
        apply: rules::created_waits,
    },
    Rule {
        id: "long-waits-by-creation-site",
        apply: rules::long_waits_by_creation_site,
    },
    Rule {
        id: "preemption-dominates",
        apply: rules::preemption_dominates,
    },
    Rule {
        id: "gomaxprocs-above-cgroup-limit",
        apply: rules::gomaxprocs_above_limit,
    },
    Rule {
        id: "stop-the-world",
        apply: rules::stop_the_world,
    },
];

/// Applies every rule. Titles and evidence hold names from the target as they are there.
pub fn find(evidence: &Evidence) -> Vec<Finding> {
    RULES
        .iter()
        .filter_map(|rule| Some(finding(rule.id, (rule.apply)(evidence)?)))
        .collect()
}

fn finding(id: &str, verdict: Verdict) -> Finding {
    Finding {
        id: id.to_owned(),
        severity: if verdict.warning { "warning" } else { "info" }.to_owned(),
        title: verdict.title.into(),
        evidence: verdict.evidence.into(),
        advice: verdict.advice,
    }
}

#[cfg(test)]
mod tests;
