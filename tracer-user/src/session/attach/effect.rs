//! Effects of a session: what its runner is to do.

use crate::{error::Error, plan::Mode, stream::EndedBy};

/// An output of the state machine: what is to be done. Effects are carried out in the order in which
/// [`super::Session::handle`] returns them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Attach the sources of a mode; answer with `Attached` or `AttachFailed`.
    Attach {
        /// The mode.
        mode: Mode,
    },
    /// Report to the user that a cheaper mode takes over.
    FallBack {
        /// The mode that is not possible, or not any more.
        from: Mode,
        /// The mode that replaces it.
        to: Mode,
        /// The cause.
        why: String,
    },
    /// Open the window: start its clocks. Comes once.
    OpenWindow {
        /// The mode that is attached.
        mode: Mode,
        /// How many instructions are probed.
        sites: usize,
    },
    /// Take over what the sources have counted since the last time.
    Collect,
    /// Measure the target's CPU time since the last time.
    MeasureCpu,
    /// Read the runtime's gauges.
    Snapshot,
    /// Print what was added since the last interval.
    PrintInterval,
    /// Close the window: the sources stop counting, and only what they hold is still collected.
    CloseWindow,
    /// Finish the capture. Comes once, and never together with `Fail`.
    Finish {
        /// What ended it.
        ended_by: EndedBy,
        /// Whether the window was all that was asked for.
        whole: bool,
    },
    /// Print the capture. Comes after `Detach`, unless the kernel is slow to detach.
    PrintResult,
    /// Remove all that was attached; answer with `Detached`.
    Detach,
    /// Report that nothing was captured.
    Fail {
        /// The cause.
        error: Error,
    },
    /// End the process at once; the kernel removes what is attached.
    Quit,
}
