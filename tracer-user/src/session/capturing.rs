//! What is kept while a capture runs, and how it is printed: the joint between the data's way and the user.

use super::{
    changes::Changes,
    effect::EndedBy,
    options::{AttachOptions, Chatter, Format, SplitBy},
    prepare::Prepared,
};
use crate::{
    error::{Error, Result},
    latency::Latency,
    model::{Model, sched::SchedConfig},
    output::{
        build::{self, Named, Parts},
        capture::{Finding, Init},
        interval, json,
        progress::Progress,
        sink::{Flow, Sink},
        text::{self, By, Style},
    },
    plan::Mode,
    stream::{BucketScheme, Event, Kind, Observation},
};

/// How often the line on the terminal is drawn at most.
const SHOW_EVERY_NS: u64 = 100_000_000;

/// The open window of a capture.
pub struct Capturing {
    options: AttachOptions,
    sink: Sink,
    progress: Option<Progress>,
    mode: Mode,
    mode_reason: Option<String>,
    started_at: jiff::Timestamp,
    begin_ns: u64,
    end_ns: u64,
    interval_from_ns: u64,
    intervals: u64,
    slow_shown: bool,
    shown_ns: u64,
    changes: Option<Changes>,
    latency: Latency,
    interval: Latency,
    model: Model,
    cpu_at_begin_ns: Option<u64>,
    cpu_ns: Option<u64>,
    most_neighbours: u64,
    notes: Vec<String>,
    /// How it started, and what stood out in that.
    began: Option<Began>,
}

/// How the process started, where that was traced, too.
#[derive(Clone, Debug)]
pub struct Began {
    /// The part of the capture.
    pub init: Init,
    /// What stood out.
    pub findings: Vec<Finding>,
}

/// What the window's end adds to the capture.
pub struct Ending {
    /// Why.
    pub ended_by: EndedBy,
    /// Whether the window was all that was asked for.
    pub whole: bool,
    /// What a hit costs.
    pub cost: Option<crate::sources::probes::Cost>,
    /// How the probes are held, in the words of the JSON.
    pub attached_by: Option<&'static str>,
    /// Who measured the latencies, in the words of the JSON.
    pub measured_by: &'static str,
}

impl Capturing {
    /// A window that is not open yet.
    pub fn new(options: AttachOptions, sink: Sink, began: Option<Began>) -> Self {
        let progress =
            (options.chatter == Chatter::Normal && options.interval.is_none() && options.slower.is_none())
                .then(Progress::stderr);
        Self {
            options,
            sink,
            progress,
            mode: Mode::Passive,
            mode_reason: None,
            started_at: jiff::Timestamp::now(),
            begin_ns: 0,
            end_ns: 0,
            interval_from_ns: 0,
            intervals: 0,
            slow_shown: false,
            shown_ns: 0,
            changes: None,
            latency: Latency::new(BucketScheme::Kernel),
            interval: Latency::new(BucketScheme::Kernel),
            model: Model::default(),
            cpu_at_begin_ns: None,
            cpu_ns: None,
            most_neighbours: 0,
            notes: Vec::new(),
            began,
        }
    }

    /// Says why the mode is what it is.
    pub fn fell_back(&mut self, from: Mode, to: Mode, why: &str) {
        let reason = format!("{from} cannot be had: {why}");
        if self.options.chatter == Chatter::Normal {
            self.clear_progress();
            eprintln!("gmpscope: {to} in place of {from}: {why}");
        }
        self.mode_reason = Some(reason);
    }

    /// Opens the window.
    pub fn open(&mut self, target: &Prepared, mode: Mode, scheme: BucketScheme, sites: usize, now_ns: u64) {
        self.mode = mode;
        self.latency = Latency::new(scheme);
        self.interval = Latency::new(scheme);
        if mode == Mode::Full {
            self.model = Model::with_scheduler(SchedConfig {
                minor: target.minor(),
                syscalls: self.options.full.syscalls,
                slower_ns: self.options.slower.map(|d| d.as_nanos() as u64),
            });
            self.changes = Changes::open().inspect_err(|e| log::warn!("{e}")).ok().flatten();
            if let (Some(_), Some(sched)) = (&self.changes, self.model.scheduler_mut()) {
                sched.keep_changes();
            }
        }
        self.started_at = jiff::Timestamp::now();
        (self.begin_ns, self.end_ns, self.interval_from_ns) = (now_ns, now_ns, now_ns);
        self.cpu_at_begin_ns = target.cpu_ns();
        if self.options.chatter == Chatter::Normal {
            let how = match sites {
                0 => "no probes".to_owned(),
                n => format!("{n} probed instructions"),
            };
            eprintln!(
                "attached: process {} ({}), {mode}, {how}",
                target.pid(),
                target.version()
            );
        }
    }

