//! The inputs of the governor, and its effects.

use super::{Budget, Step, Window};
use crate::plan::Mode;

/// What the configuration allows for a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What it may cost.
    pub budget: Budget,
    /// The highest mode that it may be traced with; `None` if it is not even to be read.
    pub highest: Option<Mode>,
    /// How long `exact` is to run, where `highest` allows it; 0 if it is not to run at all.
    pub exact_ns: u64,
    /// The intended length of a window of a probed target.
    pub window_ns: u64,
}

/// An input of the state machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The rules have changed.
    Rules(Settings),
    /// The cost of a hit was measured on this machine: nanoseconds, the high estimate.
    Priced {
        /// The mode.
        mode: Mode,
        /// The cost.
        hit_ns: u64,
    },
    /// This program cannot be traced with this mode at all.
    Impossible {
        /// The mode.
        mode: Mode,
        /// Why it cannot.
        why: String,
    },
    /// The target's share of the host's budget: nanoseconds per second. See [`super::allot()`].
    Share(u64),
    /// A window has ended.
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
    /// [`Effect::Detach`] is done, or handed over: nothing is counted any more.
    Detached,
    /// The process has ended, or has become another program.
    Ended,
}

/// An output of the state machine: something to do, in the order in which it was returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Attach, with a hit cap for the first window; answer with `Attached` or `AttachFailed`.
    Attach {
        /// The mode.
        mode: Mode,
        /// The cap.
        hits: u64,
    },
    /// Begin a window with a hit cap.
    BeginWindow {
        /// The cap.
        hits: u64,
    },
    /// Switch the target off, read what was counted, and remove the probes; answer with `Detached`.
    Detach,
    /// Report that the target is traced with another mode from now on.
    Step(Step),
}
