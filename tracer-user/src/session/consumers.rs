//! Those who consume a capture, all driven as one.

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
    /// Opens what was asked for.
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

    /// Hands a step to each.
    ///
    /// # Errors
    /// The first error of one; the others have got the step, too.
    pub fn step(&self, step: &Step, names: &dyn Symbolizer) -> Result<Flow> {
        self.each(|consumer| consumer.step(step, names))
    }

    /// Hands what was observed to each.
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

    /// Has each make its result.
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

    /// Ends all of them, and waits until what they have made is written or nobody waits for it any more.
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
