//! What a session wants done.

use serde::{Deserialize, Serialize};

use crate::{error::Error, plan::Mode};

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

/// What ended a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// It was as long as was asked for.
    Duration,
    /// A signal to us.
    Signal,
    /// The target ended.
    TargetExit,
    /// The target became another program.
    TargetExec,
    /// A source failed.
    SourceFailed,
    /// The probes cost too much, and there was no cheaper mode to step down to.
    Budget,
    /// Nobody read our output any more.
    ReaderGone,
    /// All starts that were asked for were seen.
    Starts,
    /// A recording ends here in the middle of its capture.
    RecordingCut,
}

impl EndedBy {
    /// The name that JSON uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Duration => "duration",
            Self::Signal => "signal",
            Self::TargetExit => "target_exit",
            Self::TargetExec => "target_exec",
            Self::SourceFailed => "source_failed",
            Self::Budget => "budget",
            Self::ReaderGone => "reader_gone",
            Self::Starts => "starts",
            Self::RecordingCut => "recording_cut",
        }
    }

    /// Whether the target's memory can still be read.
    pub(super) const fn target_is_there(self) -> bool {
        !matches!(self, Self::TargetExit | Self::TargetExec)
    }
}
