//! What goes into the governor, and what comes out of it.

use super::{Budget, Step, Window};
use crate::plan::Mode;

/// What was agreed to about a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What it may cost.
    pub budget: Budget,
    /// The most that it may be traced with; `None`: it is not even read.
    pub highest: Option<Mode>,
    /// How long `exact` is to last, where `highest` allows it; 0 for not at all.
    pub exact_ns: u64,
    /// How long a window of a probed target is meant to be.
    pub window_ns: u64,
}

/// What can happen to a target.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// The rules are others now.
    Rules(Settings),
    /// What a hit of a mode costs on this machine is known: nanoseconds, on the high side.
    Priced {
        /// The mode.
        mode: Mode,
        /// The cost.
        hit_ns: u64,
    },
    /// A mode cannot be had of this program at all.
    Impossible {
        /// The mode.
        mode: Mode,
        /// Why.
        why: String,
    },
    /// This much of the host's budget is for this target: nanoseconds for each second. See [`super::allot`].
    Share(u64),
    /// A window is over.
    WindowOver(Window),
    /// The kernel has switched the target off at its hit cap.
    Capped,
    /// [`Effect::Attach`] succeeded.
    Attached,
    /// [`Effect::Attach`] failed, and nothing of it is left.
    AttachFailed {
        /// The message.
        why: String,
    },
    /// [`Effect::Detach`] is done, or is being done by somebody else by now: nothing is counted any more.
    Detached,
    /// The process has ended, or has become another program.
    Ended,
}

/// Something to be done, in the order in which it stands in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Attach, with a cap of so many hits for the first window; answer with `Attached` or `AttachFailed`.
    Attach {
        /// The mode.
        mode: Mode,
        /// The cap.
        hits: u64,
    },
    /// Begin a window with a cap of so many hits.
    BeginWindow {
        /// The cap.
        hits: u64,
    },
    /// Switch the target off, take over what was counted, and remove the probes; answer with `Detached`.
    Detach,
    /// Say that the target is traced with something else from now on.
    Step(Step),
}
