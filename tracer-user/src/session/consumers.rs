//! The consumers of a capture, driven as one.

use std::{cell::RefCell, path::Path, rc::Rc};

use super::{delivery, signals::Interrupts};
use crate::{
    error::{Error, Result},
    output::{options::RenderOptions, printer::Printer, sink::Sink},
    stream::{Consumer, Flow, Observation, Step, Symbolizer, recording::Recorder},
};

/// The consumers of one capture. Clones drive the same ones: a capture of a start that continues with latencies has two
/// sessions.
#[derive(Clone)]
pub struct Consumers(Rc<RefCell<Vec<Box<dyn Consumer>>>>);

/// Where a capture goes, as it was asked for.
pub struct Destinations<'a> {
    /// How it is printed.
    pub render: RenderOptions,
    /// Where it is printed.
    pub sink: Sink,
    /// Where it is recorded, if anywhere.
    pub record: Option<&'a Path>,
    /// Whether stacks are captured, whose functions a recording must name.
    pub stacks: bool,
}

impl Consumers {
    /// Opens the consumers that were asked for.
    ///
    /// # Errors
    /// The file of the recording cannot be written.
    pub fn open(destinations: Destinations<'_>) -> Result<Self> {
        let Destinations {
            render,
            sink,
            record,
            stacks,
        } = destinations;
        let mut all: Vec<Box<dyn Consumer>> = vec![Box::new(Printer::new(render, sink))];
        if let Some(path) = record {
            all.push(Box::new(Recorder::open(path)?.with_frames(stacks)));
        }
        Ok(Self(Rc::new(RefCell::new(all))))
    }

    /// Hands a step to each consumer.
    ///
    /// # Errors
    /// The first error of a consumer. The others get the step all the same.
    pub fn step(&self, step: &Step, names: &dyn Symbolizer) -> Result<Flow> {
        self.each(|consumer| consumer.step(step, names))
    }

    /// Hands observations to each consumer.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn observe(&self, observations: &[Observation], names: &dyn Symbolizer) -> Result<Flow> {
        self.each(|consumer| consumer.observe(observations, names))
    }

    /// See [`Consumer::poll`].
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn poll(&self, now_ns: u64) -> Result<Flow> {
        self.each(|consumer| consumer.poll(now_ns))
    }

    /// Returns why consumers have ended before the capture: each reason once.
    pub fn take_troubles(&self) -> Vec<String> {
        let mut all = self.0.borrow_mut();
        all.iter_mut()
            .filter_map(|consumer| consumer.take_trouble())
            .inspect(|why| log::error!("{why}"))
            .collect()
    }

    /// Makes each consumer produce its result.
    ///
    /// # Errors
    /// As [`Self::step`]; [`Error::incomplete`] where there is a result that is not complete.
    pub fn conclude(&self, names: &dyn Symbolizer) -> Result<()> {
        let mut is_complete = true;
        let concluded = self.each(|consumer| {
            is_complete &= consumer.conclude(names)?.unwrap_or(true);
            Ok(Flow::Written)
        });
        concluded.map(|_| ())?;
        match is_complete {
            true => Ok(()),
            false => Err(Error::incomplete()),
        }
    }

    /// Ends all consumers, and waits until their output is written, or a signal ends the waiting.
    ///
    /// # Errors
    /// Something was not written.
    pub async fn close(&self, signals: &mut impl Interrupts) -> Result<()> {
        let all = self.0.take();
        delivery::deliver(all, signals).await
    }

    fn each(&self, mut call: impl FnMut(&mut dyn Consumer) -> Result<Flow>) -> Result<Flow> {
        let mut flow = Ok(Flow::Written);
        for consumer in self.0.borrow_mut().iter_mut() {
            // Whatever one of them says, the others are called.
            flow = match (flow, call(&mut **consumer)) {
                (Ok(so_far), Ok(flow)) => Ok(so_far.and(flow)),
                (Err(e), _) | (_, Err(e)) => Err(e),
            };
        }
        flow
    }
}
