//! The steps of a capture: what happens to it besides observations, in plain types. Steps and observations together
//! are all that a result is made of, so that a live capture and a recording of it enter at the same door: see
//! [`Consumer`](super::Consumer).
//!
//! Recordings hold steps as JSON: what a later version adds must have a default, and a name that is changed here keeps
//! its old one there.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{BucketScheme, TargetInfo, cpu_use::CpuUse, plugin::PluginsSeen};
use crate::{
    escape::Untrusted,
    plan::Mode,
    process::{Halt, limits::Limits},
};

/// Number of the binary in marks where a single program is traced.
pub const ONLY_BINARY: u32 = 0;

/// A step of a capture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A capture of latencies of a running process: [`LatencyStep::Begin`] comes first, [`LatencyStep::Finish`] last.
    Latencies(LatencyStep),
    /// A capture of starts: [`StartStep::Begin`] comes first, [`StartStep::Finish`] or [`StartStep::Continue`] last.
    Starts(StartStep),
}

impl Step {
    /// The JSON that recordings hold.
    pub fn to_json(&self) -> Vec<u8> {
        // No part of a step can fail to be written: there is no map with keys other than strings.
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
        /// The mode that was not possible.
        from: Mode,
        /// The mode that is used instead.
        to: Mode,
        /// Why `from` was not possible.
        why: Untrusted,
    },
    /// The window opens.
    Open(Opening),
    /// How the probes are attached, and what a hit costs.
    Hold(AttachInfo),
    /// An interval of `--interval` ends.
    Interval {
        /// Its end.
        at_ns: u64,
    },
    /// A remark for whoever reads the figures.
    Note {
        /// The remark, a sentence.
        note: Untrusted,
    },
    /// The plugins of the target, with their copies of the scheduler's functions; only if there is something to say.
    Plugins(PluginsSeen),
    /// CPU time of the target per wait, without probes and with them; only if there were any.
    CpuUse(CpuUse),
    /// The window closes.
    Close {
        /// The window's end.
        at_ns: u64,
        /// CPU time of the target since it began, where it is still known.
        #[serde(default)]
        cpu_ns: Option<u64>,
        /// Other captures of the same target during the window.
        #[serde(default)]
        concurrent_captures: u64,
        /// How often the target was found stopped, traced or frozen.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        halted: Vec<Halted>,
        /// Limits and settings of the target, as they were read last.
        #[serde(default, skip_serializing_if = "Limits::is_empty")]
        limits: Limits,
    },
    /// The capture is made; nothing is observed any more.
    Finish {
        /// What ended it.
        ended_by: EndedBy,
        /// Whether the window was as long as was asked for.
        whole: bool,
    },
}

/// The target of a capture of latencies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyBegin {
    /// Version of the gmpscope that captures.
    pub version: String,
    /// What is known of the target.
    pub target: TargetInfo,
    /// Remarks about the target for whoever reads the figures.
    #[serde(default)]
    pub notes: Vec<Untrusted>,
    /// `--interval`, in nanoseconds.
    #[serde(default)]
    pub interval_ns: Option<u64>,
}

/// The begin of the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// Its time.
    pub at_ns: u64,
    /// The same moment by the wall clock; RFC 3339 in JSON.
    pub started_at: jiff::Timestamp,
    /// The mode of the capture.
    pub mode: Mode,
    /// Buckets of its histograms.
    pub scheme: BucketScheme,
    /// CPU time of the target since it began, where known.
    #[serde(default)]
    pub cpu_ns: Option<u64>,
    /// `full`: what the model of the scheduler must know; `None` in the other modes.
    #[serde(default)]
    pub scheduler: Option<SchedConfig>,
    /// `exact`: whether `g.preempt` is not known, so that preempted goroutines count as yielded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preemption_unknown: bool,
}

/// How often, and for how long, a target did not run at all, as seen at regular readings of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halted {
    /// Why it did not run.
    pub state: Halt,
    /// Whether that was so when the window opened.
    #[serde(default)]
    pub at_begin: bool,
    /// How many times it was seen to become so, or to be so at the begin.
    pub times: u64,
    /// How long it was so at least: the time between readings that both found it so.
    pub at_least_ns: u64,
}

/// What the model of the scheduler must know of a capture in mode `full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedConfig {
    /// Minor version of Go: 27 for Go 1.27.3.
    pub minor: u32,
    /// Whether every system call is reported, not only those that cost the goroutine its P.
    #[serde(default)]
    pub syscalls: bool,
    /// Waits Runnable→Running of at least this length are reported one by one, in nanoseconds.
    #[serde(default)]
    pub slower_ns: Option<u64>,
    /// Whether the end of each GC assist is reported. Without that, an assist that has begun has no known length.
    #[serde(default)]
    pub assists: bool,
}

/// How probes are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttachInfo {
    /// How the kernel holds them; `None` without probes.
    #[serde(default)]
    pub attached_by: Option<AttachedBy>,
    /// Who measures the latencies.
    pub measured_by: MeasuredBy,
    /// Cost of a hit in nanoseconds, [low, high], where it was measured.
    #[serde(default)]
    pub hit_ns: Option<[u64; 2]>,
    /// The smallest latency that can be seen, in nanoseconds.
    #[serde(default)]
    pub latency_floor_ns: Option<u64>,
}

