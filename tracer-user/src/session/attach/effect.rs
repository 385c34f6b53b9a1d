//! What a session wants done.

use crate::{error::Error, plan::Mode, stream::EndedBy};

/// Something to be done, in the order in which it stands in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make the sources of this mode ready; answer with `Attached` or `AttachFailed`.
    Attach {
        /// Which.
        mode: Mode,
    },
    /// Tell the user that a cheaper mode takes over.
    FallBack {
        /// What could not be had, or not be kept.
        from: Mode,
        /// What comes in its place.
        to: Mode,
        /// Why.
        why: String,
    },
    /// The window begins: start its clocks. Comes once.
    OpenWindow {
        /// In which mode.
        mode: Mode,
        /// How many instructions are probed.
        sites: usize,
    },
    /// Take over what the sources have counted since the last time.
    Collect,
    /// Read the runtime's gauges.
    Snapshot,
    /// Print what was added since the last interval.
    PrintInterval,
    /// The window ends: the sources stop counting, and only what they hold is still collected.
    CloseWindow,
    /// The capture is made. Comes once, and never together with `Fail`.
    Finish {
        /// What ended it.
        ended_by: EndedBy,
        /// Whether the window was all that was asked for.
        whole: bool,
    },
    /// Print the capture. After `Detach`, unless that takes the kernel a while.
    PrintResult,
    /// Remove all that was attached; answer with `Detached`.
    Detach,
    /// Nothing was captured, and nothing will be.
    Fail {
        /// Why.
        error: Error,
    },
    /// End the process at once; the kernel removes what is attached.
    Quit,
}
