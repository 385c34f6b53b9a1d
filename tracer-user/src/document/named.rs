//! Names and moments as the document has them.

use std::collections::{BTreeMap, BTreeSet};

use crate::document::by_name::ByName;
use crate::document::hist::Hist;
use crate::document::slow::Slow;
use crate::escape::Untrusted;
use crate::latency::{self, Histogram, Latency};
use crate::model::{
    ongoing::Ongoing,
    sched::{CausesReport, Report, Waker},
};
use crate::stream::{HistogramKey, Origin, Symbolizer};

/// Name of the creation site that stands for all those which the kernel's table has no room for.
const OTHER: &str = "other";

/// Converts keys to names, and times to times since the capture's begin.
pub struct Named<'a> {
    /// Names of creation sites.
    pub symbolizer: &'a dyn Symbolizer,
    /// The capture's begin, CLOCK_MONOTONIC.
    pub begin_ns: u64,
}

impl Named<'_> {
    /// Looks up all creation sites that are in these together. To be called before any of them is used.
    pub fn prepare(&self, latency: &Latency, report: Option<&Report>, ongoing: Option<&Ongoing>) {
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
            gopcs.extend(gopcs_of(&report.causes));
        }
        if let Some(ongoing) = ongoing {
            let stretches = [&ongoing.runnable, &ongoing.running, &ongoing.syscalls];
            let longest = stretches
                .into_iter()
                .flatten()
                .flat_map(|stretches| &stretches.longest);
            gopcs.extend(longest.map(|stretch| stretch.gopc));
        }
        gopcs.remove(&0);
        if !gopcs.is_empty() {
            self.symbolizer.prepare(&gopcs.into_iter().collect::<Vec<_>>());
        }
    }

    /// Returns the name of a creation site, or its address where it has none.
    pub fn creation_site(&self, gopc: u64) -> Untrusted {
        match gopc {
            0 => OTHER.into(),
            _ => self
                .symbolizer
                .function_at(gopc)
                .unwrap_or_else(|| format!("{gopc:#x}").into()),
        }
    }

    /// Builds the histograms by origin.
    pub fn by_origin(&self, latency: &Latency) -> BTreeMap<ByName<Origin>, Hist> {
        let named = latency.by_key().iter().filter_map(|(key, histogram)| match key {
            HistogramKey::Origin(origin) if histogram.count() > 0 => {
                Some((ByName(*origin), Hist::of(histogram)))
            }
            _ => None,
        });
        named.collect()
    }

    /// Builds the histograms by function of the `go` statement; a function with several statements has one.
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
            .map(|(name, histogram)| (name, Hist::of(&histogram)))
            .collect()
    }

    /// Converts the longest waits of at least `--slower`, the longest first.
    pub fn longest(&self, latency: &Latency) -> Vec<Slow> {
        let longest = latency.slow().longest();
        longest.iter().map(|slow| self.slow(slow)).collect()
    }

    /// Converts a slow wait to that of the JSON.
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

/// The creation sites of all goroutines in what the model reports about causes.
fn gopcs_of(causes: &CausesReport) -> impl Iterator<Item = u64> {
    let culprits = causes.culprits.iter().map(|culprit| culprit.gopc);
    let last = causes.stops.iter().filter_map(|stop| stop.last);
    let waits = causes.slowest.iter().flat_map(|wait| {
        let wakers = wait.wakers.iter().filter_map(|waker| match waker {
            Waker::Goroutine(who) => Some(*who),
            Waker::Netpoll | Waker::Scheduler | Waker::WithoutP => None,
        });
        wakers.chain(wait.behind).chain([wait.who])
    });
    culprits.chain(last.chain(waits).map(|who| who.gopc))
}
