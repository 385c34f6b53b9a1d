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
    /// What stands out, in the order of the rules.
    pub findings: Vec<Finding>,
    /// What cannot be decided, likewise.
    pub undecided: Vec<Undecided>,
}

/// A rule about evidence of one kind.
struct Rule<E> {
    /// Its stable name.
    id: &'static str,
    check: fn(&E) -> Outcome,
}

/// Checks every rule of a table, in its order.
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
    found
}
