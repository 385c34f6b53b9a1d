//! The JSON of a capture: `gmpscope.capture/1`.
//!
//! Additive changes keep the number. Times are integers of nanoseconds and their names end in `_ns`; wall-clock times
//! are RFC 3339; a part that a mode does not have is absent, never zero.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::document::by_name::ByName;
use crate::document::cause_estimate::CauseEstimate;
use crate::document::causes::{CauseTime, CulpritInfo};
use crate::document::full::Full;
use crate::document::gauges::{Goroutines, RuntimePauses, SchedulerGauges};
use crate::document::hist::Hist;
use crate::document::init::Init;
use crate::document::ongoing::Ongoing;
use crate::document::overhead::{OverheadMeasured, OverheadPredicted};
use crate::document::slow::{Slow, SlowSummary};
use crate::escape::Untrusted;
use crate::findings::{Finding, Undecided};
use crate::model::sched::Cause;
use crate::plan::Mode;
use crate::stream::plugin::{PluginSeen, PluginsSeen};
use crate::stream::step::{AttachedBy, Halted, MeasuredBy};
use crate::stream::{EndedBy, LossCause, Origin, TargetInfo};

/// Value of [`Capture::schema`].
pub const SCHEMA: &str = "gmpscope.capture/1";

/// One capture of one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capture {
    /// [`SCHEMA`].
    pub schema: String,
    /// What it says in at most four lines: how long goroutines waited to run, and why. See [`crate::document::answer`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answer: Vec<Untrusted>,
    /// What was traced.
    pub target: TargetInfo,
    /// How it was traced.
    pub capture: CaptureInfo,
    /// Every wait that was seen; absent where starts alone were traced.
    #[serde(default, skip_serializing_if = "Hist::is_absent")]
    pub runnable_to_running: Hist,
    /// Of them, all but voluntary yields (`runtime.Gosched`), which do not count as latency: `exact`, `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_yields: Option<Hist>,
    /// By how the goroutine became runnable: `exact`, `full`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_origin: BTreeMap<ByName<Origin>, Hist>,
    /// By function of the `go` statement: `sampled`, `full`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_creation_site: BTreeMap<Untrusted, Hist>,
    /// How long goroutines waited, by the runtime's name of the reason: `full`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_wait_reason: BTreeMap<Untrusted, Hist>,
    /// Why goroutines waited to run; only causes that were seen: `full`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_cause: BTreeMap<ByName<Cause>, CauseTime>,
    /// The same as samples of memory estimate it: `passive`, `sampled`, and the others where samples were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause_estimate: Option<CauseEstimate>,
    /// Who held the Ps while others waited, the longest first: `full`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub culprits: Vec<CulpritInfo>,
    /// Waits of at least `--slower`, the longest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slow: Vec<Slow>,
    /// All waits of at least `--slower`, including those that `slow` has no room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_summary: Option<SlowSummary>,
    /// What had begun and was not over at the end: it is in no histogram. Absent where nothing of it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ongoing: Option<Ongoing>,
    /// How the program started: `run`, `attach --next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
    /// Gauges of the runtime at the capture's end, from its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goroutines: Option<Goroutines>,
    /// Stop-the-world pauses within the capture, as the runtime itself counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pauses: Option<RuntimePauses>,
    /// The runtime's other gauges: run queues, Ps, Ms, GC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerGauges>,
    /// The scheduler, rebuilt from its transitions: `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<Full>,
    /// What stood out, with its evidence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// What could not be decided from what the mode sees, and the mode that would.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undecided: Vec<Undecided>,
}

impl Capture {
    /// Returns a capture that contains only what was traced and how; the caller adds what was seen.
    pub fn new(target: TargetInfo, capture: CaptureInfo) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            answer: Vec::new(),
            target,
            capture,
            runnable_to_running: Hist::default(),
            without_yields: None,
            by_origin: BTreeMap::new(),
            by_creation_site: BTreeMap::new(),
            by_wait_reason: BTreeMap::new(),
            by_cause: BTreeMap::new(),
            cause_estimate: None,
            culprits: Vec::new(),
            slow: Vec::new(),
            slow_summary: None,
            ongoing: None,
            init: None,
            goroutines: None,
            pauses: None,
            scheduler: None,
            full: None,
            findings: Vec::new(),
            undecided: Vec::new(),
        }
    }

    /// The waits that count as latency: without voluntary yields, where the mode can distinguish them.
    pub fn waits(&self) -> &Hist {
        self.without_yields.as_ref().unwrap_or(&self.runnable_to_running)
    }

    /// The time that goroutines waited for any cause but of their own will, those that still waited included: `full`.
    pub fn waited_ns(&self) -> u64 {
        let times = self
            .by_cause
            .iter()
            .filter(|(cause, _)| ***cause != Cause::Yielded);
        times.fold(0, |sum, (_, time)| sum.saturating_add(time.total_ns))
    }

    /// How many waits are not in [`Self::waits`].
    pub fn yields(&self) -> u64 {
        self.runnable_to_running.count.saturating_sub(self.waits().count)
    }

    /// Adds the plugins of the target. Each that was not probed all the time makes the capture incomplete.
    pub fn add_plugins(&mut self, plugins: PluginsSeen) {
        for plugin in plugins.found.iter().filter(|plugin| !plugin.is_whole()) {
            self.add_shortcoming(shortcoming(plugin));
        }
        if let Some(why) = &plugins.unknown {
            self.add_shortcoming(format!(
                "the program can load plugins, each with its own copy of the scheduler's functions, and it is not known \
                 whether it has: {}",
                why.raw()
            ));
        }
        self.capture.plugins = plugins.found;
    }

    /// Adds a note, and marks the capture as incomplete.
    pub fn add_shortcoming(&mut self, note: String) {
        self.capture.notes.push(note.into());
        self.capture.complete = false;
    }
}

