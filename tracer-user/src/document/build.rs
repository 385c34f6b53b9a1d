//! From what was observed of latencies to a [`Capture`].

use std::collections::{BTreeMap, BTreeSet};

use crate::document::blocked::Lost;
use crate::document::by_name::ByName;
use crate::document::capture::{
    Bucket, Capture, CaptureInfo, CaptureMode, Hist, SampledBy, Sampling, Slow, SlowSummary,
};
use crate::document::full::{self, Full};
use crate::document::gauges::{Goroutines, SchedulerGauges};
use crate::escape::Untrusted;
use crate::findings::{self, Evidence};
use crate::latency::{self, Histogram, Latency};
use crate::model::{Model, sched::Report};
use crate::plan::Mode;
use crate::stream::step::AttachInfo;
use crate::stream::{BucketScheme, EndedBy, HistogramKey, LossCause, Origin, Symbolizer, TargetInfo};

/// Name of the creation site under which the kernel counts what its table has no room for.
const OTHER: &str = "other";

/// Everything that a capture of latencies is made of.
pub struct Parts<'a> {
    /// What was traced. `gomaxprocs`, where absent, is taken from the last snapshot.
    pub target: TargetInfo,
    /// In which mode.
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
    /// The gauges.
    pub model: &'a Model,
    /// Names of creation sites.
    pub symbolizer: &'a dyn Symbolizer,
    /// How the probes were attached and who measured, where that is known.
    pub attach: Option<AttachInfo>,
    /// CPU time of the target in the window, where known.
    pub target_cpu_ns: Option<u64>,
    /// Other captures of ours on the same target during the window.
    pub concurrent_captures: u64,
    /// Remarks for whoever reads the figures.
    pub notes: Vec<Untrusted>,
}

/// Makes the capture, with its findings.
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
    // Before whatever shows them: one by one they would each be searched for in the file.
    named.prepare(latency, report.as_ref());
    let findings = findings::find(&Evidence {
        latency,
        model: parts.model,
        symbolizer: parts.symbolizer,
        cgroup_cpu_limit: target.cgroup_cpu_limit,
        gomaxprocs: target.gomaxprocs,
    });
    let total_hist = hist(&total);
    let mut notes = parts.notes;
    notes.extend(short_entries(parts.mode, &total_hist).map(Untrusted::from));
    let mode = CaptureMode::from(parts.mode);
    let attach = parts.attach;
    let probe_cost_ns = attach.and_then(|attach| attach.hit_ns);
    let highest_cost = probe_cost_ns.map(|[_, high]| high);
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
        overhead_ratio: overhead_ratio(latency.hits(), highest_cost, parts.target_cpu_ns),
        latency_floor_ns: attach.and_then(|attach| attach.latency_floor_ns),
        concurrent_captures: parts.concurrent_captures,
        notes,
        ..CaptureInfo::new(mode, parts.started_at, duration_ns, parts.ended_by)
    };
    Capture {
        runnable_to_running: total_hist,
        by_origin: named.by_origin(latency),
        by_creation_site: match &report {
            Some(report) => full::by_creation_site(report, &named),
            None => named.by_creation_site(latency),
        },
        by_wait_reason: report.as_ref().map(full::by_wait_reason).unwrap_or_default(),
        slow_summary: slow_summary(latency.slow()),
        slow: latency
            .slow()
            .longest()
            .iter()
            .map(|slow| named.slow(slow))
            .collect(),
        goroutines: Goroutines::of(parts.model, report.as_ref().map(|report| report.churn)),
        scheduler: parts.model.last().and_then(SchedulerGauges::of),
        full: report
            .as_ref()
            .map(|report| Full::of(report, &named, &lost_stacks(latency))),
        findings,
        ..Capture::new(target, info)
    }
}

/// Upper bound of the lowest bucket of the runtime's histogram (Go ≥ 1.21), inclusive.
const LOWEST_NS: u64 = 63;

/// What `passive` cannot tell apart. Up to Go 1.25 the lowest bucket is left out as a whole.
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

/// 1 + hits × cost ÷ CPU time; without hits there is no cost to be known.
fn overhead_ratio(hits: u64, cost_ns: Option<u64>, cpu_ns: Option<u64>) -> Option<f64> {
    if hits == 0 {
        return Some(1.0);
    }
    let (cost_ns, cpu_ns) = (cost_ns?, cpu_ns.filter(|ns| *ns > 0)?);
    let ratio = 1.0 + hits as f64 * cost_ns as f64 / cpu_ns as f64;
    // Six decimals are more than is known.
    Some((ratio * 1e6).round() / 1e6)
}

