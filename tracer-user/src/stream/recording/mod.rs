//! Recordings: files of all that a capture is made of, from which another machine makes the same result.
//!
//! They contain what consumers take, before anything is made of it: observations, names of addresses, and the *steps*
//! of the capture (its window opens, an interval ends, …) as JSON. docs/recording.md describes the format byte by byte.

mod asked;
pub mod block;
mod causes;
mod consumer;
mod encoder;
mod observation;
mod reader;
mod recorder;
mod scheduler;
mod stacks;
mod starts;
mod transitions;
mod wire;

pub use reader::{Ended, Reader};
pub use recorder::Recorder;

use super::Observation;
use crate::binary::Frame;
use crate::escape::Untrusted;

/// An entry of a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A step of the capture, as JSON.
    Step(String),
    /// Names of addresses of the target, for the entries after this one.
    Names(Vec<(u64, Untrusted)>),
    /// Calls at addresses of the target, innermost first, for the entries after this one.
    Frames(Vec<(u64, Vec<Frame>)>),
    /// What was observed.
    Observations(Vec<Observation>),
}

#[cfg(test)]
mod tests;
