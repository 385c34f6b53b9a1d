//! Inputs of a session.

use crate::{error::Error, plan::Mode};

/// An input of the state machine: what has happened, as the runner reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The plan was made: which modes this target and this machine allow.
    Planned {
        /// One for each mode that was examined; a mode that is not among them is not possible.
        offers: Vec<Offer>,
    },
    /// [`super::Effect::Attach`] succeeded.
    Attached {
        /// The mode that was asked for.
        mode: Mode,
        /// How many instructions are probed; 0 in `passive`.
        sites: usize,
        /// Whether the kernel is slow to detach: perf events are removed one by one.
        slow_to_detach: bool,
    },
    /// [`super::Effect::Attach`] failed, and nothing of it is left attached.
    AttachFailed {
        /// The mode that was asked for.
        mode: Mode,
        /// The cause.
        error: Error,
    },
    /// [`super::Effect::Detach`] is done.
    Detached,
    /// Time to empty the kernel's buffers.
    Tick,
    /// Time to measure the target's CPU time.
    MeasureDue,
    /// One `--interval` is over.
    IntervalElapsed,
    /// The window is as long as was asked for.
    DurationElapsed,
    /// The user or the system asks us to end (SIGINT, SIGTERM, SIGHUP, SIGQUIT).
    Signal,
    /// The target has ended.
    TargetExited,
    /// The target has executed another program: its probes and addresses are void. A fork needs no such input, since
    /// probes are scoped to one process.
    TargetExeced,
    /// A source of observations failed.
    SourceFailed {
        /// The cause.
        why: String,
    },
    /// Transitions were lost: the states of goroutines must be read again.
    EventsLost,
    /// The probes cost the target more than is allowed.
    BudgetExceeded {
        /// The cost, and what is allowed.
        why: String,
    },
    /// Nobody reads our output any more.
    ReaderGone,
}

/// Whether a mode is possible for this target on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The mode.
    pub mode: Mode,
    /// Why it is not possible; `None` if it is.
    pub obstacle: Option<Error>,
}