    /// Takes in what was seen; slow waits are shown at once.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn observe(&mut self, target: &Prepared, observations: &[Observation]) -> Result<Flow> {
        for observation in observations {
            self.model.observe(observation);
        }
        let told = self.model.take_told();
        if let (Some(changes), Some(sched)) = (&mut self.changes, self.model.scheduler_mut()) {
            changes.write(sched)?;
        }
        let mut flow = Flow::Written;
        for observation in observations.iter().chain(&told) {
            self.latency.observe(observation);
            self.interval.observe(observation);
            if let Kind::Event(Event::SlowWait(wait)) = &observation.kind
                && self.options.format == Format::Text
            {
                let named = Named {
                    symbolizer: target,
                    begin_ns: self.begin_ns,
                };
                let slow = named.slow(&crate::latency::Slow {
                    at_ns: observation.at_ns,
                    wait: wait.clone(),
                });
                let header = if self.slow_shown {
                    String::new()
                } else {
                    text::slow_header()
                };
                self.slow_shown = true;
                if self.sink.write(&(header + &text::slow_line(&slow)))? == Flow::ReaderGone {
                    flow = Flow::ReaderGone;
                }
            }
        }
        Ok(flow)
    }

    /// Draws how far it is.
    pub fn show_progress(&mut self, now_ns: u64, neighbours: u64) {
        self.most_neighbours = self.most_neighbours.max(neighbours);
        let is_due = now_ns.saturating_sub(self.shown_ns) >= SHOW_EVERY_NS;
        if let Some(progress) = self.progress.as_mut().filter(|_| is_due) {
            self.shown_ns = now_ns;
            let total = self.latency.total();
            let duration = self.options.duration.map(|d| d.as_nanos() as u64);
            progress.draw(
                now_ns.saturating_sub(self.begin_ns),
                duration,
                total.count(),
                total.quantile_ns(990),
            );
        }
    }

    fn clear_progress(&mut self) {
        if let Some(progress) = &mut self.progress {
            progress.clear();
        }
    }

    /// Prints what came in the interval that ends now.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn print_interval(&mut self, target: &Prepared, now_ns: u64) -> Result<Flow> {
        let interval = interval::build(
            &self.interval,
            target,
            self.begin_ns,
            self.interval_from_ns,
            now_ns,
        );
        self.interval = Latency::new(self.interval.scheme());
        self.interval_from_ns = now_ns;
        self.intervals += 1;
        let text = match self.options.format {
            Format::Json => json::line(&interval).map_err(unwritable)?,
            Format::Text if self.intervals == 1 => interval::header() + &interval.line(),
            Format::Text => interval.line(),
        };
        self.sink.write(&text)
    }

    /// Closes the window: the last figures of the target itself.
    pub fn close(&mut self, target: &Prepared, now_ns: u64, neighbours: u64) {
        self.end_ns = now_ns;
        self.most_neighbours = self.most_neighbours.max(neighbours);
        self.cpu_ns = match (self.cpu_at_begin_ns, target.cpu_ns()) {
            (Some(begin), Some(end)) => end.checked_sub(begin),
            _ => None,
        };
        self.clear_progress();
    }

    /// Adds something that a reader of the figures should know.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Writes the result, and says whether it is complete.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn print(&mut self, target: &Prepared, ending: &Ending) -> Result<bool> {
        if self.options.interval.is_some() && self.end_ns > self.interval_from_ns {
            // The piece that is left: all lines together are the whole.
            let _ = self.print_interval(target, self.end_ns)?;
        }
        if let (Some(changes), Some(sched)) = (self.changes.take(), self.model.scheduler_mut()) {
            changes.finish(sched)?;
        }
        let mut capture = build::build(Parts {
            target: target.info(),
            mode: self.mode.name(),
            mode_reason: self.mode_reason.clone(),
            started_at: self.started_at,
            begin_ns: self.begin_ns,
            end_ns: self.end_ns,
            ended_by: ending.ended_by.name(),
            whole: ending.whole,
            latency: &self.latency,
            model: &self.model,
            symbolizer: target,
            attached_by: ending.attached_by,
            measured_by: ending.measured_by,
            probe_cost_ns: ending.cost.map(|cost| cost.hit_ns),
            target_cpu_ns: self.cpu_ns,
            latency_floor_ns: ending.cost.and_then(|cost| cost.latency_floor_ns),
            concurrent_captures: self.most_neighbours,
            notes: std::mem::take(&mut self.notes),
        });
        capture.capture.notes.extend(target.notes());
        if let Some(began) = self.began.take() {
            capture.init = Some(began.init);
            capture.findings.splice(0..0, began.findings);
        }
        let text = match self.options.format {
            Format::Json => json::line(&capture).map_err(unwritable)?,
            Format::Text => {
                let by = self.options.by.map(|by| match by {
                    SplitBy::Origin => By::Origin,
                    SplitBy::CreationSite => By::CreationSite,
                });
                let colour = text::wants_colour(self.sink.is_terminal());
                text::render(&capture, Style { by, colour })
            }
        };
        // A reader who has closed the pipe has what he wanted.
        let _ = self.sink.write(&text)?;
        Ok(capture.capture.complete)
    }

    /// Puts the output file in its place.
    ///
    /// # Errors
    /// As [`Sink::finish`].
    pub fn finish(self) -> Result<()> {
        self.sink.finish()
    }
}

fn unwritable(e: serde_json::Error) -> Error {
    Error::failed(format!("the capture cannot be written as JSON: {e}"))
}
