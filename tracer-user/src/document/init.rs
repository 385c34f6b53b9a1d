//! The part `init` of a capture: how a program started.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::{
    by_name::ByName,
    followed::{BinaryOf, TreeOf},
    hist::Hist,
};
use crate::escape::Untrusted;
use crate::{
    latency::start::PhaseTimes,
    model::start::{CallAt, Ended, Phase, Start, TimesFrom},
    stream::step::MergedPhase,
};

/// Most starts that are listed one by one.
const MOST_RUNS: usize = 1_000;
/// Most slow system calls that are listed, the longest.
const MOST_CALLS: usize = 100;

/// Starts of a program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Init {
    /// Starts that were seen from `execve` to `main.main`; of a library in a C program, to the end of its inits.
    pub runs: u64,
    /// Starts that ended before that, or had not ended when the capture did.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unfinished: u64,
    /// Starts that were held for their probes and continued without: nothing is known about them, and the capture is
    /// not complete.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
    /// Phases that cannot be distinguished in this binary, each with the one that its time is part of. With `--follow`
    /// they are in `binaries`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<MergedPhase>,
    /// The start that is described in full: the last one, or of several the one with the median time. Absent where none
    /// was seen.
    #[serde(default, skip_serializing_if = "Option::is_none", flatten)]
    pub run: Option<Run>,
    /// By phase, over all runs; absent where there was only one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub histograms: BTreeMap<Untrusted, Hist>,
    /// A summary of every start, the first thousand (with `--follow`: hundred thousand); absent where there was only
    /// one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<Short>,
    /// With `--follow`: by binary, the one with the most time in starts first. `histograms` is absent then, and the
    /// start that is described in full is the command's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binaries: Vec<BinaryOf>,
    /// With `--follow`: starts described in full: those that did not end, then the slowest of each binary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slowest: Vec<Run>,
    /// With `--follow`: the programs that were executed, and how many of them were not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<TreeOf>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// One start in full. Times count from its begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Process id.
    pub pid: u32,
    /// Path of its executable, with `--follow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<Untrusted>,
    /// The moment that is time 0.
    pub t0: ByName<TimesFrom>,
    /// Time 0 in nanoseconds of CLOCK_MONOTONIC.
    pub t0_ns: u64,
    /// With `--follow`: how long it was held within `execve` until its program was probed. Time 0 is that much later
    /// than the entry of `execve`, so that no duration contains it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held_ns: u64,
    /// What ended it.
    pub ended: ByName<Ended>,
    /// From begin to end.
    pub duration_ns: u64,
    /// The partition of the main thread's time, in order, without gap or overlap. `runtime_main` comes in
    /// pieces, between the packages' inits.
    pub phases: Vec<PhaseOf>,
    /// Parts of phases that have a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<SpanOf>,
    /// Single moments, on any thread.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<MarkOf>,
    /// Slow system calls, and each `connect`, the longest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallOf>,
}

/// A phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseOf {
    /// `exec`, `loader`, `rt0`, `osinit`, `schedinit`, `main_created`, `main_started`, `runtime_main`,
    /// `init:<package>`.
    pub name: Untrusted,
    /// Begin.
    pub start_ns: u64,
    /// Length.
    pub duration_ns: u64,
    /// Time that the main thread was off the CPU: asleep, or waiting for a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_cpu_ns: Option<u64>,
    /// The part of `off_cpu_ns` that it was asleep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asleep_ns: Option<u64>,
    /// Page faults without I/O.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor_faults: Option<u64>,
    /// Page faults with I/O.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major_faults: Option<u64>,
    /// Whether it was not over when the capture was: its length is then a lower bound.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ongoing: bool,
}

/// A span.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpanOf {
    /// `mallocinit`, `gcinit`, `procresize`.
    pub name: Untrusted,
    /// Begin.
    pub start_ns: u64,
    /// Length.
    pub duration_ns: u64,
}

/// A moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MarkOf {
    /// `sysmon`, `p_bound:<id>`, `first_gc`, `first_stw`, `first_goroutine`, `main.main`, `library_ready`.
    pub name: Untrusted,
    /// The moment.
    pub at_ns: u64,
}

/// A system call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallOf {
    /// Its name.
    pub name: Untrusted,
    /// The path or address that it works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Untrusted>,
    /// The phase that the main thread was in when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Untrusted>,
    /// Begin.
    pub start_ns: u64,
    /// Length, so far if it has not returned.
    pub duration_ns: u64,
    /// What it returned, a negated errno where it failed; absent if it has not returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<i64>,
    /// Whether it was the main thread's.
    pub main_thread: bool,
}

