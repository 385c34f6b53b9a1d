//! What is kept while a capture runs, and how it is printed: the joint between the data's way and the user. It knows
//! no target: all that it is told are observations and steps, which may as well come from a recording.

use std::{collections::BTreeSet, time::Duration};

use super::{changes::Changes, effect::EndedBy};
use crate::{
    document::{
        build::{self, Named, Parts},
        capture::{Finding, Init},
    },
    error::{Error, Result},
    escape::Untrusted,
    latency::Latency,
    model::{Model, Symbolizer, sched::Sched},
    output::{
        interval, json,
        progress::Progress,
        sink::{Flow, Sink},
        text::{self, By, Style},
    },
    plan::Mode,
    session::{
        options::{AttachOptions, Chatter, Format, SplitBy},
        step::{Holding, LatencyBegin, LatencyStep, Opening},
    },
    stream::{BucketScheme, Event, Kind, Observation},
    writing::stderr,
};

/// How a capture is told.
#[derive(Clone, Debug)]
pub struct Form {
    /// In what form.
    pub format: Format,
    /// What tells histograms apart.
    pub by: Option<SplitBy>,
    /// Whether intervals are told, too.
    pub by_interval: bool,
    /// What goes to stderr.
    pub chatter: Chatter,
    /// How far it is can be told; of this length, where it has one.
    pub progress: Option<Option<Duration>>,
}

impl Form {
    /// As it was asked for.
    pub fn of(options: &AttachOptions) -> Self {
        let quiet = options.interval.is_some() || options.slower.is_some();
        Self {
            format: options.format,
            by: options.by,
            by_interval: options.interval.is_some(),
            chatter: options.chatter,
            progress: (options.chatter == Chatter::Normal && !quiet).then_some(options.duration),
        }
    }
}

/// The open window of a capture.
pub struct Capturing {
    form: Form,
    target: LatencyBegin,
    sink: Sink,
    progress: Option<Progress>,
    mode: Mode,
    mode_reason: Option<Untrusted>,
    started_at: jiff::Timestamp,
    begin_ns: u64,
    end_ns: u64,
    interval_from_ns: u64,
    intervals: u64,
    slow_shown: bool,
    changes: Option<Changes>,
    latency: Latency,
    interval: Latency,
    model: Model,
    cpu_at_begin_ns: Option<u64>,
    cpu_ns: Option<u64>,
    neighbours: u64,
    notes: Vec<Untrusted>,
    holding: Holding,
    ending: Option<(EndedBy, bool)>,
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

impl Capturing {
    /// A window that is not open yet.
    pub fn new(form: Form, target: LatencyBegin, sink: Sink, began: Option<Began>) -> Self {
        Self {
            progress: form.progress.map(|_| Progress::stderr()),
            form,
            target,
            sink,
            mode: Mode::Passive,
            mode_reason: None,
            started_at: jiff::Timestamp::now(),
            begin_ns: 0,
            end_ns: 0,
            interval_from_ns: 0,
            intervals: 0,
            slow_shown: false,
            changes: None,
            latency: Latency::new(BucketScheme::Kernel),
            interval: Latency::new(BucketScheme::Kernel),
            model: Model::default(),
            cpu_at_begin_ns: None,
            cpu_ns: None,
            neighbours: 0,
            notes: Vec::new(),
            holding: Holding::default(),
            ending: None,
            began,
        }
    }

    /// Takes in a step.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn step(&mut self, symbolizer: &dyn Symbolizer, step: LatencyStep) -> Result<Flow> {
        match step {
            LatencyStep::Begin(target) => self.target = target,
            LatencyStep::FallBack { from, to, why } => self.fall_back(from, to, &why),
            LatencyStep::Open(opening) => self.open(&opening),
            LatencyStep::Hold(holding) => self.holding = holding,
            LatencyStep::Interval { at_ns } if self.form.by_interval => {
                return self.print_interval(symbolizer, at_ns);
            }
            LatencyStep::Interval { .. } => {}
            LatencyStep::Note { note } => self.notes.push(note),
            LatencyStep::Close {
                at_ns,
                cpu_ns,
                concurrent_captures,
            } => self.close(at_ns, cpu_ns, concurrent_captures),
            LatencyStep::Finish { ended_by, whole } => self.ending = Some((ended_by, whole)),
        }
        Ok(Flow::Written)
    }

