//! What can happen to a session.

use crate::{error::Error, plan::Mode};

/// Something that happened, as the runner tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The plan is made: which modes this target and this machine allow.
    Planned {
        /// One for each mode that was looked into; a mode that is not among them cannot be had.
        offers: Vec<Offer>,
    },
    /// [`super::Effect::Attach`] succeeded.
    Attached {
        /// The mode that was asked for.
        mode: Mode,
        /// How many instructions are probed; 0 in `passive`.
        sites: usize,
        /// Whether the kernel takes its time to detach: perf events go one by one.
        slow_to_detach: bool,
    },
    /// [`super::Effect::Attach`] failed, and nothing of it is left attached.
    AttachFailed {
        /// The mode that was asked for.
        mode: Mode,
        /// Why.
        error: Error,
    },
    /// [`super::Effect::Detach`] is done.
    Detached,
    /// Time to empty the kernel's buffers.
    Tick,
    /// One `--interval` is over.
    IntervalElapsed,
    /// The window is as long as was asked for.
    DurationElapsed,
    /// The user or the system wants us to end (SIGINT, SIGTERM, SIGHUP, SIGQUIT).
    Signal,
    /// The target is gone.
    TargetExited,
    /// The target has become another program: its probes and addresses are void. A fork needs no such
    /// word, since probes are scoped to one process.
    TargetExeced,
    /// What was attached yields nothing any more.
    SourceFailed {
        /// Why.
        why: String,
    },
    /// Transitions were lost: the states of goroutines are to be read anew.
    EventsLost,
    /// The probes cost the target more than was agreed to.
    BudgetExceeded {
        /// The figures.
        why: String,
    },
    /// Nobody reads our output any more.
    ReaderGone,
}

/// Whether a mode can be had of this target on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The mode.
    pub mode: Mode,
    /// What stands in its way; `None`: nothing.
    pub obstacle: Option<Error>,
}
