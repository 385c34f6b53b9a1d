//! What a rule says of the evidence.

use super::severity::Severity;
use crate::plan::Mode;

/// What a rule says of the evidence.
pub(super) enum Outcome {
    /// Nothing stands out.
    Ok,
    /// It cannot be decided from what the mode of this capture sees. That is not an error.
    Recheck {
        /// The cheapest mode that decides it.
        mode: Mode,
        /// What is not decided, as the rest of a sentence that begins with "it is not decided". Where the mode of the
        /// capture itself would decide, the reason is behind a colon: the text shows only that.
        what: String,
    },
    /// Something stands out.
    Finding(Verdict),
}

impl Outcome {
    /// The outcome of a rule that this mode cannot decide.
    pub(super) fn recheck(mode: Mode, what: impl Into<String>) -> Self {
        Self::Recheck {
            mode,
            what: what.into(),
        }
    }
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        Self::Finding(verdict)
    }
}

impl From<Option<Verdict>> for Outcome {
    fn from(found: Option<Verdict>) -> Self {
        found.map_or(Self::Ok, Self::Finding)
    }
}

/// What stands out, without the name of the rule. Names from the target are in it as they are there.
pub(super) struct Verdict {
    pub(super) severity: Severity,
    pub(super) title: String,
    pub(super) evidence: String,
    pub(super) advice: String,
    /// Nanoseconds from the capture's begin to the moment that shows it best, where there is one.
    pub(super) at_ns: Option<u64>,
}

impl Verdict {
    pub(super) fn info(title: String, evidence: String, advice: impl Into<String>) -> Self {
        Self {
            severity: Severity::Info,
            title,
            evidence,
            advice: advice.into(),
            at_ns: None,
        }
    }

    pub(super) fn warning(title: String, evidence: String, advice: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::info(title, evidence, advice)
        }
    }

    /// Adds the moment that shows it best, in nanoseconds since the capture's begin.
    pub(super) fn at(self, at_ns: Option<u64>) -> Self {
        Self { at_ns, ..self }
    }
}
