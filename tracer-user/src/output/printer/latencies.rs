//! What is printed of latencies before the result: slow waits, intervals, and how far the capture is.

use std::collections::BTreeSet;

use super::{Printer, out_of_order};
use crate::{
    document::{answer, capture::Capture, named::Named, tally::LatencyTally},
    error::{Error, Result},
    latency::Slow,
    output::{
        notice,
        options::{Chatter, Format, Progress},
        text,
    },
    stream::{Event, Flow, Kind, Observation, Symbolizer, step::LatencyStep},
};

/// How often the progress is drawn, at most.
const DRAW_EVERY_NS: u64 = 90_000_000;

impl Printer {
    /// Takes a step of a capture of latencies.
    ///
    /// # Errors
    /// The output cannot be written, or no capture has begun.
    pub(super) fn latency_step(&mut self, step: &LatencyStep, names: &dyn Symbolizer) -> Result<Flow> {
        if let LatencyStep::Begin(begin) = step {
            self.latencies = Some(Box::new(LatencyTally::new(begin.clone())));
            return Ok(Flow::Written);
        }
        let tally = self.latencies.as_mut().ok_or_else(out_of_order)?;
        tally.step(step);
        match step {
            LatencyStep::FallBack { from, to, why } if self.options.chatter == Chatter::Normal => {
                self.clear_progress();
                notice::line(&format!("gmpscope: {to} in place of {from}: {why}"));
            }
            LatencyStep::Interval { at_ns } if self.options.by_interval => {
                let ended = tally.interval(names, *at_ns);
                return self.print_interval(&ended);
            }
            // Its line goes with it.
            LatencyStep::Close { .. } => self.progress = None,
            _ => {}
        }
        Ok(Flow::Written)
    }

    /// Takes what was observed; slow waits are shown at once.
    ///
    /// # Errors
    /// The output cannot be written, no capture has begun, or there is more in it than a recording of ours can have.
    pub(super) fn observe_latencies(
        &mut self,
        observations: &[Observation],
        names: &dyn Symbolizer,
    ) -> Result<Flow> {
        let tally = self.latencies.as_mut().ok_or_else(out_of_order)?;
        let derived = tally.observe(observations);
        if let Some((name, most_known)) = &self.recording
            && tally.known() > *most_known
        {
            return Err(Error::failed(format!(
                "{name} is not a recording as gmpscope writes it: it has more goroutines than there can be"
            )));
        }
        if self.options.format != Format::Text {
            return Ok(Flow::Written);
        }
        let slow: Vec<Slow> = observations
            .iter()
            .chain(&derived)
            .filter_map(|observation| match &observation.kind {
                Kind::Event(Event::SlowWait(wait)) => Some(Slow {
                    at_ns: observation.at_ns,
                    wait: wait.clone(),
                }),
                _ => None,
            })
            .collect();
        let named = Named {
            symbolizer: names,
            begin_ns: tally.begin_ns(),
        };
        prepare(names, &slow);
        let mut flow = Flow::Written;
        for slow in &slow {
            let line = text::slow_line(&named.slow(slow));
            let header = match std::mem::replace(&mut self.has_slow_header, true) {
                true => String::new(),
                false => text::slow_header(),
            };
            flow = flow.and(self.sink.line(&(header + &line))?);
        }
        Ok(flow)
    }

    /// Draws how far the capture is, unless that was done a moment ago.
    pub(super) fn draw_progress(&mut self, now_ns: u64) {
        let (Some(progress), Some(tally)) = (&mut self.progress, &self.latencies) else {
            return;
        };
        if tally.begin_ns() == 0 || now_ns.saturating_sub(self.drawn_ns) < DRAW_EVERY_NS {
            return;
        }
        self.drawn_ns = now_ns;
        let duration_ns = match self.options.progress {
            Some(Progress::Of(duration)) => Some(duration.as_nanos() as u64),
            Some(Progress::Endless) | None => None,
        };
        let waits = tally.waits();
        progress.draw(
            now_ns.saturating_sub(tally.begin_ns()),
            duration_ns,
            waits.count(),
            waits.quantile_ns(990),
        );
    }

    /// Makes the result of latencies, with how the program started where that was traced, too.
    ///
    /// # Errors
    /// The last interval cannot be written, or the capture has no end.
    pub(super) fn conclude_latencies(&mut self, names: &dyn Symbolizer) -> Result<Capture> {
        let tally = self.latencies.as_mut().ok_or_else(out_of_order)?;
        if self.options.by_interval
            && let Some(ended) = tally.last_interval(names)
        {
            let _ = self.print_interval(&ended)?;
        }
        let tally = self.latencies.as_mut().ok_or_else(out_of_order)?;
        let mut capture = tally.capture(names).ok_or_else(out_of_order)?;
        if let Some(starts) = &self.starts {
            let (init, findings) = starts.part();
            capture.init = Some(init);
            capture.findings.splice(0..0, findings);
            capture.capture.notes.extend(starts.notes().cloned());
            if let Some(missing) = starts.shortcoming() {
                capture.add_shortcoming(missing);
                answer::renew(&mut capture);
            }
        }
        Ok(capture)
    }
}

/// Has the creation sites of all slow waits looked up together, before each is shown.
fn prepare(names: &dyn Symbolizer, slow: &[Slow]) {
    let gopcs = slow.iter().filter_map(|slow| slow.wait.gopc);
    let gopcs: BTreeSet<u64> = gopcs.filter(|gopc| *gopc != 0).collect();
    if !gopcs.is_empty() {
        names.prepare(&gopcs.into_iter().collect::<Vec<_>>());
    }
}
