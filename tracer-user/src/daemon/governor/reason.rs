//! Why a target is traced with the mode that it is traced with.

use std::fmt;

use crate::plan::Mode;

/// A change from one tier to another; `None` stands for "not watched at all".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it was traced with.
    pub from: Option<Mode>,
    /// What it is traced with from now on.
    pub to: Option<Mode>,
    /// Why it changes.
    pub reason: Reason,
}

/// Why a step was taken. Costs are nanoseconds of the target's CPU time per second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is expected to cost no more than is allowed.
    Fits {
        /// Expected cost.
        predicted_ns: u64,
        /// What is allowed.
        allowed_ns: u64,
    },
    /// A rule allows less, or more, than before.
    Rule,
    /// `exact` has run for as long as was asked for.
    WindowElapsed,
    /// A window had more hits than its cap allows.
    Capped {
        /// The cap.
        hits: u64,
    },
    /// The measured cost was above what is allowed.
    OverBudget {
        /// Measured cost.
        cost_ns: u64,
        /// What was allowed.
        allowed_ns: u64,
    },
    /// Other targets need the host's budget.
    HostBudget,
    /// Attaching failed.
    AttachFailed {
        /// The message.
        why: String,
    },
    /// The process has ended, or has become another program.
    Ended,
}

impl Reason {
    /// A short fixed name, for metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Fits { .. } => "fits",
            Self::Rule => "rule",
            Self::WindowElapsed => "window_elapsed",
            Self::Capped { .. } => "hit_cap",
            Self::OverBudget { .. } => "over_budget",
            Self::HostBudget => "host_budget",
            Self::AttachFailed { .. } => "attach_failed",
            Self::Ended => "ended",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fits {
                predicted_ns,
                allowed_ns,
            } => write!(
                f,
                "expected to cost {}, of {} allowed",
                Cost(*predicted_ns),
                Cost(*allowed_ns)
            ),
            Self::Rule => f.write_str("as the rules say now"),
            Self::WindowElapsed => f.write_str("exact has lasted as long as was asked for"),
            Self::Capped { hits } => write!(f, "more than {hits} hits in a window"),
            Self::OverBudget { cost_ns, allowed_ns } => {
                write!(f, "has cost {}, of {} allowed", Cost(*cost_ns), Cost(*allowed_ns))
            }
            Self::HostBudget => f.write_str("budget.host is used up by others"),
            Self::AttachFailed { why } => write!(f, "attaching failed: {why}"),
            Self::Ended => f.write_str("the process has ended or become another program"),
        }
    }
}

/// Why a target is not traced with a higher mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// No rule allows more.
    NotAllowed,
    /// The cost of a hit on this machine was not measured.
    NotPriced,
    /// The target's waits were not measured yet, or cannot be: its cost cannot be predicted.
    NotMeasured,
    /// It would cost more than is allowed; nanoseconds of its CPU time per second.
    DoesNotFit {
        /// Expected cost.
        predicted_ns: u64,
        /// What is allowed.
        allowed_ns: u64,
    },
    /// The host's budget is used up by other targets.
    HostBudget,
    /// It was tried, and will be tried again after a while.
    BackOff {
        /// When it is tried again, CLOCK_MONOTONIC.
        until_ns: u64,
        /// Why it was given up.
        after: Reason,
    },
    /// This program cannot be traced with it.
    Impossible {
        /// Why it cannot.
        why: String,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed => f.write_str("no rule allows more"),
            Self::NotPriced => f.write_str("what a probe hit costs on this machine could not be measured"),
            Self::NotMeasured => f.write_str("how often its goroutines wait is not known yet"),
            Self::DoesNotFit {
                predicted_ns,
                allowed_ns,
            } => write!(
                f,
                "would cost {}, of {} allowed",
                Cost(*predicted_ns),
                Cost(*allowed_ns)
            ),
            Self::HostBudget => f.write_str("budget.host is used up by others"),
            Self::BackOff { after, .. } => write!(f, "it is tried again after a while: {after}"),
            Self::Impossible { why } => f.write_str(why),
        }
    }
}

/// Formats nanoseconds per second for people.
struct Cost(u64);

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ms/s", self.0 as f64 / 1e6)
    }
}
