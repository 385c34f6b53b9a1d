//! What is kept of starts while they are traced, and how it is printed.

use super::{program::Program, surroundings::Surroundings};
use crate::{
    error::{Error, Result},
    findings::start::{self as findings, Evidence},
    latency::start::PhaseTimes,
    model::start::{Ended, Start, Starts},
    output::{
        capture::{Capture, CaptureInfo, Finding, Hist, SCHEMA},
        init,
        interval::StartsInterval,
        json,
        sink::{Flow, Sink},
        text::{self, Style},
        {init_text, layout},
    },
    session::{
        EndedBy,
        capturing::Began,
        options::{Chatter, Format},
    },
    stream::{Kind, Observation},
};

/// Most starts that are kept whole.
const MOST_KEPT: usize = 10_000;

/// How the result is written.
pub struct Form {
    /// In what form.
    pub format: Format,
    /// Where.
    pub sink: Sink,
    /// What goes to stderr besides.
    pub chatter: Chatter,
    /// More than one start may come: each is told in a line as it ends.
    pub several: bool,
    /// Lines come by the clock, not by the start.
    pub by_interval: bool,
}

/// Starts, and what was told of them.
pub struct Recording {
    form: Form,
    open: Starts,
    ended: Vec<Start>,
    times: PhaseTimes,
    interval: PhaseTimes,
    interval_from_ns: u64,
    begin_ns: u64,
    end_ns: u64,
    started_at: jiff::Timestamp,
    lines: u64,
    hits: u64,
    attached_by: Option<&'static str>,
    lost: u64,
    notes: Vec<String>,
}

impl Recording {
    /// Nothing seen yet.
    pub fn new(form: Form, dynamic: bool) -> Self {
        Self {
            form,
            open: Starts::new(dynamic),
            ended: Vec::new(),
            times: PhaseTimes::default(),
            interval: PhaseTimes::default(),
            interval_from_ns: 0,
            begin_ns: 0,
            end_ns: 0,
            started_at: jiff::Timestamp::now(),
            lines: 0,
            hits: 0,
            attached_by: None,
            lost: 0,
            notes: Vec::new(),
        }
    }

    /// The window begins.
    pub fn open(&mut self, now_ns: u64) {
        if self.begin_ns == 0 {
            self.started_at = jiff::Timestamp::now();
            (self.begin_ns, self.interval_from_ns) = (now_ns, now_ns);
        }
    }

