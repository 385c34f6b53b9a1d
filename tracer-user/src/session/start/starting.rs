//! What is kept of starts while they are traced, and how it is printed. As [`crate::session::attach::capturing::Capturing`]
//! it is told observations and steps alone, live or from a recording.

use super::{followed::Followed, programs::ONLY};
use crate::{
    document::{
        capture::{Capture, CaptureInfo, Finding, Hist, SCHEMA, TargetInfo},
        init,
    },
    error::{Error, Result},
    escape::Untrusted,
    findings::start::{self as findings, Evidence},
    latency::start::PhaseTimes,
    model::start::{Ended, Start, Starts},
    output::{
        json,
        sink::{Flow, Sink},
        starts_interval::StartsInterval,
        text::{self, Style},
    },
    session::{
        EndedBy,
        attach::capturing::{Began, note_of_dropped},
        options::Format,
        step::{Around, StartBegin, StartStep},
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
    /// Lines come by the clock, not by the start.
    pub by_interval: bool,
}

/// Starts, and what was told of them.
pub struct Starting {
    form: Form,
    program: StartBegin,
    around: Around,
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
    attached_by: Option<String>,
    lost: u64,
    /// Starts that went on without their probes. Of a tree they are among those that were not seen.
    missed: u64,
    notes: Vec<Untrusted>,
    /// Starts of a command's tree, which are kept here and not in `ended`, `times` and `interval`.
    followed: Option<Followed>,
    complete: Option<bool>,
}

impl Starting {
    /// Nothing seen yet.
    pub fn new(form: Form, program: StartBegin) -> Self {
        let mut open = Starts::default();
        if program.dynamic {
            open.set_dynamic(ONLY);
        }
        Self {
            form,
            followed: program.tree.then(Followed::default),
            program,
            around: Around::default(),
            open,
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
            missed: 0,
            notes: Vec::new(),
            complete: None,
        }
    }

    /// Takes in a step. The last one prints the result.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn step(&mut self, step: StartStep) -> Result<Flow> {
        match step {
            StartStep::Begin(program) => self.program = program,
            StartStep::Attached { by } => self.attached_by = self.attached_by.take().or(by),
            StartStep::Open { at_ns, started_at } => self.open(at_ns, started_at),
            StartStep::Around(around) => self.around = around,
            StartStep::Cut { at_ns } => return self.cut(at_ns),
            StartStep::Interval { at_ns } if self.form.by_interval => return self.print_interval(at_ns),
            StartStep::Interval { .. } | StartStep::GoOn => {}
            StartStep::Note { note } => self.notes.push(note),
            StartStep::Missed { starts } => self.missed = starts,
            StartStep::Command { .. }
            | StartStep::Binary { .. }
            | StartStep::Outlived { .. }
            | StartStep::Gate { .. } => self.tree_step(step),
            StartStep::Finish {
                at_ns,
                ended_by,
                whole,
            } => return self.print(ended_by, whole, at_ns),
        }
        Ok(Flow::Written)
    }

    /// What only a tree has.
    fn tree_step(&mut self, step: StartStep) {
        let Some(followed) = &mut self.followed else {
            return;
        };
        match step {
            StartStep::Command { pid } => followed.command(pid),
            StartStep::Binary {
                number,
                info,
                dynamic,
            } => {
                if dynamic {
                    self.open.set_dynamic(number);
                }
                followed.know(number, info);
            }
            StartStep::Outlived { processes } => {
                followed.tree.outlived = followed.tree.outlived.saturating_add(processes);
            }
            StartStep::Gate {
                watched_file_systems,
                not_watched,
                execs_of_others,
                let_go,
            } => {
                followed.tree.watched_file_systems = watched_file_systems;
                followed.tree.not_watched = not_watched;
                followed.tree.execs_of_others = execs_of_others;
                followed.tree.let_go = let_go;
            }
            _ => {}
        }
    }

    /// The window begins, unless it has.
    fn open(&mut self, now_ns: u64, started_at: jiff::Timestamp) {
        if self.begin_ns == 0 {
            self.started_at = started_at;
            (self.begin_ns, self.interval_from_ns) = (now_ns, now_ns);
        }
    }

    /// Whether a start of this binary is on its way.
    pub fn runs(&self, binary: u32) -> bool {
        self.open.has_open(binary)
    }

    /// Takes in what was seen; (process, binary) of the starts that have ended by it.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn observe(&mut self, seen: &[Observation]) -> Result<(Vec<(u32, u32)>, Flow)> {
        let mut ended = Vec::new();
        for observation in seen {
            if let Some(followed) = &mut self.followed {
                followed.executed(observation);
            }
            match &observation.kind {
                Kind::Hits(hits) => self.hits = self.hits.saturating_add(*hits),
                Kind::Loss(loss) => self.lost = self.lost.saturating_add(loss.count),
                _ => ended.extend(self.open.observe(observation)),
            }
        }
        let pids = ended.iter().map(|start| (start.pid, start.binary)).collect();
        let flow = self.take(ended)?;
        Ok((pids, flow))
    }

    /// Processes that are on their way.
    pub fn on_their_way(&self) -> Vec<u32> {
        self.open.open()
    }

    /// Ends the starts that are open.
    fn cut(&mut self, now_ns: u64) -> Result<Flow> {
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
            if let Some(followed) = &mut self.followed {
                followed.add(start, self.begin_ns);
                continue;
            }
            self.times.add(&start);
            self.interval.add(&start);
            if self.program.several && !self.form.by_interval && self.form.format == Format::Text {
                if self.lines == 0 {
                    lines.push_str(&text::init::short_header());
                }
                self.lines += 1;
                lines.push_str(&text::init::short_line(&init::short(&start, self.begin_ns)));
            }
            if self.ended.len() < MOST_KEPT {
                self.ended.push(start);
            }
        }
        if lines.is_empty() {
            return Ok(Flow::Written);
        }
        self.form.sink.line(&lines)
    }

    /// Prints what came in the interval that ends now.
    fn print_interval(&mut self, now_ns: u64) -> Result<Flow> {
        let (begin_ns, from_ns) = (self.begin_ns, self.interval_from_ns);
        let line = match &mut self.followed {
            Some(followed) => followed.interval(begin_ns, from_ns, now_ns),
            None => StartsInterval::of(&std::mem::take(&mut self.interval), begin_ns, from_ns, now_ns),
        };
        self.interval_from_ns = now_ns;
        let followed = self.followed.is_some();
        let text = match self.form.format {
            Format::Json => json::line(&line).map_err(unwritable)?,
            Format::Text if self.lines == 0 => StartsInterval::header(followed) + &line.lines(),
            Format::Text => line.lines(),
        };
        self.lines += 1;
        self.form.sink.line(&text)
    }

    /// Writes the result.
    fn print(&mut self, ended_by: EndedBy, whole: bool, now_ns: u64) -> Result<Flow> {
        if self.form.by_interval {
            let _ = self.print_interval(now_ns)?;
        }
        self.end_ns = now_ns;
        let mut capture = self.capture(ended_by, whole);
        if let Some(note) = note_of_dropped(&self.form.sink) {
            log::warn!("{note}");
            capture.capture.notes.push(note.into());
            capture.capture.complete = false;
        }
        let text = match self.form.format {
            Format::Json => json::line(&capture).map_err(unwritable)?,
            Format::Text => {
                let colour = text::wants_colour(self.form.sink.is_terminal());
                text::render(&capture, Style { by: None, colour })
            }
        };
        self.complete = Some(capture.capture.complete);
        // A reader who has closed the pipe has what he wanted.
        let _ = self.form.sink.result(&text)?;
        Ok(Flow::Written)
    }

    /// Whether the result is complete, once it is written.
    pub fn complete(&self) -> Option<bool> {
        self.complete
    }

    /// The same, to be told with what comes behind `main.main`.
    pub fn began(&self) -> Began {
        Began {
            init: self.init(),
            findings: self.findings(),
        }
    }

    /// The output, to be written by somebody else.
    pub fn take_sink(&mut self) -> Sink {
        self.give_sink(Sink::stderr())
    }

    /// Writes to this output from now on; the one before.
    pub fn give_sink(&mut self, sink: Sink) -> Sink {
        std::mem::replace(&mut self.form.sink, sink)
    }

    /// Whether anybody still reads what is printed.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn flow(&self) -> Result<Flow> {
        self.form.sink.flow()
    }

    /// Whether something was dropped because nobody read it in time.
    pub fn has_dropped(&self) -> bool {
        self.form.sink.dropped() > 0
    }

    fn init(&self) -> init::Init {
        let init = match &self.followed {
            Some(followed) => followed.init(),
            None => init::build(&self.ended, &self.times, self.begin_ns),
        };
        init::Init {
            missed: self.missed,
            ..init
        }
    }

    fn findings(&self) -> Vec<Finding> {
        if let Some(followed) = &self.followed {
            return followed.findings(&self.around);
        }
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
            cgroup_cpu_limit: self.around.cgroup_cpu_limit,
            throttled: self.around.throttled,
            godebug: self.around.godebug.as_deref(),
        })
    }

    /// The start that the capture's head is about.
    fn shown(&self) -> Option<&Start> {
        match &self.followed {
            Some(followed) => followed.own(),
            None => init::shown(&self.ended),
        }
    }

    /// The program that the capture is about: of a tree what the command itself was seen to run.
    fn subject(&self) -> TargetInfo {
        let own = self
            .followed
            .as_ref()
            .and_then(|followed| followed.info(followed.own()?.binary));
        own.unwrap_or(&self.program.target).clone()
    }

    fn capture(&mut self, ended_by: EndedBy, whole: bool) -> Capture {
        let findings = self.findings();
        let mut notes = std::mem::take(&mut self.notes);
        notes.append(&mut self.program.missing);
        let shown = self.shown();
        let mut target = self.subject();
        let command = self.followed.as_ref().and_then(Followed::first_command);
        target.pid = shown.map(|start| start.pid).or(command).unwrap_or(0);
        target.cgroup_cpu_limit = self.around.cgroup_cpu_limit;
        target.gomaxprocs = shown.and_then(|start| start.gomaxprocs);
        let followed = self.followed.as_ref();
        let whole = whole && followed.is_none_or(Followed::is_complete);
        Capture {
            schema: SCHEMA.to_owned(),
            target,
            capture: CaptureInfo {
                mode: "init".to_owned(),
                mode_reason: None,
                started_at: self.started_at.to_string(),
                duration_ns: self.end_ns.saturating_sub(self.begin_ns),
                complete: whole && self.lost == 0 && self.missed == 0,
                ended_by: ended_by.name().to_owned(),
                events: followed.map_or(self.ended.len() as u64, Followed::ended),
                lost_events: self.lost,
                lost_by_cause: Default::default(),
                sampling: None,
                attached_by: self.attached_by.clone(),
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
            init: Some(self.init()),
            goroutines: None,
            scheduler: None,
            findings,
        }
    }

    /// The output, to be ended.
    pub fn into_sink(self) -> Sink {
        self.form.sink
    }
}

fn unwritable(e: serde_json::Error) -> Error {
    Error::failed(format!("the capture cannot be written as JSON: {e}"))
}