    /// Says why the mode is what it is.
    fn fall_back(&mut self, from: Mode, to: Mode, why: &Untrusted) {
        let reason = format!("{from} cannot be had: {}", why.raw()).into();
        if self.form.chatter == Chatter::Normal {
            self.clear_progress();
            stderr::write(format!("gmpscope: {to} in place of {from}: {why}\n").as_bytes());
        }
        self.mode_reason = Some(reason);
    }

    fn open(&mut self, opening: &Opening) {
        self.mode = opening.mode;
        self.latency = Latency::new(opening.scheme);
        self.interval = Latency::new(opening.scheme);
        if let Some(config) = opening.scheduler {
            self.model = Model::with_scheduler(config);
            self.changes = Changes::open().inspect_err(|e| log::warn!("{e}")).ok().flatten();
            if let (Some(_), Some(sched)) = (&self.changes, self.model.scheduler_mut()) {
                sched.keep_changes();
            }
        }
        self.started_at = opening.started_at;
        let now_ns = opening.at_ns;
        (self.begin_ns, self.end_ns, self.interval_from_ns) = (now_ns, now_ns, now_ns);
        self.cpu_at_begin_ns = opening.cpu_ns;
    }

    /// How many goroutines, Ps and threads it holds something of.
    pub fn known(&self) -> usize {
        self.model.scheduler().map_or(0, Sched::known)
    }

    /// Takes in what was seen; slow waits are shown at once.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn observe(&mut self, symbolizer: &dyn Symbolizer, observations: &[Observation]) -> Result<Flow> {
        for observation in observations {
            self.model.observe(observation);
        }
        let told = self.model.take_derived();
        if let (Some(changes), Some(sched)) = (&mut self.changes, self.model.scheduler_mut()) {
            changes.write(sched)?;
        }
        if self.form.format == Format::Text {
            prepare_slow(symbolizer, observations.iter().chain(&told));
        }
        let mut flow = Flow::Written;
        for observation in observations.iter().chain(&told) {
            self.latency.observe(observation);
            self.interval.observe(observation);
            if let Kind::Event(Event::SlowWait(wait)) = &observation.kind
                && self.form.format == Format::Text
            {
                let named = Named {
                    symbolizer,
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
                if self.sink.line(&(header + &text::slow_line(&slow)))? == Flow::ReaderGone {
                    flow = Flow::ReaderGone;
                }
            }
        }
        Ok(flow)
    }

