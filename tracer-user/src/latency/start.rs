//! How long each phase of a start took, over many starts.

use std::collections::BTreeMap;

use super::Histogram;
use crate::{
    model::start::Start,
    stream::{BucketScheme, HistogramDelta, HistogramKey},
};

/// The name under which whole starts are counted.
pub const TOTAL: &str = "total";

/// A histogram for each phase, and one for whole starts. Starts that did not come to their end are left out.
#[derive(Clone, Debug, Default)]
pub struct PhaseTimes {
    /// Names in the order in which they were first seen, which is the order of the phases.
    names: Vec<String>,
    by_name: BTreeMap<String, Histogram>,
}

impl PhaseTimes {
    /// Adds a start.
    pub fn add(&mut self, start: &Start) {
        if !start.ended.is_whole() {
            return;
        }
        for (name, ns) in durations(start) {
            self.record(&name, ns);
        }
        self.record(TOTAL, start.duration_ns());
    }

    fn record(&mut self, name: &str, ns: u64) {
        if !self.by_name.contains_key(name) {
            self.names.push(name.to_owned());
        }
        let scheme = BucketScheme::Kernel;
        self.by_name
            .entry(name.to_owned())
            .or_insert_with(|| Histogram::new(scheme))
            .add_delta(&HistogramDelta {
                key: HistogramKey::All,
                scheme,
                counts: vec![(scheme.index_of(ns), 1)],
                sum_ns: Some(ns),
                extremes_ns: Some((ns, ns)),
                excluded_zero: 0,
            });
    }

    /// (name, histogram), in the order of the phases; [`TOTAL`] where it came first.
    pub fn phases(&self) -> impl Iterator<Item = (&str, &Histogram)> {
        self.names
            .iter()
            .filter_map(|name| Some((name.as_str(), self.by_name.get(name)?)))
    }

    /// The histogram of whole starts.
    pub fn total(&self) -> Option<&Histogram> {
        self.by_name.get(TOTAL)
    }
}

/// (name, time) of each phase of a start. A phase that is in several pieces is listed once, with their sum.
pub fn durations(start: &Start) -> Vec<(String, u64)> {
    let mut durations: Vec<(String, u64)> = Vec::new();
    for phase in &start.phases {
        let name = phase.kind.name();
        match durations.iter_mut().find(|(known, _)| *known == name) {
            Some((_, ns)) => *ns = ns.saturating_add(phase.duration_ns()),
            None => durations.push((name, phase.duration_ns())),
        }
    }
    durations
}
