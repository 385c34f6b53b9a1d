//! What is kept of starts while they are traced, and how it is printed.

use super::{followed::Followed, programs::Subject, surroundings::Surroundings};
use crate::{
    error::{Error, Result},
    findings::start::{self as findings, Evidence},
    latency::start::PhaseTimes,
    model::start::{Ended, Start, Starts},
    output::{
        capture::{Capture, CaptureInfo, Finding, Hist, SCHEMA},
        init, json,
        sink::{Flow, Sink},
        starts_interval::StartsInterval,
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
    /// Starts of a command's tree, which are kept here and not in `ended`, `times` and `interval`.
    followed: Option<Followed>,
}

impl Recording {
    /// Nothing seen yet; of a command's tree or of one program.
    pub fn new(form: Form, tree: bool) -> Self {
        Self {
            form,
            followed: tree.then(Followed::default),
            open: Starts::default(),
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

    /// The dynamic loader runs before the first instruction of this binary.
    pub fn loads(&mut self, binary: u32) {
        self.open.loads(binary);
    }

    /// Starts of a command's tree, if those are traced.
    pub fn followed(&mut self) -> Option<&mut Followed> {
        self.followed.as_mut()
    }

    /// Whether a start of this binary is on its way.
    pub fn runs(&self, binary: u32) -> bool {
        self.open.runs(binary)
    }

    /// Something that a reader should know.
    pub fn note(&mut self, note: String) {
        self.notes.push(note);
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
            if let Some(followed) = &mut self.followed {
                followed.add(start, self.begin_ns);
                continue;
            }
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
        self.form.sink.write(&text)
    }

    /// Writes the result; whether it is complete.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn print(
        &mut self,
        subject: Subject,
        around: &Surroundings,
        ended_by: EndedBy,
        whole: bool,
        now_ns: u64,
    ) -> Result<bool> {
        if self.form.by_interval {
            let _ = self.print_interval(now_ns)?;
        }
        self.end_ns = now_ns;
        let capture = self.capture(subject, around, ended_by, whole);
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
            init: self.init(),
            findings: self.findings(around),
        }
    }

    /// The output, to be written by somebody else.
    pub fn take_sink(&mut self) -> Sink {
        std::mem::replace(&mut self.form.sink, Sink::stderr())
    }

    fn init(&self) -> init::Init {
        match &self.followed {
            Some(followed) => followed.init(),
            None => init::build(&self.ended, &self.times, self.begin_ns),
        }
    }

    fn findings(&self, around: &Surroundings) -> Vec<Finding> {
        if let Some(followed) = &self.followed {
            return followed.findings(around);
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
            cgroup_cpu_limit: around.cgroup_cpu_limit,
            throttled: around.throttled,
            godebug: around.godebug.as_deref(),
        })
    }

    /// The start that the capture's head is about.
    fn shown(&self) -> Option<&Start> {
        match &self.followed {
            Some(followed) => followed.own(),
            None => init::shown(&self.ended),
        }
    }

    /// The binary that the command itself was seen to run.
    pub fn own_binary(&self) -> Option<u32> {
        self.shown().map(|start| start.binary)
    }

    fn capture(
        &mut self,
        subject: Subject,
        around: &Surroundings,
        ended_by: EndedBy,
        whole: bool,
    ) -> Capture {
        let findings = self.findings(around);
        let shown = self.shown();
        let mut target = subject.target;
        let command = self.followed.as_ref().and_then(Followed::first_command);
        target.pid = shown.map(|start| start.pid).or(command).unwrap_or(0);
        target.cgroup_cpu_limit = around.cgroup_cpu_limit;
        target.gomaxprocs = shown.and_then(|start| start.gomaxprocs);
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(subject.notes);
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
                complete: whole && self.lost == 0,
                ended_by: ended_by.name().to_owned(),
                events: followed.map_or(self.ended.len() as u64, Followed::ended),
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
            init: Some(self.init()),
            goroutines: None,
            scheduler: None,
            findings,
        }
    }

    /// Notes how the probes are held.
    pub fn attached_by(&mut self, by: Option<&'static str>) {
        self.attached_by = self.attached_by.or(by);
    }

    /// Says on stderr that all is attached.
    pub fn say_attached(&self, what: &str) {
        if self.form.chatter == Chatter::Normal {
            eprint!("{}", layout::wrap(&format!("attached: {what}"), 0));
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