    /// Draws how far it is.
    pub fn show_progress(&mut self, now_ns: u64) {
        if let Some(progress) = &mut self.progress {
            let total = self.latency.total();
            let duration = self.form.progress.flatten().map(|d| d.as_nanos() as u64);
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
    fn print_interval(&mut self, symbolizer: &dyn Symbolizer, now_ns: u64) -> Result<Flow> {
        let interval = interval::build(
            &self.interval,
            symbolizer,
            self.begin_ns,
            self.interval_from_ns,
            now_ns,
        );
        self.interval = Latency::new(self.interval.scheme());
        self.interval_from_ns = now_ns;
        self.intervals += 1;
        let text = match self.form.format {
            Format::Json => json::line(&interval).map_err(unwritable)?,
            Format::Text if self.intervals == 1 => interval::header() + &interval.line(),
            Format::Text => interval.line(),
        };
        self.sink.line(&text)
    }

    /// Whether anybody still reads what is printed.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn flow(&self) -> Result<Flow> {
        self.sink.flow()
    }

    /// Closes the window: the last figures of the target itself.
    fn close(&mut self, now_ns: u64, cpu_ns: Option<u64>, neighbours: u64) {
        self.end_ns = now_ns;
        self.neighbours = neighbours;
        self.cpu_ns = match (self.cpu_at_begin_ns, cpu_ns) {
            (Some(begin), Some(end)) => end.checked_sub(begin),
            _ => None,
        };
        self.clear_progress();
    }

    /// Whether all is captured, so that there is something to print.
    pub fn is_finished(&self) -> bool {
        self.ending.is_some()
    }

    /// Writes the result, and says whether it is complete.
    ///
    /// # Errors
    /// The output cannot be written, or there is no result.
    pub fn print(&mut self, symbolizer: &dyn Symbolizer) -> Result<bool> {
        let Some((ended_by, whole)) = self.ending else {
            return Err(Error::failed("the capture has no end"));
        };
        if self.form.by_interval && self.end_ns > self.interval_from_ns {
            // The piece that is left: all lines together are the whole.
            let _ = self.print_interval(symbolizer, self.end_ns)?;
        }
        if let (Some(changes), Some(sched)) = (self.changes.take(), self.model.scheduler_mut()) {
            changes.finish(sched)?;
        }
        let mut capture = build::build(Parts {
            target: self.target.target.clone(),
            mode: self.mode.name(),
            mode_reason: self.mode_reason.clone(),
            started_at: self.started_at,
            begin_ns: self.begin_ns,
            end_ns: self.end_ns,
            ended_by: ended_by.name(),
            whole,
            latency: &self.latency,
            model: &self.model,
            symbolizer,
            attached_by: self.holding.attached_by.as_deref(),
            measured_by: &self.holding.measured_by,
            probe_cost_ns: self.holding.hit_ns,
            target_cpu_ns: self.cpu_ns,
            latency_floor_ns: self.holding.latency_floor_ns,
            concurrent_captures: self.neighbours,
            notes: std::mem::take(&mut self.notes),
        });
        capture.capture.notes.append(&mut self.target.notes);
        if let Some(note) = note_of_dropped(&self.sink) {
            log::warn!("{note}");
            capture.capture.notes.push(note.into());
            capture.capture.complete = false;
        }
        if let Some(began) = self.began.take() {
            capture.init = Some(began.init);
            capture.findings.splice(0..0, began.findings);
        }
        let text = match self.form.format {
            Format::Json => json::line(&capture).map_err(unwritable)?,
            Format::Text => {
                let by = self.form.by.map(|by| match by {
                    SplitBy::Origin => By::Origin,
                    SplitBy::CreationSite => By::CreationSite,
                });
                let colour = text::wants_colour(self.sink.is_terminal());
                text::render(&capture, Style { by, colour })
            }
        };
        // A reader who has closed the pipe has what he wanted.
        let _ = self.sink.result(&text)?;
        Ok(capture.capture.complete)
    }

    /// The output, to be ended, or for what else is to be printed.
    pub fn into_sink(self) -> Sink {
        self.sink
    }
}

/// What a reader must know whose output is not whole.
pub(in crate::session) fn note_of_dropped(sink: &Sink) -> Option<String> {
    let dropped = sink.dropped();
    (dropped > 0).then(|| {
        format!("{dropped} lines of this output were dropped before the result: nobody read them in time")
    })
}

/// Has the creation sites of all slow waits looked up together, before each is shown.
fn prepare_slow<'o>(symbolizer: &dyn Symbolizer, observations: impl Iterator<Item = &'o Observation>) {
    let gopcs: BTreeSet<u64> = observations
        .filter_map(|observation| match &observation.kind {
            Kind::Event(Event::SlowWait(wait)) => wait.gopc.filter(|gopc| *gopc != 0),
            _ => None,
        })
        .collect();
    if !gopcs.is_empty() {
        symbolizer.prepare(&gopcs.into_iter().collect::<Vec<_>>());
    }
}

fn unwritable(e: serde_json::Error) -> Error {
    Error::failed(format!("the capture cannot be written as JSON: {e}"))
}
