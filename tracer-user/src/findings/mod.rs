//! What stands out in a result, with the figures behind it.
//!
//! A rule looks at one thing, and finds nothing where the figures do not carry it. It advises only what can be changed
//! in this program, with its version of Go. A threshold is a judgement: the finding names its figures, so that a reader
//! can judge otherwise. There is one kind of rule, generic over its evidence, so that captures ([`latency`]) and starts
//! ([`start`]) have theirs in the same form: a file with one function, and a row in a table. The tables are functions: a
//! constant could only hold rules about `'static` evidence.

mod advice;
mod figures;
mod gomaxprocs_above_limit;
pub mod latency;
pub mod start;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::escape::Untrusted;

pub use latency::{Evidence, find};

/// Something that stands out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule's stable name.
    pub id: String,
    /// How much it matters.
    pub severity: Severity,
    /// What stands out, in one line.
    pub title: Untrusted,
    /// The figures behind it.
    pub evidence: Untrusted,
    /// What to do about it.
    pub advice: String,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Worth a change of the program or of what it runs on.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
        })
    }
}

/// A rule about evidence of one kind.
struct Rule<E> {
    /// Its stable name.
    id: &'static str,
    check: fn(&E) -> Option<Verdict>,
}

/// What a rule says of the evidence. Names from the target are in it as they are there.
struct Verdict {
    severity: Severity,
    title: String,
    evidence: String,
    advice: String,
}

impl Verdict {
    fn info(title: String, evidence: String, advice: impl Into<String>) -> Self {
        Self {
            severity: Severity::Info,
            title,
            evidence,
            advice: advice.into(),
        }
    }

    fn warning(title: String, evidence: String, advice: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            title,
            evidence,
            advice: advice.into(),
        }
    }
}

/// Checks every rule of a table, in its order.
fn check_all<E>(rules: &[Rule<E>], evidence: &E) -> Vec<Finding> {
    rules
        .iter()
        .filter_map(|rule| {
            let verdict = (rule.check)(evidence)?;
            Some(Finding {
                id: rule.id.to_owned(),
                severity: verdict.severity,
                title: verdict.title.into(),
                evidence: verdict.evidence.into(),
                advice: verdict.advice,
            })
        })
        .collect()
}