/// A histogram in the shape of the JSON.
pub fn hist(histogram: &Histogram) -> Hist {
    let scheme: BucketScheme = histogram.scheme();
    let mut buckets: Vec<Bucket> = Vec::new();
    for (index, count) in histogram.counts() {
        buckets.push(Bucket {
            le_ns: scheme.upper_ns(index),
            count,
        });
    }
    let excluded = histogram.excluded_zero();
    Hist {
        count: histogram.count(),
        p50_ns: histogram.quantile_ns(500),
        p90_ns: histogram.quantile_ns(900),
        p99_ns: histogram.quantile_ns(990),
        p999_ns: histogram.quantile_ns(999),
        resolution: scheme.resolution(),
        buckets,
        sum_ns: histogram.sum_ns(),
        min_ns: histogram.extremes_ns().map(|(min, _)| min),
        max_ns: histogram.extremes_ns().map(|(_, max)| max),
        excluded_zero: (excluded > 0).then_some(excluded),
    }
}

/// Puts names to keys and moments since the capture's begin to times.
pub struct Named<'a> {
    /// Names of creation sites.
    pub symbolizer: &'a dyn Symbolizer,
    /// The capture's begin, CLOCK_MONOTONIC.
    pub begin_ns: u64,
}

impl Named<'_> {
    /// Has all creation sites that are in these looked up together. To be called before any of them is shown.
    pub fn prepare(&self, latency: &Latency, report: Option<&Report>) {
        let keys = latency.by_key().keys().filter_map(|key| match key {
            HistogramKey::CreationSite(gopc) => Some(*gopc),
            _ => None,
        });
        let longest = latency.slow().longest();
        let slow = longest.iter().filter_map(|slow| slow.wait.gopc);
        let mut gopcs: BTreeSet<u64> = keys.chain(slow).collect();
        if let Some(report) = report {
            gopcs.extend(report.sites.iter().map(|site| site.gopc));
            gopcs.extend(report.longest.iter().map(|(wait, _)| wait.gopc));
            let places = report.stacks.iter().flat_map(|stacks| &stacks.places);
            gopcs.extend(places.map(|place| place.gopc));
        }
        gopcs.remove(&0);
        if !gopcs.is_empty() {
            self.symbolizer.prepare(&gopcs.into_iter().collect::<Vec<_>>());
        }
    }

    /// The name of a creation site; its address where it has none.
    pub fn creation_site(&self, gopc: u64) -> Untrusted {
        match gopc {
            0 => OTHER.into(),
            _ => self
                .symbolizer
                .function_at(gopc)
                .unwrap_or_else(|| format!("{gopc:#x}").into()),
        }
    }

    /// Histograms by origin.
    pub fn by_origin(&self, latency: &Latency) -> BTreeMap<ByName<Origin>, Hist> {
        let named = latency.by_key().iter().filter_map(|(key, histogram)| match key {
            HistogramKey::Origin(origin) if histogram.count() > 0 => {
                Some((ByName(*origin), hist(histogram)))
            }
            _ => None,
        });
        named.collect()
    }

    /// Histograms by function of the `go` statement; a function with several has one.
    pub fn by_creation_site(&self, latency: &Latency) -> BTreeMap<Untrusted, Hist> {
        let mut merged: BTreeMap<Untrusted, Histogram> = BTreeMap::new();
        for (key, histogram) in latency.by_key() {
            let HistogramKey::CreationSite(gopc) = key else {
                continue;
            };
            if histogram.count() > 0 {
                let empty = Histogram::new(latency.scheme());
                merged
                    .entry(self.creation_site(*gopc))
                    .or_insert(empty)
                    .merge(histogram);
            }
        }
        merged
            .into_iter()
            .map(|(name, histogram)| (name, hist(&histogram)))
            .collect()
    }

    /// A slow wait in the shape of the JSON.
    pub fn slow(&self, slow: &latency::Slow) -> Slow {
        let wait = &slow.wait;
        Slow {
            at_ns: slow.at_ns.saturating_sub(self.begin_ns),
            latency_ns: wait.latency_ns,
            goid: wait.goid,
            creation_site: wait
                .gopc
                .filter(|gopc| *gopc != 0)
                .map(|gopc| self.creation_site(gopc)),
            origin: wait.origin.map(ByName),
            tid: Some(wait.tid),
            p: wait.p,
        }
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

fn slow_summary(slow: &latency::SlowWaits) -> Option<SlowSummary> {
    Some(SlowSummary {
        count: slow.count(),
        p50_ns: slow.quantile_ns(500)?,
        p90_ns: slow.quantile_ns(900)?,
        p99_ns: slow.quantile_ns(990)?,
        max_ns: slow.longest().first()?.wait.latency_ns,
    })
}

#[cfg(test)]
mod tests;