/// Describes what is missing because of a plugin.
fn shortcoming(plugin: &PluginSeen) -> String {
    let path = plugin.path.raw();
    match (&plugin.problem, plugin.unseen_ns) {
        (Some(why), _) => format!(
            "the plugin {path} has its own copy of the scheduler's functions, which is not probed; waits that begin or \
             end in it are not seen: {}",
            why.raw()
        ),
        (None, unseen_ns) => format!(
            "the plugin {path} was loaded during the capture, and has its own copy of the scheduler's functions; waits \
             that began or ended in it before that was probed, which took at most {} ms, were not seen",
            unseen_ns.unwrap_or(0).div_ceil(1_000_000)
        ),
    }
}

/// What a capture contains: latencies in one of the modes, or starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureMode {
    /// See [`Mode::Passive`].
    Passive,
    /// See [`Mode::Sampled`].
    Sampled,
    /// See [`Mode::Exact`].
    Exact,
    /// See [`Mode::Full`].
    Full,
    /// Starts: `run`, `attach --next`.
    Init,
}

impl CaptureMode {
    /// Whether every wait is seen; the other modes see what the runtime chooses to measure.
    pub const fn sees_every_wait(self) -> bool {
        matches!(self, Self::Exact | Self::Full)
    }
}

impl From<Mode> for CaptureMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Passive => Self::Passive,
            Mode::Sampled => Self::Sampled,
            Mode::Exact => Self::Exact,
            Mode::Full => Self::Full,
        }
    }
}

impl fmt::Display for CaptureMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passive => Mode::Passive.name(),
            Self::Sampled => Mode::Sampled.name(),
            Self::Exact => Mode::Exact.name(),
            Self::Full => Mode::Full.name(),
            Self::Init => "init",
        })
    }
}

/// How it was captured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaptureInfo {
    /// What it contains.
    pub mode: CaptureMode,
    /// Why this mode, where `auto` chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode_reason: Option<Untrusted>,
    /// Wall-clock time of the window's begin, RFC 3339.
    pub started_at: jiff::Timestamp,
    /// Length of the window.
    pub duration_ns: u64,
    /// Whether nothing was lost, every copy of the scheduler's functions was probed all the time, what the model inferred
    /// is within its bound ([`ModelInfo::fits`](crate::document::full::ModelInfo::fits)), and the window was as long as
    /// was asked for.
    pub complete: bool,
    /// What ended the window.
    pub ended_by: EndedBy,
    /// Waits in all histograms.
    pub events: u64,
    /// Waits that are missing from the histograms.
    pub lost_events: u64,
    /// What was lost or not counted, by cause.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost_by_cause: BTreeMap<ByName<LossCause>, u64>,
    /// How the sample was chosen, in `sampled` and `passive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// How the kernel attached the probes; absent without probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_by: Option<AttachedBy>,
    /// Times that a probe of ours stopped a thread of the target.
    pub probe_hits: u64,
    /// Cost of one hit in the target on this machine: [low, high].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe_cost_ns: Option<[u64; 2]>,
    /// CPU time of the target ÷ what it would have been without this capture's probes: as it was measured, where that is
    /// more certain than what is predicted, otherwise the prediction's high end. Absent where neither is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead_ratio: Option<f64>,
    /// That ratio as the number of hits and their cost predict it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead_predicted: Option<OverheadPredicted>,
    /// That ratio as it was measured. Absent where there were fewer than 100 waits or five slices of time before or
    /// during the capture, where another capture was under way, and after `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead_measured: Option<OverheadMeasured>,
    /// The least time that the probes themselves add to each latency (`exact`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_floor_ns: Option<u64>,
    /// Other captures of gmpscope on the same target meanwhile: these figures contain their cost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub concurrent_captures: u64,
    /// Plugins that the target has loaded, each with its own copy of the scheduler's functions; absent where there is
    /// none, and in `passive`, which needs none of these functions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginSeen>,
    /// How often, and for how long, the target was found stopped by a signal, traced by a debugger, or frozen with its
    /// cgroup; absent where it was not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub halted: Vec<Halted>,
    /// Remarks for a reader of the figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Untrusted>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl CaptureInfo {
    /// Returns the description of a window in which nothing was seen yet.
    pub fn new(mode: CaptureMode, started_at: jiff::Timestamp, duration_ns: u64, ended_by: EndedBy) -> Self {
        Self {
            mode,
            mode_reason: None,
            started_at,
            duration_ns,
            complete: false,
            ended_by,
            events: 0,
            lost_events: 0,
            lost_by_cause: BTreeMap::new(),
            sampling: None,
            attached_by: None,
            probe_hits: 0,
            probe_cost_ns: None,
            overhead_ratio: None,
            overhead_predicted: None,
            overhead_measured: None,
            latency_floor_ns: None,
            concurrent_captures: 0,
            plugins: Vec::new(),
            halted: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// Who chooses the sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SampledBy {
    /// Go's own tracking of scheduling latencies.
    Runtime,
}

/// How the sample was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Who chose it.
    pub by: SampledBy,
    /// The nominal rate: one wait in this many.
    pub nominal: u32,
    /// Who measured the latencies: a probe of ours up to Go 1.25, and where optimisation by a profile has left no other
    /// place; absent where the capture ended before that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_by: Option<MeasuredBy>,
    /// Whether each wait had the same chance to be chosen. It had not: never scale a count by `nominal`.
    pub uniform: bool,
}
