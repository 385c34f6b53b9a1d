//! Readings of targets' memory, which the reader makes for the host.

use std::time::Duration;

use crate::{
    process::memory::ProcessMemory,
    sources::{
        causes::CauseSampler,
        passive::{ObserveError, PassiveSource},
    },
    stream::Observation,
};

/// A reading that is to be made.
#[derive(Debug)]
pub struct Job {
    /// The process to be read.
    pub pid: u32,
    /// The id of the target, which no later process of this PID has.
    pub target: u64,
    /// How it is read; `None` where only a sample is wanted.
    pub passive: Option<PassiveSource<ProcessMemory>>,
    /// How it is sampled why its goroutines wait; `None` where that is not wanted or not possible.
    pub causes: Option<CauseSampler<ProcessMemory>>,
    /// What is read.
    pub what: What,
    /// CPU time per second that counting goroutines may cost us.
    pub walk: Duration,
    /// How long the reader waits before it.
    pub delay: Duration,
}

/// What is read of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Everything.
    All,
    /// The waits alone.
    Waits,
    /// A sample of why goroutines wait alone.
    Causes,
}

/// A reading that was made.
#[derive(Debug)]
pub struct Done {
    /// The job.
    pub job: Job,
    /// When it was made, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// CPU time that a sample of why goroutines wait has cost us.
    pub cost: Duration,
    /// What was observed.
    pub seen: Result<Vec<Observation>, ObserveError>,
}
