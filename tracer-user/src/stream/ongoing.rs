//! What has begun and is not over when a window closes, read from the target then (`passive`, `sampled`, `exact`); in
//! `full` the model knows most of it from the transitions.
//!
//! Recordings hold it as JSON: what a later version adds must have a default.

use serde::{Deserialize, Serialize};

/// What has begun and is not over, as of the observation's time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OngoingSeen {
    /// Goroutines that can run and do not; `None` where they were not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runnable: Option<StillRunnable>,
    /// A stop of the world; `None` where there is none, or it was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<StillStopped>,
}

/// Goroutines that can run and do not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StillRunnable {
    /// The number of g structs that were read.
    pub read: u64,
    /// The number of all g structs. Where it is larger than `read`, goroutines may be missing.
    pub all: u64,
    /// The number of goroutines that were found.
    pub count: u64,
    /// Those that have waited longest, as far as that is known; at most [`Self::LISTED`].
    pub goroutines: Vec<RunnableGoroutine>,
}

impl StillRunnable {
    /// Most goroutines that are listed one by one.
    pub const LISTED: usize = 1000;
}

/// A goroutine that can run and does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnableGoroutine {
    /// `g.goid`.
    pub goid: u64,
    /// `g.gopc`, as an address of the running process.
    pub gopc: u64,
    /// When it became runnable, CLOCK_MONOTONIC, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ns: Option<u64>,
    /// Whether it has been runnable for all of the window (`exact`): no probe has seen it become so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub throughout: bool,
    /// A moment at which it could run already, and since which no P has taken another goroutine, CLOCK_MONOTONIC
    /// (`passive`, `sampled`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_ns: Option<u64>,
    /// How it became runnable, the number of an [`Origin`](super::Origin) (`exact`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<u8>,
}

/// A stop of the world: it is being stopped, or is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StillStopped {
    /// The earliest reading in which it was the same stop, CLOCK_MONOTONIC: it began before.
    pub since_ns: u64,
    /// Ps that have not stopped yet.
    pub not_stopped: u32,
}
