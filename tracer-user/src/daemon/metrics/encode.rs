//! Encodes the families with `prometheus-client`, in either of its text formats.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Unit,
};

use super::{
    bounds::{Bounds, sum_seconds},
    families::{Family, Kind, Read, ScrapedHost, ScrapedProcess, families},
    label::clean,
    sample::{Sample, Samples, Value},
    series::{OwnSeries, targets},
};
use crate::{
    daemon::{
        http::counters::Counts,
        view::{HostView, Name},
    },
    latency::Histogram,
};

/// What one scrape shows.
#[derive(Debug)]
pub struct Scrape {
    view: Arc<HostView>,
    own: OwnSeries,
    http: Counts,
}

/// The labels of a series: those of the process, then those of the family.
pub struct AllLabels<'a>(pub &'a [(&'static str, String)], pub &'a Sample<'a>);

impl AllLabels<'_> {
    /// The name and value of each label.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let process = self.0.iter().map(|(name, value)| (*name, value.as_str()));
        let own = self.1.labels.iter().map(|(name, value)| (*name, value.as_ref()));
        process.chain(own)
    }
}

impl EncodeLabelSet for AllLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        for label in self.iter() {
            label.encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// The labels of a process (none for series of the host), and its series of a family.
pub type Group<'a> = (&'a [(&'static str, String)], Samples<'a>);

impl Scrape {
    /// Creates a scrape of a view, of the histograms that were chosen from it, and of the server's counts.
    pub fn new(view: Arc<HostView>, own: OwnSeries, http: Counts) -> Self {
        Self { view, own, http }
    }

    /// Visits every family that has a series, with its series.
    ///
    /// # Errors
    /// The first error of `visit`.
    pub fn for_each(&self, mut visit: impl FnMut(&Family, &[Group]) -> fmt::Result) -> fmt::Result {
        let processes: Vec<(Vec<(&'static str, String)>, ScrapedProcess)> = targets(&self.view)
            .map(|target| {
                let sites = self.own.sites.get(&target.name.pid);
                (labels(&target.name), ScrapedProcess { target, sites })
            })
            .collect();
        let host = ScrapedHost {
            view: &self.view,
            starts: &self.own.starts,
            http: &self.http,
        };
        for family in families() {
            let mut groups: Vec<Group> = Vec::new();
            match family.read {
                Read::Process(read) => {
                    for (labels, process) in &processes {
                        let mut samples = Samples::new();
                        read(process, &mut samples);
                        groups.push((labels, samples));
                    }
                }
                Read::Host(read) => {
                    let mut samples = Samples::new();
                    read(&host, &mut samples);
                    groups.push((&[], samples));
                }
            }
            if groups.iter().any(|(_, samples)| !samples.is_empty()) {
                visit(family, &groups)?;
            }
        }
        Ok(())
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.for_each(|family, groups| write(&mut encoder, family, groups))
    }
}

/// The labels that name a process.
fn labels(name: &Name) -> Vec<(&'static str, String)> {
    let mut labels = vec![
        ("exe", clean(name.exe.raw()).into_owned()),
        ("comm", clean(name.comm.raw()).into_owned()),
        ("pid", name.pid.to_string()),
    ];
    for (key, value) in [("container", &name.container), ("pod", &name.pod)] {
        if let Some(value) = value {
            labels.push((key, clean(value).into_owned()));
        }
    }
    labels
}

fn write(encoder: &mut DescriptorEncoder, family: &Family, groups: &[Group]) -> fmt::Result {
    let unit = match family.unit {
        Some("seconds") => Some(Unit::Seconds),
        Some("bytes") => Some(Unit::Bytes),
        _ => None,
    };
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Info => MetricType::Info,
        Kind::Histogram(_) => MetricType::Histogram,
    };
    let mut metric = encoder.encode_descriptor(family.base(), family.help, unit.as_ref(), kind)?;
    for (process, samples) in groups {
        for sample in samples {
            let labels = AllLabels(process, sample);
            if family.kind == Kind::Info {
                metric.encode_info(&labels)?;
            } else if process.is_empty() && sample.labels.is_empty() {
                value(&mut metric, family.kind, &sample.value)?;
            } else {
                value(&mut metric.encode_family(&labels)?, family.kind, &sample.value)?;
            }
        }
    }
    Ok(())
}

fn value(metric: &mut MetricEncoder, kind: Kind, value: &Value) -> fmt::Result {
    const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;
    match (kind, value) {
        (Kind::Counter, Value::Count(count)) => metric.encode_counter(count, NO_EXEMPLAR),
        (Kind::Counter, Value::Number(number)) => metric.encode_counter(number, NO_EXEMPLAR),
        (Kind::Histogram(bounds), Value::Waits(waits)) => histogram(metric, bounds, waits),
        (_, Value::Count(count)) => metric.encode_gauge(count),
        (_, Value::Number(number)) => metric.encode_gauge(number),
        // A mistake in the table, which a test finds.
        (_, Value::Waits(_)) => Err(fmt::Error),
    }
}

fn histogram(metric: &mut MetricEncoder, bounds: Bounds, waits: &Histogram) -> fmt::Result {
    metric.encode_histogram::<NoLabelSet>(sum_seconds(waits), waits.count(), &bounds.count(waits), None)
}
