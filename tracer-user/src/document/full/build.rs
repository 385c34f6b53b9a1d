//! Builds what `full` adds to a capture from the model's report.

use std::collections::BTreeMap;

use super::{
    Churn, CreatedBecause, EventPauses, Full, LongWait, MachineInfo, ModelInfo, OverTime, ProcessorInfo,
    ThreadTime, WorldInfo,
};
use crate::document::blocked::{self, Lost};
use crate::document::by_name::ByName;
use crate::document::causes::{self, CausesInfo};
use crate::document::hist::Hist;
use crate::document::named::Named;
use crate::escape::Untrusted;
use crate::latency::Histogram;
use crate::model::sched::{Report, SiteReport, State};
use crate::stream::{BucketScheme, HistogramDelta};

/// Most creation sites whose churn is reported.
const SITES: usize = 50;
/// How many more goroutines must be created than end for a creation site to be marked as growing.
const LEAK_HINT: u64 = 100;

impl Full {
    /// Builds it from the model's report; `lost` are the stacks that were lost.
    pub fn of(report: &Report, named: &Named<'_>, lost: &Lost) -> Self {
        let window_ns = report.end_ns.saturating_sub(named.begin_ns).max(1);
        let since = |at_ns: u64| at_ns.saturating_sub(named.begin_ns);
        let world = &report.world;
        let stacks = report.stacks.as_ref();
        let (blocked_at, stacks) = stacks.map(|stacks| blocked::build(stacks, named, lost)).unzip();
        Self {
            blocked_at: blocked_at.unwrap_or_default(),
            stacks,
            model: ModelInfo {
                transitions: report.events,
                lost: report.lost,
                seen: report.seen,
                valid_from_ns: report.valid_from_ns.map(since),
                inferred: inferred(report),
                inferred_after_loss: report.anomalies.after_loss,
                inferred_syscalls: report.inferred_syscalls,
            },
            over_time: over_time(report, named),
            time_in_state_ns: State::ALL
                .into_iter()
                .zip(report.spent_ns)
                .filter(|(state, ns)| *state != State::Dead && *ns > 0)
                .map(|(state, ns)| (ByName(state), ns))
                .collect(),
            longest_waits: report
                .longest
                .iter()
                .map(|(wait, reason)| LongWait {
                    at_ns: (wait.begin_ns != 0).then(|| since(wait.begin_ns)),
                    duration_ns: wait.duration_ns,
                    goid: (wait.goid != 0).then_some(wait.goid),
                    creation_site: (wait.gopc != 0).then(|| named.creation_site(wait.gopc)),
                    reason: reason.as_str().into(),
                    ongoing: wait.ongoing,
                })
                .collect(),
            churn: churn(&report.sites, named),
            processors: report
                .processors
                .iter()
                .map(|p| ProcessorInfo {
                    id: p.id,
                    utilization: rounded((p.busy_ns as f64 / window_ns as f64).min(1.0)),
                    busy_ns: p.busy_ns,
                    held_ns: p.held_ns,
                    acquired: p.acquired,
                    handed_off: p.handed_off,
                    mean_runq: p.queued.map(|(mean, _)| rounded(mean)),
                    max_runq: p.queued.map(|(_, most)| most),
                })
                .collect(),
            machines: MachineInfo {
                known: report.machines.known,
                parked: report.machines.parked,
                started: world.machines_started,
                ended: world.machines_ended,
                parks: world.parks,
                created_because: CreatedBecause {
                    handed_off: world.created_for_processor,
                    other: world.created_other,
                    spinning: world.created_spinning,
                },
                thread_time_ns: ThreadTime {
                    asleep: world.asleep_ns,
                    on_cpu: world.on_cpu_ns,
                    waiting_for_cpu: world.waiting_for_cpu_ns,
                },
            },
            world: WorldInfo {
                gc_cycles: world.gc_cycles,
                gc_ns: world.gc_ns,
                stops: world.stops,
                stopped_ns: world.stopped_ns,
                pauses: world
                    .pauses()
                    .map(|(count, total_ns)| EventPauses { count, total_ns }),
                gomaxprocs_set: world.resized,
            },
            causes: Some(CausesInfo::of(&report.causes)),
            slowest: causes::slowest(&report.causes, named),
            stops: causes::stops(&report.causes, named),
            stop_counts: Some(causes::stop_counts(&report.causes)),
        }
    }
}