    /// Something that a reader should know.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Takes in what was seen; the processes whose starts have ended by it.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn observe(&mut self, seen: &[Observation]) -> Result<(Vec<u32>, Flow)> {
        let mut ended = Vec::new();
        for observation in seen {
            match &observation.kind {
                Kind::Hits(hits) => self.hits = self.hits.saturating_add(*hits),
                Kind::Loss(loss) => self.lost = self.lost.saturating_add(loss.count),
                _ => ended.extend(self.open.observe(observation)),
            }
        }
        let pids = ended.iter().map(|start| start.pid).collect();
        let flow = self.take(ended)?;
        Ok((pids, flow))
    }

    /// Processes that are on their way.
    pub fn on_their_way(&self) -> Vec<u32> {
        self.open.open()
    }

    /// Ends the starts that are open.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn cut(&mut self, now_ns: u64) -> Result<Flow> {
        let cut = self.open.open();
        let cut = cut
            .into_iter()
            .filter_map(|pid| self.open.cut(pid, now_ns))
            .collect();
        self.take(cut)
    }

    fn take(&mut self, ended: Vec<Start>) -> Result<Flow> {
        let mut lines = String::new();
        for start in ended {
            self.times.add(&start);
            self.interval.add(&start);
            if self.form.several && !self.form.by_interval && self.form.format == Format::Text {
                if self.lines == 0 {
                    lines.push_str(&init_text::short_header());
                }
                self.lines += 1;
                lines.push_str(&init_text::short_line(&init::short(&start, self.begin_ns)));
            }
            if self.ended.len() < MOST_KEPT {
                self.ended.push(start);
            }
        }
        if lines.is_empty() {
            return Ok(Flow::Written);
        }
        self.form.sink.write(&lines)
    }

    /// Prints what came in the interval that ends now.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn print_interval(&mut self, now_ns: u64) -> Result<Flow> {
        let times = std::mem::take(&mut self.interval);
        let line = StartsInterval::of(&times, self.begin_ns, self.interval_from_ns, now_ns);
        self.interval_from_ns = now_ns;
        let text = match self.form.format {
            Format::Json => json::line(&line).map_err(unwritable)?,
            Format::Text if self.lines == 0 => StartsInterval::header() + &line.line(),
            Format::Text => line.line(),
        };
        self.lines += 1;
        self.form.sink.write(&text)
    }

    /// Writes the result; whether it is complete.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn print(
        &mut self,
        program: &Program,
        around: &Surroundings,
        ended_by: EndedBy,
        whole: bool,
        now_ns: u64,
    ) -> Result<bool> {
        if self.form.by_interval {
            let _ = self.print_interval(now_ns)?;
        }
        self.end_ns = now_ns;
        let capture = self.capture(program, around, ended_by, whole);
        let text = match self.form.format {
            Format::Json => json::line(&capture).map_err(unwritable)?,
            Format::Text => {
                let colour = text::wants_colour(self.form.sink.is_terminal());
                text::render(&capture, Style { by: None, colour })
            }
        };
        // A reader who has closed the pipe has what he wanted.
        let _ = self.form.sink.write(&text)?;
        Ok(capture.capture.complete)
    }

    /// The same, to be told with what comes behind `main.main`.
    pub fn began(&self, around: &Surroundings) -> Began {
        Began {
            init: init::build(&self.ended, &self.times, self.begin_ns),
            findings: self.findings(around),
        }
    }

    /// The output, to be written by somebody else.
    pub fn take_sink(&mut self) -> Sink {
        std::mem::replace(&mut self.form.sink, Sink::stderr())
    }

    fn findings(&self, around: &Surroundings) -> Vec<Finding> {
        let Some(start) = init::shown(&self.ended) else {
            return Vec::new();
        };
        let others: Vec<Start> = self
            .ended
            .iter()
            .filter(|other| other.ended == Ended::Main && !std::ptr::eq(*other, start))
            .cloned()
            .collect();
        findings::find(&Evidence {
            start,
            others: &others,
            cgroup_cpu_limit: around.cgroup_cpu_limit,
            throttled: around.throttled,
            godebug: around.godebug.as_deref(),
        })
    }

    fn capture(
        &mut self,
        program: &Program,
        around: &Surroundings,
        ended_by: EndedBy,
        whole: bool,
    ) -> Capture {
        let shown = init::shown(&self.ended);
        let findings = self.findings(around);
        let mut target = program.info(shown.map_or(0, |start| start.pid), around.cgroup_cpu_limit);
        target.gomaxprocs = shown.and_then(|start| start.gomaxprocs);
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(
            program
                .plan
                .missing
                .iter()
                .map(|attempt| format!("not told apart: {}: {}", attempt.what, attempt.outcome)),
        );
        Capture {
            schema: SCHEMA.to_owned(),
            target,
            capture: CaptureInfo {
                mode: "init".to_owned(),
                mode_reason: None,
                started_at: self.started_at.to_string(),
                duration_ns: self.end_ns.saturating_sub(self.begin_ns),
                complete: whole && self.lost == 0,
                ended_by: ended_by.name().to_owned(),
                events: self.ended.len() as u64,
                lost_events: self.lost,
                lost_by_cause: Default::default(),
                sampling: None,
                attached_by: self.attached_by.map(str::to_owned),
                probe_hits: self.hits,
                probe_cost_ns: None,
                overhead_ratio: None,
                latency_floor_ns: None,
                concurrent_captures: 0,
                notes,
            },
            runnable_to_running: Hist::default(),
            by_origin: Default::default(),
            by_creation_site: Default::default(),
            by_wait_reason: Default::default(),
            full: None,
            slow: Vec::new(),
            slow_summary: None,
            init: Some(init::build(&self.ended, &self.times, self.begin_ns)),
            goroutines: None,
            scheduler: None,
            findings,
        }
    }

    /// Notes how the probes are held, and says on stderr that all is attached.
    pub fn attached(&mut self, program: &Program, sites: usize, by: Option<&'static str>) {
        self.attached_by = by;
        if self.form.chatter == Chatter::Normal {
            eprint!(
                "{}",
                layout::wrap(
                    &format!(
                        "attached: {} ({}), starts, {sites} probed instructions",
                        program.target.file.name(),
                        program.target.facts.version.raw
                    ),
                    0
                )
            );
        }
    }

    /// Puts the output file in its place.
    ///
    /// # Errors
    /// As [`Sink::finish`].
    pub fn finish(self) -> Result<()> {
        self.form.sink.finish()
    }
}

fn unwritable(e: serde_json::Error) -> Error {
    Error::failed(format!("the capture cannot be written as JSON: {e}"))
}
