//! The consumer that prints: a capture as text or JSON, with what is shown while it runs. What it prints is made by the
//! tallies of [`crate::document::tally`]; a capture of a start that continues with latencies has both.

mod latencies;
mod starts;

use crate::{
    document::{
        answer,
        capture::Capture,
        interval::{Interval, StartsInterval},
        tally::{LatencyTally, StartTally},
    },
    error::{Error, Result},
    output::{
        json,
        options::{Format, RenderOptions},
        progress::ProgressLine,
        sink::{NoOutput, Sink},
        text::{self, Style, interval},
    },
    stream::{Closing, Consumer, Flow, Observation, Step, Symbolizer},
};

/// Prints a capture.
pub struct Printer {
    options: RenderOptions,
    sink: Sink,
    progress: Option<ProgressLine>,
    starts: Option<Box<StartTally>>,
    latencies: Option<Box<LatencyTally>>,
    /// Intervals, or starts, that were printed before the result: below a header, which comes with the first.
    lines: u64,
    /// Whether the header of slow waits was printed.
    has_slow_header: bool,
    /// When the progress was drawn the last time, CLOCK_MONOTONIC.
    drawn_ns: u64,
    /// The name of a recording, and the most goroutines, Ps and threads that it may have.
    recording: Option<(String, usize)>,
    has_result: bool,
}

impl Printer {
    /// Returns a printer that writes into `sink`.
    pub fn new(options: RenderOptions, sink: Sink) -> Self {
        Self {
            progress: options.progress.map(|_| ProgressLine::stderr()),
            options,
            sink,
            starts: None,
            latencies: None,
            lines: 0,
            has_slow_header: false,
            drawn_ns: 0,
            recording: None,
            has_result: false,
        }
    }

    /// The same printer for a recording, which may be hostile: refuses one with more goroutines, Ps and threads than
    /// `most_known`. `name` is what the error calls it.
    #[must_use]
    pub fn of_recording(mut self, name: &str, most_known: usize) -> Self {
        self.recording = Some((name.to_owned(), most_known));
        self
    }

    /// Prints an interval that is known already.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn print_interval(&mut self, ended: &Interval) -> Result<Flow> {
        self.interval(ended, || interval::header(ended), || interval::line(ended))
    }

    /// Prints an interval of starts that is known already.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn print_starts(&mut self, ended: &StartsInterval) -> Result<Flow> {
        let is_followed = !ended.binaries.is_empty();
        self.interval(
            ended,
            || interval::starts_header(is_followed),
            || interval::starts(ended),
        )
    }

    /// Prints a capture that is known already. Returns whether it is complete.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn print_capture(&mut self, capture: Capture) -> Result<bool> {
        self.result(capture)
    }

    /// Ends the output, and waits until all is written. For whoever has no probes anywhere.
    ///
    /// # Errors
    /// It could not be written.
    pub fn finish_now(self) -> Result<()> {
        self.sink.finish_now()
    }

    /// Prints an interval or a start; the first one below `header`.
    fn line(&mut self, header: impl FnOnce() -> String, line: &str) -> Result<Flow> {
        let header = match self.lines {
            0 => header(),
            _ => String::new(),
        };
        self.lines += 1;
        self.sink.line(&(header + line))
    }

    /// Prints an interval: as JSON, or as text below a header.
    fn interval(
        &mut self,
        interval: &impl serde::Serialize,
        header: impl FnOnce() -> String,
        text: impl FnOnce() -> String,
    ) -> Result<Flow> {
        match self.options.format {
            Format::Json => self.line(String::new, &json::line(interval)?),
            Format::Text => self.line(header, &text()),
        }
    }

    /// Prints the result. Returns whether it is complete.
    fn result(&mut self, mut capture: Capture) -> Result<bool> {
        let dropped = self.sink.dropped();
        if dropped > 0 {
            let note = format!(
                "{dropped} lines of this output were dropped before the result: nobody read them in time"
            );
            log::warn!("{note}");
            capture.add_shortcoming(note);
            answer::renew(&mut capture);
        }
        let text = match self.options.format {
            Format::Json => json::line(&capture)?,
            Format::Text => {
                let style = Style {
                    by: self.options.by,
                    colour: text::wants_colour(self.sink.is_terminal()),
                };
                text::render(&capture, style)
            }
        };
        // A reader who has closed the pipe has what he wanted.
        let _ = self.sink.result(&text)?;
        self.has_result = true;
        Ok(capture.capture.complete)
    }

    fn clear_progress(&mut self) {
        if let Some(progress) = &mut self.progress {
            progress.clear();
        }
    }
}

impl Consumer for Printer {
    fn step(&mut self, step: &Step, names: &dyn Symbolizer) -> Result<Flow> {
        match step {
            Step::Starts(step) => self.start_step(step),
            Step::Latencies(step) => self.latency_step(step, names),
        }
    }

    fn observe(&mut self, observations: &[Observation], names: &dyn Symbolizer) -> Result<Flow> {
        match &self.latencies {
            Some(_) => self.observe_latencies(observations, names),
            None => self.observe_starts(observations),
        }
    }

    fn poll(&mut self, now_ns: u64) -> Result<Flow> {
        self.draw_progress(now_ns);
        // Who reads may also go away between two lines.
        self.sink.flow()
    }

    fn conclude(&mut self, names: &dyn Symbolizer) -> Result<Option<bool>> {
        let starts = self.starts.as_ref().is_some_and(|starts| starts.is_finished());
        let capture = match starts {
            // Also where latencies were to follow, which failed.
            true => self.conclude_starts()?,
            false => self.conclude_latencies(names)?,
        };
        self.result(capture).map(Some)
    }

    fn close(self: Box<Self>) -> Result<Box<dyn Closing>> {
        // Without a result a file stays as it was.
        Ok(match self.has_result {
            true => Box::new(self.sink.finish()?),
            false => Box::new(NoOutput),
        })
    }
}

/// The error about steps that do not come in order. Whoever replays a recording checks the order before.
fn out_of_order() -> Error {
    Error::failed("the steps of the capture do not come in order")
}