/// How the kernel holds probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachedBy {
    /// All in one `uprobe_multi` link.
    UprobeMulti,
    /// A perf event for each instruction, which is slow to remove.
    PerfEvents,
}

impl fmt::Display for AttachedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::UprobeMulti => "uprobe_multi",
            Self::PerfEvents => "perf_events",
        })
    }
}

/// Who measures latencies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasuredBy {
    /// The Go runtime.
    #[default]
    Runtime,
    /// A probe of ours.
    Probe,
}

/// What ended a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// It was as long as was asked for.
    Duration,
    /// A signal to gmpscope.
    Signal,
    /// The target ended.
    TargetExit,
    /// The target executed another program.
    TargetExec,
    /// A source failed.
    SourceFailed,
    /// The probes cost too much, and there was no cheaper mode to step down to.
    Budget,
    /// Nobody read the output any more.
    ReaderGone,
    /// All starts that were asked for were seen.
    Starts,
    /// The recording ends in the middle of its capture.
    RecordingCut,
}

impl EndedBy {
    /// Whether the target's memory can still be read.
    pub const fn target_is_there(self) -> bool {
        !matches!(self, Self::TargetExit | Self::TargetExec)
    }
}

/// A step of a capture of starts. All times are of CLOCK_MONOTONIC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartStep {
    /// What will be traced.
    Begin(StartBegin),
    /// The probes are attached.
    Attached {
        /// How the kernel holds them; `None` without probes.
        by: Option<AttachedBy>,
    },
    /// The window opens.
    Open {
        /// Its time.
        at_ns: u64,
        /// The same moment by the wall clock; RFC 3339 in JSON.
        started_at: jiff::Timestamp,
    },
    /// This process is the command.
    Command {
        /// Its process id.
        pid: u32,
    },
    /// A program of the command's tree, before it starts.
    Binary {
        /// Its number in marks.
        number: u32,
        /// What is known of it.
        info: TargetInfo,
        /// Whether the dynamic loader runs before its own first instruction.
        dynamic: bool,
        /// See [`StartBegin::merged`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        merged: Vec<MergedPhase>,
    },
    /// Processes of the command's tree were still there when it had ended.
    Outlived {
        /// Their number.
        processes: u64,
    },
    /// Counts of the gate at which programs wait for their probes.
    Gate {
        /// File systems whose programs wait at it.
        watched_file_systems: u64,
        /// File systems whose programs do not.
        not_watched: Vec<Untrusted>,
        /// Programs that unrelated processes executed meanwhile.
        execs_of_others: u64,
        /// Programs, whoever executed them, that were let through unprobed because gmpscope did not run.
        #[serde(rename = "let_go", default)]
        released_unprobed: u64,
    },
    /// Starts that were held and continued without their probes.
    Missed {
        /// Their number.
        starts: u64,
    },
    /// Limits and settings that starts depend on, as far as they are known by now.
    #[serde(rename = "around")]
    Environment(Environment),
    /// Starts that have not reached `main.main` end here.
    Cut {
        /// The time.
        at_ns: u64,
    },
    /// An interval of `--interval` ends.
    Interval {
        /// Its end.
        at_ns: u64,
    },
    /// A remark for whoever reads the figures.
    Note {
        /// The remark, a sentence.
        note: Untrusted,
    },
    /// The capture continues with the latencies of the process that has reached `main.main`; the start is reported with
    /// them.
    #[serde(rename = "go_on")]
    Continue,
    /// The capture is made; nothing is observed any more.
    Finish {
        /// The window's end.
        at_ns: u64,
        /// What ended it.
        ended_by: EndedBy,
        /// Whether all starts that were asked for were seen.
        whole: bool,
    },
}

/// The program whose starts are captured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartBegin {
    /// Version of the gmpscope that captures.
    pub version: String,
    /// What is known of the program; no process of it exists yet.
    pub target: TargetInfo,
    /// Whether the starts are those of a command and of all its descendants, whatever programs they run.
    #[serde(default)]
    pub tree: bool,
    /// Whether the dynamic loader runs before the program's own first instruction.
    pub dynamic: bool,
    /// Whether there may be more than one start.
    pub several: bool,
    /// Whether the latencies of the process are captured afterwards.
    #[serde(default, rename = "goes_on")]
    pub latencies_follow: bool,
    /// Moments that cannot be seen in this program, and why.
    #[serde(default)]
    pub missing: Vec<Untrusted>,
    /// Phases that cannot be distinguished in this program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<MergedPhase>,
    /// `--interval`, in nanoseconds.
    #[serde(default)]
    pub interval_ns: Option<u64>,
}

/// A phase whose begin was not found in a program: its time is part of the phase before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergedPhase {
    /// The phase; `init:*` for the inits of all packages.
    pub phase: Untrusted,
    /// The phase that its time is part of.
    pub into: Untrusted,
    /// Why its begin was not found.
    pub why: Untrusted,
}

/// Limits and settings that starts depend on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// CPUs that the cgroup may use.
    #[serde(default)]
    pub cgroup_cpu_limit: Option<f64>,
    /// How often the cgroup was throttled during the capture, and for how many nanoseconds.
    #[serde(default)]
    pub throttled: Option<(u64, u64)>,
    /// `GODEBUG` of the traced process.
    #[serde(default)]
    pub godebug: Option<String>,
}
