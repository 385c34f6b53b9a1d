//! The recorder as a consumer of captures.

use std::{future::Future, pin::Pin};

use super::Recorder;
use crate::{
    error::{Error, Result},
    stream::{
        Closing, Consumer, Flow, Observation, Step, Symbolizer,
        step::{LatencyStep, StartStep},
    },
};

impl Consumer for Recorder {
    fn step(&mut self, step: &Step, _names: &dyn Symbolizer) -> Result<Flow> {
        if matches!(
            step,
            Step::Latencies(LatencyStep::Open(_)) | Step::Starts(StartStep::Open { .. })
        ) {
            self.begin();
        }
        self.record_step(step);
        Ok(Flow::Written)
    }

    fn observe(&mut self, observations: &[Observation], names: &dyn Symbolizer) -> Result<Flow> {
        self.record(observations, names);
        Ok(Flow::Written)
    }

    fn take_trouble(&mut self) -> Option<String> {
        self.take_failure()
    }

    fn close(mut self: Box<Self>) -> Result<Box<dyn Closing>> {
        self.end();
        Ok(Box::new(ClosingRecording(*self)))
    }
}

/// A recording to which nothing is added any more.
struct ClosingRecording(Recorder);

impl Closing for ClosingRecording {
    fn writes_more(&self) -> Pin<Box<dyn Future<Output = bool> + '_>> {
        Box::pin(self.0.writes_more())
    }

    fn outcome(mut self: Box<Self>, _waited: bool) -> Result<()> {
        let is_whole = self.0.is_whole();
        if let Some(why) = self.0.take_failure() {
            log::error!("{why}");
        }
        match is_whole {
            true => Ok(()),
            false => Err(Error::incomplete()),
        }
    }
}
