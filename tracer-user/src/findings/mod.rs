//! What stands out in a result, with the figures behind it.
//!
//! A rule looks at one thing, and finds nothing where the figures do not carry it. It advises only what can be changed
//! in this program, with its version of Go. A threshold is a judgement: the finding names its figures, so that a reader
//! can judge otherwise. Where a mode does not see what a rule needs, the rule says so, and which mode would: a document
//! lists these rules, so that silence is not taken for health. There is one kind of rule, generic over its evidence, so
//! that captures ([`latency`]) and starts ([`start`]) have theirs in the same form: a file with one function, and a row in
//! a table. The tables are functions: a constant could only hold rules about `'static` evidence.

mod advice;
mod figures;
mod godebug;
mod gomaxprocs_above_limit;
pub mod latency;
mod outcome;
mod rule_id;
mod severity;
pub mod start;

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::{escape::Untrusted, plan::Mode};

pub use latency::{Evidence, find};
pub use rule_id::RuleId;
pub use severity::Severity;

use outcome::{Outcome, Verdict};

/// Something that stands out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule's stable name.
    pub id: RuleId,
    /// How much it matters.
    pub severity: Severity,
    /// What stands out, in one line.
    pub title: Untrusted,
    /// The figures behind it.
    pub evidence: Untrusted,
    /// What to do about it.
    pub advice: String,
    /// The moment that shows it best, in nanoseconds since the capture's begin; absent where no moment does better than
    /// another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ns: Option<u64>,
}

/// Something that cannot be decided from what the mode of a capture sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Undecided {
    /// The stable name of the rule.
    pub id: RuleId,
    /// The cheapest mode that decides it.
    pub mode: Mode,
    /// What is not decided.
    pub what: Untrusted,
}

/// What all rules of a table say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// What stands out: warnings first, and those of the same severity in the order of the rules.
    pub findings: Vec<Finding>,
    /// What cannot be decided, in the order of the rules.
    pub undecided: Vec<Undecided>,
}

/// A rule about evidence of one kind.
struct Rule<E> {
    /// Its stable name.
    id: &'static str,
    check: fn(&E) -> Outcome,
}

/// Checks every rule of a table.
fn check_all<E>(rules: &[Rule<E>], evidence: &E) -> Found {
    let mut found = Found::default();
    for rule in rules {
        let id = RuleId::of(rule.id);
        match (rule.check)(evidence) {
            Outcome::Ok => {}
            Outcome::Recheck { mode, what } => found.undecided.push(Undecided {
                id,
                mode,
                what: what.into(),
            }),
            Outcome::Finding(verdict) => found.findings.push(Finding {
                id,
                severity: verdict.severity,
                title: verdict.title.into(),
                evidence: verdict.evidence.into(),
                advice: verdict.advice,
                at_ns: verdict.at_ns,
            }),
        }
    }
    warnings_first(&mut found.findings);
    found
}

/// Puts warnings before what is only good to know, and changes the order of findings in nothing else.
fn warnings_first(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| Reverse(finding.severity));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evidence is what each rule says.
    fn said(severity: Severity) -> Outcome {
        Outcome::Finding(Verdict {
            severity,
            ..Verdict::info(String::new(), String::new(), "")
        })
    }

    #[test]
    fn warnings_come_first_and_otherwise_the_rules_keep_their_order() {
        let rules: [Rule<()>; 5] = [
            Rule {
                id: "starved-goroutines",
                check: |_| said(Severity::Info),
            },
            Rule {
                id: "long-stop",
                check: |_| said(Severity::Warning),
            },
            Rule {
                id: "late-poll",
                check: |_| Outcome::Ok,
            },
            Rule {
                id: "schedtrace",
                check: |_| said(Severity::Info),
            },
            Rule {
                id: "gc-assist",
                check: |_| said(Severity::Warning),
            },
        ];
        let found = check_all(&rules, &()).findings;
        let ids: Vec<&str> = found.iter().map(|finding| finding.id.as_str()).collect();
        assert_eq!(
            ids,
            ["long-stop", "gc-assist", "starved-goroutines", "schedtrace"]
        );
    }
}
