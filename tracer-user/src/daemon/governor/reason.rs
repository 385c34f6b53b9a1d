//! Why a target is traced with what it is.

use std::fmt;

use crate::plan::Mode;

/// A step from a tier to another; `None` is "not watched at all".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it was traced with.
    pub from: Option<Mode>,
    /// What it is traced with from now on.
    pub to: Option<Mode>,
    /// Why.
    pub reason: Reason,
}

/// Why a step was made. Costs are nanoseconds of the target's CPU time for each second.
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
    /// `exact` has lasted as long as was asked for.
    WindowElapsed,
    /// There were more hits in a window than the kernel's cap lets through.
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
    /// The host's budget is needed by others.
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

/// What stands in the way of more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// No rule allows more.
    NotAllowed,
    /// What a hit costs here was not measured.
    NotPriced,
    /// Nothing was seen of the target yet, or its runtime cannot be read: its cost cannot be foreseen.
    NotMeasured,
    /// It would cost more than is allowed; nanoseconds of its CPU time for each second.
    DoesNotFit {
        /// Expected cost.
        predicted_ns: u64,
        /// What is allowed.
        allowed_ns: u64,
    },
    /// The host's budget is used up by others.
    HostBudget,
    /// It was tried, and is tried again after a while.
    BackOff {
        /// When, CLOCK_MONOTONIC.
        until_ns: u64,
        /// What came of it.
        after: Reason,
    },
    /// It cannot be had of this program.
    Impossible {
        /// Why.
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

/// Nanoseconds for each second, for people.
struct Cost(u64);

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ms/s", self.0 as f64 / 1e6)
    }
}
