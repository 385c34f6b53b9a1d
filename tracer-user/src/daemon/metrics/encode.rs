//! From the families to an encoder of `prometheus-client`, whatever it writes.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NativeHistogram,
        NativeHistogramBuckets, NoLabelSet,
    },
    metrics::{MetricType, exemplar::Exemplar},
    registry::Unit,
};

use super::{
    bounds::{Bounds, sum_seconds},
    families::{Family, Host, Kind, Process, Read, families},
    label::clean,
    native::{Native, ZERO_THRESHOLD},
    sample::{Sample, Samples, Value},
    series::{Own, targets},
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
    own: Own,
    http: Counts,
}

/// Labels of a process, then those of the family.
struct All<'a>(&'a [(&'static str, String)], &'a Sample<'a>);

impl EncodeLabelSet for All<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        for (name, value) in self.0 {
            (*name, value.as_str()).encode(encoder.encode_label())?;
        }
        for (name, value) in &self.1.labels {
            (*name, value.as_ref()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl Scrape {
    /// Of a view, the histograms that were chosen from it, and what the server counted.
    pub fn new(view: Arc<HostView>, own: Own, http: Counts) -> Self {
        Self { view, own, http }
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let processes: Vec<(Vec<(&'static str, String)>, Process)> = targets(&self.view)
            .map(|target| {
                let sites = self.own.sites.get(&target.name.pid);
                (labels(&target.name), Process { target, sites })
            })
            .collect();
        let host = Host {
            view: &self.view,
            starts: &self.own.starts,
            http: &self.http,
        };
        for family in families() {
            let mut groups: Vec<(&[(&'static str, String)], Samples)> = Vec::new();
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
            write(&mut encoder, family, &groups)?;
        }
        Ok(())
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

fn write(
    encoder: &mut DescriptorEncoder,
    family: &Family,
    groups: &[(&[(&'static str, String)], Samples)],
) -> fmt::Result {
    if groups.iter().all(|(_, samples)| samples.is_empty()) {
        return Ok(());
    }
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
            let labels = All(process, sample);
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
        // A mistake in the table, which its test finds.
        (_, Value::Waits(_)) => Err(fmt::Error),
    }
}

fn histogram(metric: &mut MetricEncoder, bounds: Bounds, waits: &Histogram) -> fmt::Result {
    let native = Native::of(waits);
    metric.encode_histogram_with_native::<NoLabelSet>(
        sum_seconds(waits),
        waits.count(),
        &bounds.count(waits),
        None,
        NativeHistogram {
            schema: native.schema,
            zero_threshold: ZERO_THRESHOLD,
            zero_count: native.zero_count,
            negative: NativeHistogramBuckets {
                spans: &[],
                deltas: &[],
            },
            positive: NativeHistogramBuckets {
                spans: &native.spans,
                deltas: &native.deltas,
            },
            created: None,
        },
    )
}
