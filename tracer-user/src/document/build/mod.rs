//! Builds a [`Capture`] of latencies from what was observed.

use crate::document::answer;
use crate::document::blocked::Lost;
use crate::document::by_name::ByName;
use crate::document::capture::{Capture, CaptureInfo, CaptureMode, SampledBy, Sampling};
use crate::document::cause_estimate::CauseEstimate;
use crate::document::causes;
use crate::document::full::{self, Full, ModelInfo};
use crate::document::gauges::{Goroutines, RuntimePauses, SchedulerGauges};
use crate::document::hist::Hist;
use crate::document::named::Named;
use crate::document::ongoing::Ongoing;
use crate::document::overhead::{OverheadMeasured, OverheadPredicted};
use crate::document::slow::SlowSummary;
use crate::escape::Untrusted;
use crate::findings::{self, Evidence};
use crate::latency::Latency;
use crate::model::Model;
use crate::plan::Mode;
use crate::process::limits::Limits;
use crate::stream::cpu_use::CpuUse;
use crate::stream::step::{AttachInfo, Halted};
use crate::stream::{EndedBy, LossCause, Symbolizer, TargetInfo};

/// Everything that a capture of latencies is built from.
pub struct Parts<'a> {
    /// What was traced. `gomaxprocs`, where absent, is taken from the last snapshot.
    pub target: TargetInfo,
    /// The mode that was used.
    pub mode: Mode,
    /// Why this mode, where `auto` chose.
    pub mode_reason: Option<Untrusted>,
    /// Wall-clock time of the window's begin.
    pub started_at: jiff::Timestamp,
    /// The window's begin, CLOCK_MONOTONIC.
    pub begin_ns: u64,
    /// The window's end, CLOCK_MONOTONIC.
    pub end_ns: u64,
    /// Why it ended there.
    pub ended_by: EndedBy,
    /// Whether the window was as long as was asked for.
    pub whole: bool,
    /// The latencies of the window.
    pub latency: &'a Latency,
    /// Whether voluntary yields are distinguished from other waits.
    pub knows_yields: bool,
    /// The gauges.
    pub model: &'a Model,
    /// Names of creation sites.
    pub symbolizer: &'a dyn Symbolizer,
    /// How the probes were attached and who measured, where that is known.
    pub attach: Option<AttachInfo>,
    /// CPU time of the target in the window, where known.
    pub target_cpu_ns: Option<u64>,
    /// CPU time per tracked wait, without probes and with them.
    pub cpu_use: &'a CpuUse,
    /// Other captures of ours on the same target during the window.
    pub concurrent_captures: u64,
    /// How often the target was found stopped, traced or frozen.
    pub halted: Vec<Halted>,
    /// Limits and settings of the target.
    pub limits: Limits,
    /// Remarks for whoever reads the figures.
    pub notes: Vec<Untrusted>,
}

