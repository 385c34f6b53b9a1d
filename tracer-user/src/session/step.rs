//! What happens to a capture besides observations, in plain types: with them the whole of what a result is made of.
//!
//! A live capture and a recording enter at the same door: both are a sequence of steps and observations, and
//! [`super::attach::capturing::Capturing`] and [`super::start::Starting`] make the result of them, whoever brings them.

use serde::{Deserialize, Serialize};

use super::EndedBy;
use crate::{
    document::capture::TargetInfo, escape::Untrusted, model::sched::SchedConfig, plan::Mode,
    stream::BucketScheme,
};

/// A step of a capture. In recordings they are JSON: what a later version adds must have a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Latencies of a process that runs: first comes [`LatencyStep::Begin`], last [`LatencyStep::Finish`].
    Latencies(LatencyStep),
    /// Starts: first comes [`StartStep::Begin`], last [`StartStep::Finish`] or [`StartStep::GoOn`].
    Starts(StartStep),
}

impl Step {
    /// As recordings have it.
    pub fn to_json(&self) -> Vec<u8> {
        // Nothing in it can fail to be written: no map, and memory that grows.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A step of a capture of latencies. All times are of CLOCK_MONOTONIC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatencyStep {
    /// What will be traced.
    Begin(LatencyBegin),
    /// A cheaper mode takes over.
    FallBack {
        /// What could not be had.
        from: Mode,
        /// What comes in its place.
        to: Mode,
        /// Why.
        why: Untrusted,
    },
    /// The window opens.
    Open(Opening),
    /// How the probes are held, and what they cost.
    Hold(Holding),
    /// An interval is over.
    Interval {
        /// When.
        at_ns: u64,
    },
    /// Something that a reader of the figures should know.
    Note {
        /// It.
        note: Untrusted,
    },
    /// The window closes.
    Close {
        /// When.
        at_ns: u64,
        /// CPU time of the target so far, where it is still known.
        #[serde(default)]
        cpu_ns: Option<u64>,
        /// Other captures of the same target meanwhile.
        #[serde(default)]
        concurrent_captures: u64,
    },
    /// All is captured.
    Finish {
        /// What ended it.
        ended_by: EndedBy,
        /// Whether the window was all that was asked for.
        whole: bool,
    },
}

/// The target of a capture of latencies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyBegin {
    /// The gmpscope that captures.
    pub version: String,
    /// What is known of the target.
    pub target: TargetInfo,
    /// What a reader of the figures should know of it.
    #[serde(default)]
    pub notes: Vec<Untrusted>,
    /// `--interval`, in nanoseconds.
    #[serde(default)]
    pub interval_ns: Option<u64>,
}

/// The begin of the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// When.
    pub at_ns: u64,
    /// The same by the clock on the wall, RFC 3339.
    pub started_at: jiff::Timestamp,
    /// In which mode.
    pub mode: Mode,
    /// How its histograms count.
    pub scheme: BucketScheme,
    /// CPU time of the target so far, where known.
    #[serde(default)]
    pub cpu_ns: Option<u64>,
    /// `full`: what the model of the scheduler must know; `None` in the other modes.
    #[serde(default)]
    pub scheduler: Option<SchedConfig>,
}

/// How probes are held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Holding {
    /// In the words of the JSON; `None` without probes.
    #[serde(default)]
    pub attached_by: Option<String>,
    /// Who measures the latencies, in the words of the JSON.
    pub measured_by: String,
    /// What a hit costs, (low, high), where it was measured.
    #[serde(default)]
    pub hit_ns: Option<[u64; 2]>,
    /// The smallest latency that can be seen.
    #[serde(default)]
    pub latency_floor_ns: Option<u64>,
}

/// A step of a capture of starts. All times are of CLOCK_MONOTONIC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartStep {
    /// What will be traced.
    Begin(StartBegin),
    /// The probes are there.
    Attached {
        /// How they are held, in the words of the JSON.
        by: Option<String>,
    },
    /// The window opens.
    Open {
        /// When.
        at_ns: u64,
        /// The same by the clock on the wall, RFC 3339.
        started_at: jiff::Timestamp,
    },
    /// This process is the command.
    Command {
        /// Its id.
        pid: u32,
    },
    /// A program of the command's tree, before it starts.
    Binary {
        /// How marks name it.
        number: u32,
        /// What is known of it.
        info: TargetInfo,
        /// Whether the dynamic loader runs before its own first instruction.
        dynamic: bool,
    },
    /// Processes of the command's tree were left when it had ended.
    Outlived {
        /// How many.
        processes: u64,
    },
    /// What has passed the gate at which programs wait for their probes.
    Gate {
        /// File systems whose programs wait.
        watched_file_systems: u64,
        /// Those whose programs do not.
        not_watched: Vec<Untrusted>,
        /// Programs that others executed meanwhile.
        execs_of_others: u64,
        /// Programs, whoever executed them, that went on unasked since gmpscope did not move.
        #[serde(default)]
        let_go: u64,
    },
    /// Starts that were held and went on without their probes.
    Missed {
        /// How many.
        starts: u64,
    },
    /// What is around the starts, as far as it is known by now.
    Around(Around),
    /// Starts that are open end here.
    Cut {
        /// When.
        at_ns: u64,
    },
    /// An interval is over.
    Interval {
        /// When.
        at_ns: u64,
    },
    /// Something that a reader should know.
    Note {
        /// It.
        note: Untrusted,
    },
    /// The start is told with the latencies behind it, which begin now.
    GoOn,
    /// All is captured.
    Finish {
        /// When.
        at_ns: u64,
        /// What ended it.
        ended_by: EndedBy,
        /// Whether all that was asked for was seen.
        whole: bool,
    },
}

/// The program whose starts are captured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartBegin {
    /// The gmpscope that captures.
    pub version: String,
    /// What is known of the program, of no process yet.
    pub target: TargetInfo,
    /// Whether the starts are those of a command and of all that descends from it, whatever they are.
    #[serde(default)]
    pub tree: bool,
    /// Whether the dynamic loader runs before the program's own first instruction.
    pub dynamic: bool,
    /// Whether more than one start may come.
    pub several: bool,
    /// Whether latencies are to follow.
    #[serde(default)]
    pub goes_on: bool,
    /// What cannot be told apart in it, and why.
    #[serde(default)]
    pub missing: Vec<Untrusted>,
    /// `--interval`, in nanoseconds.
    #[serde(default)]
    pub interval_ns: Option<u64>,
}

/// What is around starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Around {
    /// CPUs that the cgroup may use.
    #[serde(default)]
    pub cgroup_cpu_limit: Option<f64>,
    /// How often the cgroup was throttled meanwhile, and for how long in nanoseconds.
    #[serde(default)]
    pub throttled: Option<(u64, u64)>,
    /// `GODEBUG` of the traced process.
    #[serde(default)]
    pub godebug: Option<String>,
}
