//! Builds what a capture says about causes from the model's report.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{
    CauseTime, CausesInfo, CulpritInfo, GoroutineInfo, PictureInfo, RunnableWait, StopCountsInfo, StopInfo,
    WakerInfo,
};
use crate::document::by_name::ByName;
use crate::document::hist::Hist;
use crate::document::named::Named;
use crate::escape::Untrusted;
use crate::latency::Histogram;
use crate::model::ongoing::Stop;
use crate::model::sched::{Cause, CausesReport, Picture, SlowestWait, StopReport, Waker, Who};
use crate::stream::{BucketScheme, HistogramDelta};

/// Most functions whose goroutines are reported as culprits.
const CULPRITS: usize = 50;
/// Most stops of the world that are reported.
const STOPS: usize = 20;
/// Most of the longest waits that are reported.
const SLOWEST: usize = 20;

impl CausesInfo {
    /// Builds it from the model's report.
    pub fn of(report: &CausesReport) -> Self {
        Self {
            runnable_ns: report.runnable_ns,
            some_ns: report.some_ns,
            before_known_ns: report.before_known_ns,
            imbalance_ns: report.imbalance_ns,
        }
    }
}

/// Builds the time of each cause.
pub fn by_cause(report: &CausesReport) -> BTreeMap<ByName<Cause>, CauseTime> {
    let times = report.by_cause.iter().map(|of| {
        let time = CauseTime {
            hist: hist_of(of.waits.as_ref()),
            total_ns: of.total_ns,
            ongoing_ns: of.ongoing_ns,
        };
        (ByName(of.cause), time)
    });
    times.collect()
}

/// Builds who held the Ps, the longest first. A function with several `go` statements is one culprit.
pub fn culprits(report: &CausesReport, named: &Named<'_>) -> Vec<CulpritInfo> {
    let mut merged: BTreeMap<Option<Untrusted>, (CulpritInfo, Histogram)> = BTreeMap::new();
    for culprit in &report.culprits {
        let creation_site = site(culprit.gopc, named);
        let (info, on_cpu) = merged
            .entry(creation_site.clone())
            .or_insert_with(|| (CulpritInfo::default(), Histogram::new(BucketScheme::Kernel)));
        info.creation_site = creation_site;
        info.held_ns = info.held_ns.saturating_add(culprit.held_ns);
        if culprit.longest_ns >= info.longest_ns {
            info.longest_ns = culprit.longest_ns;
            info.longest_at_ns = culprit.longest_at_ns.saturating_sub(named.begin_ns);
            info.longest_goid = known(culprit.longest_goid);
        }
        if let Some(delta) = &culprit.on_cpu {
            on_cpu.add_delta(delta);
        }
    }
    let mut culprits: Vec<CulpritInfo> = merged
        .into_values()
        .map(|(info, on_cpu)| CulpritInfo {
            share: share(info.held_ns, report.runnable_ns),
            stretches: on_cpu.count(),
            on_cpu: (on_cpu.count() > 0).then(|| Hist::of(&on_cpu)),
            ..info
        })
        .collect();
    // Those with the same time keep the order of their names.
    culprits.sort_by_key(|culprit| Reverse(culprit.held_ns));
    culprits.truncate(CULPRITS);
    culprits
}

/// Builds the stops of the world, the longest first.
pub fn stops(report: &CausesReport, named: &Named<'_>) -> Vec<StopInfo> {
    let longest = report.stops.iter().take(STOPS);
    longest.map(|stop| stop_of(stop, named)).collect()
}

/// Builds how many stops of the world have ended.
pub fn stop_counts(report: &CausesReport) -> StopCountsInfo {
    StopCountsInfo {
        ended: report.stop_counts.ended,
        long: report.stop_counts.long,
    }
}

/// Builds the longest waits, the longest first.
pub fn slowest(report: &CausesReport, named: &Named<'_>) -> Vec<RunnableWait> {
    let longest = report.slowest.iter().take(SLOWEST);
    longest.map(|wait| wait_of(wait, named)).collect()
}

fn stop_of(stop: &StopReport, named: &Named<'_>) -> StopInfo {
    let reason = Stop {
        reason: (stop.reason != 0).then_some(stop.reason),
        ..Stop::default()
    };
    StopInfo {
        at_ns: stop.begin_ns.saturating_sub(named.begin_ns),
        total_ns: stop.total_ns,
        stopping_ns: stop.stopping_ns,
        last: stop.last.and_then(|who| if_known(who, named)),
        reason: reason.reason_name().map(Untrusted::from),
        ongoing: stop.ongoing,
    }
}

fn wait_of(wait: &SlowestWait, named: &Named<'_>) -> RunnableWait {
    RunnableWait {
        at_ns: wait.begin_ns.saturating_sub(named.begin_ns),
        duration_ns: wait.duration_ns,
        ongoing: wait.ongoing,
        who: goroutine(wait.who, named),
        origin: wait.origin.map(ByName),
        after: wait.after.as_deref().map(Untrusted::from),
        wakers: wait.wakers.iter().map(|waker| waker_of(*waker, named)).collect(),
        causes_ns: wait
            .causes
            .iter()
            .filter(|(_, ns)| *ns > 0)
            .map(|(cause, ns)| (ByName(*cause), *ns))
            .collect(),
        behind: wait.behind.and_then(|who| if_known(who, named)),
        picture: wait.picture.as_ref().map(picture_of),
    }
}

fn waker_of(waker: Waker, named: &Named<'_>) -> WakerInfo {
    match waker {
        Waker::Goroutine(who) => WakerInfo::Goroutine(goroutine(who, named)),
        Waker::Netpoll => WakerInfo::Netpoll,
        Waker::Scheduler => WakerInfo::Scheduler,
        Waker::WithoutP => WakerInfo::WithoutP,
    }
}

fn picture_of(picture: &Picture) -> PictureInfo {
    PictureInfo {
        runnable: picture.runnable,
        busy: picture.busy.into(),
        gc: picture.gc.into(),
        os_preempted: picture.os_preempted.into(),
        in_syscall: picture.in_syscall.into(),
        blocked: picture.blocked.into(),
        scheduler: picture.scheduler.into(),
        unknown: picture.unknown.into(),
        idle: picture.idle.into(),
    }
}

/// A goroutine of which something is known.
fn if_known(who: Who, named: &Named<'_>) -> Option<GoroutineInfo> {
    let goroutine = goroutine(who, named);
    (goroutine != GoroutineInfo::default()).then_some(goroutine)
}

fn goroutine(who: Who, named: &Named<'_>) -> GoroutineInfo {
    GoroutineInfo {
        goid: known(who.goid),
        creation_site: site(who.gopc, named),
    }
}

fn site(gopc: u64, named: &Named<'_>) -> Option<Untrusted> {
    (gopc != 0).then(|| named.creation_site(gopc))
}

fn known(goid: u64) -> Option<u64> {
    (goid != 0).then_some(goid)
}

fn hist_of(delta: Option<&HistogramDelta>) -> Hist {
    let scheme = delta.map_or(BucketScheme::Kernel, |delta| delta.scheme);
    let mut histogram = Histogram::new(scheme);
    if let Some(delta) = delta {
        histogram.add_delta(delta);
    }
    Hist::of(&histogram)
}

/// A share to six decimals, which is more than its precision.
fn share(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => (part as f64 / whole as f64 * 1e6).round() / 1e6,
    }
}