/// Builds the capture, with its findings and its answer.
pub fn build(parts: Parts) -> Capture {
    let latency = parts.latency;
    let total = latency.total();
    let mut target = parts.target;
    target.gomaxprocs = target.gomaxprocs.or_else(|| parts.model.last()?.gomaxprocs);
    let named = Named {
        symbolizer: parts.symbolizer,
        begin_ns: parts.begin_ns,
    };
    let report = parts.model.scheduler().map(|sched| sched.report(parts.end_ns));
    let ongoing = parts.model.ongoing(parts.begin_ns, parts.end_ns);
    // Looked up together before any is used: one by one, each would be searched for in the file.
    named.prepare(latency, report.as_ref(), ongoing.as_ref());
    let estimate = parts.model.cause_estimate();
    let found = findings::find(&Evidence {
        mode: parts.mode,
        latency,
        knows_yields: parts.knows_yields,
        model: parts.model,
        ongoing: ongoing.as_ref(),
        report: report.as_ref(),
        causes: report.as_ref().map(|report| &report.causes),
        estimate: estimate.as_ref(),
        symbolizer: parts.symbolizer,
        cgroup_cpu_limit: target.cgroup_cpu_limit,
        gomaxprocs: target.gomaxprocs,
        go_minor: target.go_minor(),
        limits: &parts.limits,
        halted: &parts.halted,
        begin_ns: parts.begin_ns,
        window_ns: parts.end_ns.saturating_sub(parts.begin_ns),
    });
    let total_hist = Hist::of(&total);
    let mut notes = parts.notes;
    notes.extend(short_entries(parts.mode, &total_hist).map(Untrusted::from));
    let mode = CaptureMode::from(parts.mode);
    if mode.sees_every_wait() && !parts.knows_yields {
        notes.push(YIELDS_UNKNOWN.into());
    }
    let attach = parts.attach;
    let probe_cost_ns = attach.and_then(|attach| attach.hit_ns);
    let predicted = OverheadPredicted::of(latency.hits(), probe_cost_ns, parts.target_cpu_ns);
    let measured = OverheadMeasured::of(parts.cpu_use);
    let duration_ns = parts.end_ns.saturating_sub(parts.begin_ns);
    let info = CaptureInfo {
        mode_reason: parts.mode_reason,
        complete: parts.whole && latency.lost() == 0,
        events: total.count(),
        lost_events: latency.lost(),
        lost_by_cause: latency
            .losses()
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(cause, count)| (ByName(*cause), *count))
            .collect(),
        sampling: (!mode.sees_every_wait()).then(|| Sampling {
            by: SampledBy::Runtime,
            nominal: 8,
            measured_by: attach.map(|attach| attach.measured_by),
            uniform: false,
        }),
        attached_by: attach.and_then(|attach| attach.attached_by),
        probe_hits: latency.hits(),
        probe_cost_ns,
        overhead_ratio: overhead_ratio(latency.hits(), predicted, measured),
        overhead_predicted: predicted,
        overhead_measured: measured,
        latency_floor_ns: attach.and_then(|attach| attach.latency_floor_ns),
        concurrent_captures: parts.concurrent_captures,
        halted: parts.halted,
        notes,
        ..CaptureInfo::new(mode, parts.started_at, duration_ns, parts.ended_by)
    };
    let why = report.as_ref().map(|report| &report.causes);
    let mut capture = Capture {
        runnable_to_running: total_hist,
        without_yields: parts.knows_yields.then(|| Hist::of(&latency.without_yields())),
        by_origin: named.by_origin(latency),
        by_creation_site: match &report {
            Some(report) => full::by_creation_site(report, &named),
            None => named.by_creation_site(latency),
        },
        by_wait_reason: report.as_ref().map(full::by_wait_reason).unwrap_or_default(),
        by_cause: why.map(causes::by_cause).unwrap_or_default(),
        cause_estimate: parts.model.cause_estimate().as_ref().map(CauseEstimate::of),
        culprits: why.map(|why| causes::culprits(why, &named)).unwrap_or_default(),
        slow_summary: SlowSummary::of(latency.slow()),
        slow: named.longest(latency),
        ongoing: ongoing.map(|ongoing| Ongoing::of(&ongoing, &named)),
        goroutines: Goroutines::of(parts.model, report.as_ref()),
        pauses: RuntimePauses::of(parts.model),
        scheduler: parts.model.last().and_then(SchedulerGauges::of),
        full: report
            .as_ref()
            .map(|report| Full::of(report, &named, &lost_stacks(latency))),
        findings: found.findings,
        undecided: found.undecided,
        ..Capture::new(target, info)
    };
    let model = capture.full.as_ref().map(|full| &full.model);
    if let Some(why) = model.and_then(ModelInfo::shortcoming) {
        capture.add_shortcoming(why);
    }
    answer::renew(&mut capture);
    capture
}

/// The note of a capture in `exact` that does not know `g.preempt`.
const YIELDS_UNKNOWN: &str = "the layout of a goroutine is not known in this program: those that were preempted count \
                              as yielded, so yields are not left out of the figures";

/// Upper bound of the lowest bucket of the runtime's histogram (Go ≥ 1.21), inclusive.
const LOWEST_NS: u64 = 63;

/// Returns a note on what `passive` cannot distinguish. Up to Go 1.25 the lowest bucket is left out as a whole.
fn short_entries(mode: Mode, waits: &Hist) -> Option<String> {
    let lowest = waits.buckets.first().filter(|bucket| bucket.le_ns <= LOWEST_NS)?;
    (mode == Mode::Passive).then(|| {
        format!(
            "{} of the waits are of at most {LOWEST_NS} ns: among these the runtime also counts goroutines that had \
             not waited (their stack was moved, the world was stopped); --mode sampled leaves them out",
            lowest.count
        )
    })
}

/// The one ratio that says it best: that of a measurement only where it is more certain than the prediction, which it is
/// not where the probes cost next to nothing.
fn overhead_ratio(
    hits: u64,
    predicted: Option<OverheadPredicted>,
    measured: Option<OverheadMeasured>,
) -> Option<f64> {
    if hits == 0 {
        return Some(1.0);
    }
    match measured.filter(|measured| measured.is_more_certain_than(predicted)) {
        Some(measured) => Some(measured.ratio.max(1.0)),
        None => predicted?.high,
    }
}

/// Stacks of goroutines that blocked that were lost.
fn lost_stacks(latency: &Latency) -> Lost {
    let lost = |cause| latency.losses().get(&cause).copied().unwrap_or(0);
    Lost {
        full: lost(LossCause::StacksFull),
        unreadable: lost(LossCause::StacksUnreadable),
    }
}

#[cfg(test)]
mod tests;