fn over_time(report: &Report, named: &Named<'_>) -> Option<OverTime> {
    let history = &report.history;
    if history.moments.is_empty() {
        return None;
    }
    let states = State::ALL.into_iter().filter(|state| *state != State::Dead);
    let counts = states.map(|state| {
        let of = |moment: &[u64; State::COUNT]| moment.get(state as usize).copied().unwrap_or(0);
        let counts: Vec<u64> = history.moments.iter().map(of).collect();
        (ByName(state), counts)
    });
    let first_ns = history.begin_ns.saturating_add(history.step_ns);
    Some(OverTime {
        from_ns: first_ns.saturating_sub(named.begin_ns),
        step_ns: history.step_ns,
        goroutines: counts
            .filter(|(_, counts)| counts.iter().any(|count| *count > 0))
            .collect(),
    })
}

/// Builds the histograms of the time in Waiting, by reason.
pub fn by_wait_reason(report: &Report) -> BTreeMap<Untrusted, Hist> {
    report
        .by_reason
        .iter()
        .map(|(reason, delta)| (reason.as_str().into(), hist_of(delta)))
        .collect()
}

/// Builds the histograms of waits Runnable→Running, by function of the `go` statement.
pub fn by_creation_site(report: &Report, named: &Named<'_>) -> BTreeMap<Untrusted, Hist> {
    let mut merged: BTreeMap<Untrusted, Histogram> = BTreeMap::new();
    for site in &report.sites {
        let Some(delta) = &site.runnable else { continue };
        merged
            .entry(named.creation_site(site.gopc))
            .or_insert_with(|| Histogram::new(BucketScheme::Kernel))
            .add_delta(delta);
    }
    merged
        .into_iter()
        .map(|(name, histogram)| (name, Hist::of(&histogram)))
        .collect()
}

fn hist_of(delta: &HistogramDelta) -> Hist {
    let mut histogram = Histogram::new(delta.scheme);
    histogram.add_delta(delta);
    Hist::of(&histogram)
}

fn inferred(report: &Report) -> BTreeMap<Untrusted, u64> {
    let anomalies = &report.anomalies;
    let changes = State::ALL.into_iter().zip(&anomalies.inferred);
    let changes = changes.flat_map(|(from, row)| {
        State::ALL
            .into_iter()
            .zip(row)
            .map(move |(to, count)| (format!("{}->{}", from.name(), to.name()).into(), *count))
    });
    let others = [
        ("illegal", anomalies.illegal),
        ("displaced", anomalies.displaced),
        ("snapshot_differs", anomalies.snapshot_differs),
        ("backwards", anomalies.backwards),
        ("garbage", anomalies.garbage),
    ];
    let others = others.into_iter().map(|(name, count)| (name.into(), count));
    changes.chain(others).filter(|(_, count)| *count > 0).collect()
}

fn churn(sites: &[SiteReport], named: &Named<'_>) -> Vec<Churn> {
    let mut by_name: BTreeMap<Untrusted, (u64, u64)> = BTreeMap::new();
    for site in sites.iter().filter(|site| site.created + site.exited > 0) {
        let (created, exited) = by_name.entry(named.creation_site(site.gopc)).or_default();
        *created += site.created;
        *exited += site.exited;
    }
    let mut churn: Vec<Churn> = by_name
        .into_iter()
        .map(|(creation_site, (created, exited))| Churn {
            creation_site,
            created,
            exited,
            grows: created.saturating_sub(exited) >= LEAK_HINT && created > 2 * exited,
        })
        .collect();
    churn.sort_by(|a, b| {
        (b.created + b.exited)
            .cmp(&(a.created + a.exited))
            .then_with(|| a.creation_site.cmp(&b.creation_site))
    });
    churn.truncate(SITES);
    churn
}

/// Rounds to six decimals, which is more than the precision of any figure.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
