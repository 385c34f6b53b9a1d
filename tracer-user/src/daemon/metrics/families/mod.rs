//! The table of all families: what is exported, under which name, and where it is read from.

mod host;
mod runtime;
mod tracing;
mod waits;

use std::collections::BTreeMap;

use super::{
    bounds::Bounds,
    sample::Samples,
    series::{Named, Starts},
};
use crate::daemon::{
    http::counters::Counts,
    view::{HostView, TargetView},
};

/// A family: all series of one name.
#[derive(Debug)]
pub struct Family {
    /// Its name in PromQL, with unit, `_total` or `_info`; that of a histogram without `_bucket`, `_sum`, `_count`.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// `seconds` or `bytes`; `None` for a plain number.
    pub unit: Option<&'static str>,
    /// What it means, for people, in one line.
    pub help: &'static str,
    /// Its labels besides those of the process.
    pub labels: &'static [&'static str],
    /// Where it is read from.
    pub read: Read,
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A count that only grows.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// Always 1; the labels are the information.
    Info,
    /// A histogram of durations, with these classic buckets and native ones.
    Histogram(Bounds),
}

/// Where a family is read from.
#[derive(Clone, Copy, Debug)]
pub enum Read {
    /// From each process; its series have the labels of the process.
    Process(for<'a> fn(&ScrapedProcess<'a>, &mut Samples<'a>)),
    /// From the host as a whole, or the daemon.
    Host(for<'a> fn(&ScrapedHost<'a>, &mut Samples<'a>)),
}

/// One process of a scrape.
#[derive(Clone, Copy, Debug)]
pub struct ScrapedProcess<'a> {
    /// The process.
    pub target: &'a TargetView,
    /// Its waits by creation site, bounded.
    pub sites: Option<&'a Named>,
}

/// The rest of a scrape.
#[derive(Clone, Copy, Debug)]
pub struct ScrapedHost<'a> {
    /// What the daemon knows.
    pub view: &'a HostView,
    /// Starts by binary, bounded.
    pub starts: &'a BTreeMap<String, Starts>,
    /// What the server counted.
    pub http: &'a Counts,
}

impl Family {
    /// Its name without what its type and unit add.
    pub fn base(&self) -> &'static str {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram(_) => "",
        };
        let name = self.name.strip_suffix(suffix).unwrap_or(self.name);
        match self.unit {
            Some(unit) => name
                .strip_suffix(unit)
                .and_then(|name| name.strip_suffix('_'))
                .unwrap_or(name),
            None => name,
        }
    }

    /// The type as Prometheus names it.
    pub const fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Info => "info",
            Kind::Histogram(_) => "histogram",
        }
    }
}

/// Every family, in the order in which they are exported and documented.
pub fn families() -> impl Iterator<Item = &'static Family> {
    groups().into_iter().flat_map(|(_, families)| families)
}

/// The families, by subject.
pub fn groups() -> [(&'static str, &'static [Family]); 5] {
    [
        ("How long goroutines waited to run", waits::WAITS),
        ("How programs started", waits::STARTS),
        ("The runtime of each process", runtime::FAMILIES),
        ("How each process is watched", tracing::FAMILIES),
        ("The daemon", host::FAMILIES),
    ]
}
