//! The window of a capture of latencies.

use crate::document::{
    answer,
    build::{self, Parts},
    capture::{Capture, CaptureMode},
    interval::Interval,
};
use crate::escape::Untrusted;
use crate::latency::{Histogram, Latency};
use crate::model::{Model, sched::Sched};
use crate::plan::Mode;
use crate::process::limits::Limits;
use crate::stream::{
    BucketScheme, EndedBy, Observation, Symbolizer,
    cpu_use::CpuUse,
    plugin::PluginsSeen,
    step::{AttachInfo, Halted, LatencyBegin, LatencyStep, Opening},
};

/// What is known of a window by now.
pub struct LatencyTally {
    target: LatencyBegin,
    mode: Mode,
    mode_reason: Option<Untrusted>,
    started_at: jiff::Timestamp,
    begin_ns: u64,
    end_ns: u64,
    interval_from_ns: u64,
    latency: Latency,
    interval: Latency,
    /// Whether voluntary yields are distinguished from other waits.
    knows_yields: bool,
    model: Model,
    cpu_at_begin_ns: Option<u64>,
    cpu_ns: Option<u64>,
    concurrent_captures: u64,
    halted: Vec<Halted>,
    limits: Limits,
    notes: Vec<Untrusted>,
    attach: Option<AttachInfo>,
    plugins: PluginsSeen,
    cpu_use: CpuUse,
    ending: Option<(EndedBy, bool)>,
}

impl LatencyTally {
    /// Returns the tally of a window that is not open yet.
    pub fn new(target: LatencyBegin) -> Self {
        Self {
            target,
            mode: Mode::Passive,
            mode_reason: None,
            started_at: jiff::Timestamp::now(),
            begin_ns: 0,
            end_ns: 0,
            interval_from_ns: 0,
            latency: Latency::new(BucketScheme::Kernel),
            interval: Latency::new(BucketScheme::Kernel),
            knows_yields: false,
            model: Model::default(),
            cpu_at_begin_ns: None,
            cpu_ns: None,
            concurrent_captures: 0,
            halted: Vec::new(),
            limits: Limits::default(),
            notes: Vec::new(),
            attach: None,
            plugins: PluginsSeen::default(),
            cpu_use: CpuUse::default(),
            ending: None,
        }
    }

    /// Takes a step. An interval's end is only noted when it is asked for: see [`Self::interval`].
    pub fn step(&mut self, step: &LatencyStep) {
        match step {
            LatencyStep::Begin(target) => self.target = target.clone(),
            LatencyStep::FallBack { from, why, .. } => {
                self.mode_reason = Some(format!("{from} cannot be had: {}", why.raw()).into());
            }
            LatencyStep::Open(opening) => self.open(opening),
            LatencyStep::Hold(attach) => self.attach = Some(*attach),
            LatencyStep::Interval { .. } => {}
            LatencyStep::Note { note } => self.notes.push(note.clone()),
            LatencyStep::Plugins(plugins) => self.plugins = plugins.clone(),
            LatencyStep::CpuUse(used) => self.cpu_use = used.clone(),
            LatencyStep::Close {
                at_ns,
                cpu_ns,
                concurrent_captures,
                halted,
                limits,
            } => {
                self.end_ns = *at_ns;
                self.halted = halted.clone();
                self.limits = limits.clone();
                self.concurrent_captures = *concurrent_captures;
                self.cpu_ns = match (self.cpu_at_begin_ns, *cpu_ns) {
                    (Some(begin), Some(end)) => end.checked_sub(begin),
                    _ => None,
                };
            }
            LatencyStep::Finish { ended_by, whole } => self.ending = Some((*ended_by, *whole)),
        }
    }

    fn open(&mut self, opening: &Opening) {
        self.mode = opening.mode;
        let sees_origins = CaptureMode::from(opening.mode).sees_every_wait();
        self.knows_yields = sees_origins && !opening.preemption_unknown;
        self.latency = Latency::new(opening.scheme);
        self.interval = Latency::new(opening.scheme);
        if let Some(config) = opening.scheduler {
            self.model = Model::with_scheduler(config);
            self.model.open_window(opening.at_ns);
        }
        self.started_at = opening.started_at;
        let now_ns = opening.at_ns;
        (self.begin_ns, self.end_ns, self.interval_from_ns) = (now_ns, now_ns, now_ns);
        self.cpu_at_begin_ns = opening.cpu_ns;
    }

    /// Takes what was observed. Returns what follows from it: waits that the model saw in transitions.
    pub fn observe(&mut self, observations: &[Observation]) -> Vec<Observation> {
        for observation in observations {
            self.model.observe(observation);
        }
        let derived = self.model.take_derived();
        for observation in observations.iter().chain(&derived) {
            self.latency.observe(observation);
            self.interval.observe(observation);
        }
        derived
    }

    /// The window's begin, CLOCK_MONOTONIC; 0 while it is not open.
    pub fn begin_ns(&self) -> u64 {
        self.begin_ns
    }

    /// The waits so far that count as latency: without voluntary yields, where they are distinguished.
    pub fn waits(&self) -> Histogram {
        match self.knows_yields {
            true => self.latency.without_yields(),
            false => self.latency.total(),
        }
    }

    /// How many goroutines, Ps and threads it holds something of.
    pub fn known(&self) -> usize {
        self.model.scheduler().map_or(0, Sched::known)
    }

    /// Ends the interval that is open, and returns it.
    pub fn interval(&mut self, names: &dyn Symbolizer, now_ns: u64) -> Interval {
        let interval = Interval::of(
            &self.interval,
            self.knows_yields,
            names,
            self.begin_ns,
            self.interval_from_ns,
            now_ns,
        );
        self.interval = Latency::new(self.interval.scheme());
        self.interval_from_ns = now_ns;
        interval
    }

    /// Returns the interval between the last one's end and the window's: with it, all intervals together are the whole.
    pub fn last_interval(&mut self, names: &dyn Symbolizer) -> Option<Interval> {
        (self.end_ns > self.interval_from_ns).then(|| self.interval(names, self.end_ns))
    }

    /// Whether the last step has come.
    pub fn is_finished(&self) -> bool {
        self.ending.is_some()
    }

    /// Makes the document; `None` before the last step.
    pub fn capture(&mut self, names: &dyn Symbolizer) -> Option<Capture> {
        let (ended_by, whole) = self.ending?;
        let mut capture = build::build(Parts {
            target: self.target.target.clone(),
            mode: self.mode,
            mode_reason: self.mode_reason.clone(),
            started_at: self.started_at,
            begin_ns: self.begin_ns,
            end_ns: self.end_ns,
            ended_by,
            whole,
            latency: &self.latency,
            knows_yields: self.knows_yields,
            model: &self.model,
            symbolizer: names,
            attach: self.attach,
            target_cpu_ns: self.cpu_ns,
            cpu_use: &self.cpu_use,
            concurrent_captures: self.concurrent_captures,
            halted: std::mem::take(&mut self.halted),
            limits: std::mem::take(&mut self.limits),
            notes: std::mem::take(&mut self.notes),
        });
        capture.add_plugins(std::mem::take(&mut self.plugins));
        capture.capture.notes.append(&mut self.target.notes);
        answer::renew(&mut capture);
        Some(capture)
    }
}
