//! What is printed of starts before the result: a line for each, or for each interval.

use super::{Printer, out_of_order};
use crate::{
    document::{capture::Capture, init::Short, interval::StartsInterval, tally::StartTally},
    error::Result,
    output::{
        options::Format,
        text::{init, interval},
    },
    stream::{Flow, Observation, step::StartStep},
};

impl Printer {
    /// Takes a step of a capture of starts.
    ///
    /// # Errors
    /// The output cannot be written, or no capture has begun.
    pub(super) fn start_step(&mut self, step: &StartStep) -> Result<Flow> {
        if let StartStep::Begin(begin) = step {
            self.starts = Some(Box::new(StartTally::new(begin.clone())));
            return Ok(Flow::Written);
        }
        let by_interval = self.starts_by_interval();
        let tally = self.starts.as_mut().ok_or_else(out_of_order)?;
        let ended = tally.step(step);
        if let StartStep::Interval { at_ns } = step
            && by_interval
        {
            let interval = tally.interval(*at_ns);
            return self.starts_interval(&interval);
        }
        self.start_lines(&ended)
    }

    /// Takes what was observed; each start is shown as it ends.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(super) fn observe_starts(&mut self, observations: &[Observation]) -> Result<Flow> {
        let ended = match &mut self.starts {
            Some(tally) => tally.observe(observations),
            None => Vec::new(),
        };
        self.start_lines(&ended)
    }

    /// Makes the result of starts.
    ///
    /// # Errors
    /// The last interval cannot be written, or the capture has no end.
    pub(super) fn conclude_starts(&mut self) -> Result<Capture> {
        let by_interval = self.starts_by_interval();
        let tally = self.starts.as_mut().ok_or_else(out_of_order)?;
        if by_interval && let Some(interval) = tally.last_interval() {
            let _ = self.starts_interval(&interval)?;
        }
        let tally = self.starts.as_mut().ok_or_else(out_of_order)?;
        tally.capture().ok_or_else(out_of_order)
    }

    /// Whether intervals are of starts: with latencies behind them they are of those.
    fn starts_by_interval(&self) -> bool {
        let latencies_follow = self.starts.as_ref().is_some_and(|tally| tally.latencies_follow());
        self.options.by_interval && !latencies_follow
    }

    fn starts_interval(&mut self, ended: &StartsInterval) -> Result<Flow> {
        let is_followed = self.starts.as_ref().is_some_and(|tally| tally.is_followed());
        self.interval(
            ended,
            || interval::starts_header(is_followed),
            || interval::starts(ended),
        )
    }

    fn start_lines(&mut self, ended: &[Short]) -> Result<Flow> {
        if ended.is_empty() || self.options.format != Format::Text || self.starts_by_interval() {
            return Ok(Flow::Written);
        }
        let lines: String = ended.iter().map(init::short_line).collect();
        self.line(init::short_header, &lines)
    }
}
