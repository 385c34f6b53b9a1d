//! The one door for whoever consumes a capture.

use std::{future::Future, pin::Pin};

use super::{Observation, Step, Symbolizer};
use crate::error::Result;

/// Whether anybody still reads an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// It is written, or will be.
    Written,
    /// The reader has closed its end: not an error, but there is nothing more to do (`gmpscope … | head`).
    ReaderGone,
}

impl Flow {
    /// Returns `ReaderGone` if either is.
    pub fn and(self, other: Self) -> Self {
        match self {
            Self::Written => other,
            Self::ReaderGone => self,
        }
    }
}

/// Takes what a capture is made of, in order, live or from a recording: what prints it, what records it, and what turns
/// it into another format. Nobody who drives a capture knows one by name.
///
/// None of these calls waits for a reader or a disk, since probes may be in the target meanwhile.
pub trait Consumer {
    /// Takes a step.
    ///
    /// # Errors
    /// The output cannot be written, or the steps of a recording do not come in order.
    fn step(&mut self, step: &Step, names: &dyn Symbolizer) -> Result<Flow>;

    /// Takes what was observed, a batch at a time.
    ///
    /// # Errors
    /// As [`Self::step`].
    fn observe(&mut self, observations: &[Observation], names: &dyn Symbolizer) -> Result<Flow>;

    /// Is called several times a second while a capture runs, also when nothing is observed: to show progress, and to
    /// notice a reader that is gone.
    ///
    /// # Errors
    /// As [`Self::step`].
    fn poll(&mut self, _now_ns: u64) -> Result<Flow> {
        Ok(Flow::Written)
    }

    /// Returns why the consumer has ended before the capture, the first time that it is asked: a remark for the others.
    fn take_trouble(&mut self) -> Option<String> {
        None
    }

    /// Makes the result. It is called after the last step, when nothing is attached any more. Returns whether the result is
    /// complete; `None` if this consumer has no opinion.
    ///
    /// # Errors
    /// As [`Self::step`].
    fn conclude(&mut self, _names: &dyn Symbolizer) -> Result<Option<bool>> {
        Ok(None)
    }

    /// Ends the output; what is still to be written is waited for by the caller. An output that holds a whole result or
    /// nothing stays as it was if there was no result.
    ///
    /// # Errors
    /// The last of the output cannot be handed over.
    fn close(self: Box<Self>) -> Result<Box<dyn Closing>>;
}

/// An output to which nothing is added any more.
pub trait Closing {
    /// Waits until something more is written; returns whether that was the last.
    fn writes_more(&self) -> Pin<Box<dyn Future<Output = bool> + '_>>;

    /// Returns how it went. `waited` is false if the rest was given up, so that it may not be written.
    ///
    /// # Errors
    /// It was not written. A reader that is gone is not an error.
    fn outcome(self: Box<Self>, waited: bool) -> Result<()>;
}