/// A summary of a start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Short {
    /// Process id.
    pub pid: u32,
    /// Path of its executable, with `--follow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<Untrusted>,
    /// When it began: nanoseconds since the capture's begin.
    pub at_ns: u64,
    /// When it began: nanoseconds of CLOCK_MONOTONIC.
    pub t0_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// See [`Run::held_ns`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held_ns: u64,
    /// What ended it.
    pub ended: ByName<Ended>,
    /// Its longest phase.
    pub longest: Untrusted,
    /// How long its longest phase took.
    pub longest_ns: u64,
}

/// Builds the part of a capture that describes its starts.
pub fn build(starts: &[Start], times: &PhaseTimes, begin_ns: u64) -> Init {
    let several = starts.len() > 1;
    Init {
        runs: starts.iter().filter(|start| start.ended.is_whole()).count() as u64,
        unfinished: starts.iter().filter(|start| !start.ended.is_whole()).count() as u64,
        run: shown(starts).map(run),
        histograms: if several {
            times
                .phases()
                .map(|(name, times)| (name.into(), Hist::of(times)))
                .collect()
        } else {
            BTreeMap::new()
        },
        starts: if several {
            starts
                .iter()
                .take(MOST_RUNS)
                .map(|start| short(start, begin_ns))
                .collect()
        } else {
            Vec::new()
        },
        ..Init::default()
    }
}

/// Returns the start that is described in full: one that did not end, otherwise the one with the median time.
pub fn shown(starts: &[Start]) -> Option<&Start> {
    if let Some(stuck) = starts.iter().rfind(|start| !start.ended.is_whole()) {
        return Some(stuck);
    }
    let mut sorted: Vec<&Start> = starts.iter().collect();
    sorted.sort_by_key(|start| start.duration_ns());
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// Summarises a start.
pub fn short(start: &Start, begin_ns: u64) -> Short {
    let longest = start.phases.iter().max_by_key(|phase| phase.duration_ns());
    Short {
        pid: start.pid,
        exe: None,
        at_ns: start.begin_ns().saturating_sub(begin_ns),
        t0_ns: start.begin_ns(),
        duration_ns: start.duration_ns(),
        held_ns: start.held_ns,
        ended: ByName(start.ended),
        longest: longest.map_or_else(Untrusted::default, |phase| phase.kind.name().into()),
        longest_ns: longest.map_or(0, Phase::duration_ns),
    }
}

/// Describes a start in full.
pub fn run(start: &Start) -> Run {
    let zero = start.begin_ns();
    let since = |at_ns: u64| at_ns.saturating_sub(zero);
    let mut calls: Vec<&CallAt> = start.calls.iter().collect();
    calls.sort_by_key(|call| std::cmp::Reverse(call.call.duration_ns));
    Run {
        pid: start.pid,
        exe: None,
        t0: ByName(start.zero),
        t0_ns: zero,
        held_ns: start.held_ns,
        ended: ByName(start.ended),
        duration_ns: start.duration_ns(),
        phases: (1..)
            .zip(&start.phases)
            .map(|(nth, phase)| PhaseOf {
                name: phase.kind.name().into(),
                start_ns: since(phase.begin_ns),
                duration_ns: phase.duration_ns(),
                off_cpu_ns: phase.usage.map(|usage| usage.off_cpu_ns()),
                asleep_ns: phase.usage.map(|usage| usage.asleep_ns),
                minor_faults: phase.usage.map(|usage| usage.minor_faults),
                major_faults: phase.usage.map(|usage| usage.major_faults),
                ongoing: start.ended == Ended::Unfinished && nth == start.phases.len(),
            })
            .collect(),
        spans: start
            .spans
            .iter()
            .map(|span| SpanOf {
                name: span.name.into(),
                start_ns: since(span.begin_ns),
                duration_ns: span.end_ns.saturating_sub(span.begin_ns),
            })
            .collect(),
        marks: start
            .marks
            .iter()
            .map(|(name, at_ns)| MarkOf {
                name: name.as_str().into(),
                at_ns: since(*at_ns),
            })
            .collect(),
        calls: calls
            .into_iter()
            .take(MOST_CALLS)
            .map(|call| call_of(start, call))
            .collect(),
    }
}

fn call_of(start: &Start, call: &CallAt) -> CallOf {
    let begin = call.end_ns.saturating_sub(call.call.duration_ns);
    CallOf {
        name: call.call.name.as_str().into(),
        on: call.call.on.as_deref().map(Untrusted::from),
        phase: start.phase_at(begin).map(|phase| phase.kind.name().into()),
        start_ns: begin.saturating_sub(start.begin_ns()),
        duration_ns: call.call.duration_ns,
        result: call.call.result,
        main_thread: call.call.main_thread,
    }
}
