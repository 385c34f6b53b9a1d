//! The rules. A threshold here is a judgement, said as such in the finding's evidence.

use std::collections::BTreeMap;

use crate::escape::Untrusted;
use crate::latency::Histogram;
use crate::stream::{HistogramKey, Origin};

use super::{Evidence, Verdict};

/// A new or sampled goroutine that waits longer than this is pointed out.
const LONG_NS: u64 = 100_000;
/// Share of long waits from which on it is a warning.
const LONG_SHARE: f64 = 0.01;
/// Share of all waiting time that preempted goroutines must have to be said to dominate.
const PREEMPTED_SHARE: f64 = 0.5;
/// Waiting time below which nothing is said to dominate anything, per capture.
const NEGLIGIBLE_NS: u64 = 1_000_000;
/// Share of the window that the world may stand still before it is pointed out.
const STOPPED_SHARE: f64 = 0.01;

/// `part` of `whole`, between 0 and 1.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p > 0.0 && p < 0.01 => "under 0.01%".to_owned(),
        p if p < 1.0 => format!("{p:.2}%"),
        p => format!("{p:.1}%"),
    }
}

pub(super) fn milliseconds(ns: u64) -> String {
    format!("{:.1} ms", ns as f64 / 1e6)
}

fn histogram<'a>(evidence: &Evidence<'a>, origin: Origin) -> Option<&'a Histogram> {
    evidence.latency.by_key().get(&HistogramKey::Origin(origin))
}

/// Goroutines that were made and then waited long for their first run.
pub(super) fn created_waits(evidence: &Evidence) -> Option<Verdict> {
    let created = histogram(evidence, Origin::Created)?;
    let long = created.count_above(LONG_NS);
    let share = share(long, created.count());
    (long > 0).then(|| Verdict {
        warning: share >= LONG_SHARE,
        title: format!("{long} new goroutines waited more than 100 us for their first run"),
        evidence: format!(
            "{long} of {} waits created->running ({})",
            created.count(),
            percent(share)
        ),
        advice: "Goroutines are made faster than the Ps can take them up: look for bursts of go statements, \
                 bound them with a worker pool or a semaphore, or give the program more CPU."
            .to_owned(),
    })
}

/// The same where only the `go` statement is known, not how the goroutine became runnable.
pub(super) fn long_waits_by_creation_site(evidence: &Evidence) -> Option<Verdict> {
    let mut by_function: BTreeMap<Untrusted, (u64, u64)> = BTreeMap::new();
    for (key, histogram) in evidence.latency.by_key() {
        let HistogramKey::CreationSite(gopc) = key else {
            continue;
        };
        let name = match gopc {
            0 => "other".into(),
            _ => evidence
                .symbolizer
                .function_at(*gopc)
                .unwrap_or_else(|| format!("{gopc:#x}").into()),
        };
        let entry = by_function.entry(name).or_default();
        entry.0 = entry.0.saturating_add(histogram.count_above(LONG_NS));
        entry.1 = entry.1.saturating_add(histogram.count());
    }
    let (long, all) = by_function
        .values()
        .fold((0u64, 0u64), |(long, all), site| (long + site.0, all + site.1));
    if long == 0 {
        return None;
    }
    let mut sites: Vec<_> = by_function
        .into_iter()
        .filter(|(_, (long, _))| *long > 0)
        .collect();
    sites.sort_by(|a, b| b.1.0.cmp(&a.1.0).then_with(|| a.0.cmp(&b.0)));
    let worst: Vec<String> = sites
        .iter()
        .take(3)
        .map(|(name, (long, all))| {
            format!("{} {long} of {all} ({})", name.raw(), percent(share(*long, *all)))
        })
        .collect();
    let share = share(long, all);
    Some(Verdict {
        warning: share >= LONG_SHARE,
        title: format!("{long} sampled waits took more than 100 us"),
        evidence: format!(
            "{long} of {all} sampled waits ({}); most by goroutines made in {}",
            percent(share),
            worst.join(", ")
        ),
        advice: "A sample does not tell first runs from later ones: --mode exact does, by origin.".to_owned(),
    })
}

/// Most of the waiting was done by goroutines that had been running and were put back in the queue.
pub(super) fn preemption_dominates(evidence: &Evidence) -> Option<Verdict> {
    let preempted = histogram(evidence, Origin::Preempted)?;
    let waited = preempted.sum_ns()?;
    let all = evidence.latency.total().sum_ns()?;
    let share = share(waited, all);
    (share >= PREEMPTED_SHARE && waited >= NEGLIGIBLE_NS).then(|| Verdict {
        warning: true,
        title: "most of the waiting was done by preempted goroutines".to_owned(),
        evidence: format!(
            "{} waits after preemption took {} of {} of all waiting ({})",
            preempted.count(),
            milliseconds(waited),
            milliseconds(all),
            percent(share)
        ),
        advice:
            "More goroutines compute than there are Ps, so they take turns of about 10 ms: fewer of them \
                 at a time, or a larger GOMAXPROCS if there are CPUs for it."
                .to_owned(),
    })
}

/// More Ps than the cgroup lets run: the kernel stops all of them when the quota is used up.
pub(super) fn gomaxprocs_above_limit(evidence: &Evidence) -> Option<Verdict> {
    gomaxprocs(evidence.gomaxprocs, evidence.cgroup_cpu_limit)
}

/// The same, of a start.
pub(super) fn gomaxprocs(gomaxprocs: Option<u32>, limit: Option<f64>) -> Option<Verdict> {
    let (gomaxprocs, limit) = (gomaxprocs?, limit?);
    let fits = limit.ceil().max(1.0);
    (f64::from(gomaxprocs) > fits).then(|| Verdict {
        warning: true,
        title: "GOMAXPROCS is larger than the cgroup's CPU limit".to_owned(),
        evidence: format!("GOMAXPROCS is {gomaxprocs}, the cgroup may use {limit:.2} CPUs"),
        advice: format!(
            "The kernel throttles all threads at once when the quota is used up. Set GOMAXPROCS={fits:.0}, or \
             build with Go 1.25 or newer, which follows the limit by itself."
        ),
    })
}

/// The world stood still for a good part of the time.
pub(super) fn stop_the_world(evidence: &Evidence) -> Option<Verdict> {
    let pauses = evidence.model.pauses()?;
    let stopped = pauses.gc.1.saturating_add(pauses.other.1);
    let share = share(stopped, pauses.window_ns);
    (share >= STOPPED_SHARE).then(|| Verdict {
        warning: true,
        title: format!("the world was stopped for about {} of the time", percent(share)),
        evidence: format!(
            "{} pauses of the GC took about {}, {} others about {}, of {}",
            pauses.gc.0,
            milliseconds(pauses.gc.1),
            pauses.other.0,
            milliseconds(pauses.other.1),
            milliseconds(pauses.window_ns)
        ),
        advice: "No goroutine runs meanwhile. GC: fewer allocations, a larger GOGC or GOMEMLIMIT. Others: \
                 something reads memory statistics, goroutine profiles or changes GOMAXPROCS often."
            .to_owned(),
    })
}
