//! The protobuf format: `io.prometheus.client.MetricFamily`, each with its length before it, with native histograms.
//!
//! It is not left to `prometheus-client`, whose feature for it makes every build compile a protobuf compiler (a fifth
//! of all crates) for eight messages whose field numbers never change. Fields are numbered as in client_model's
//! `metrics.proto`; as in proto3, a field that has its default value is not written.

use std::fmt;

use super::{
    bounds::{Bounds, sum_seconds},
    encode::{AllLabels, Scrape},
    families::{Family, Kind},
    native::{Native, ZERO_THRESHOLD},
    sample::{Sample, Value},
};
use crate::latency::Histogram;

/// Encodes every family of a scrape, each with its length before it.
///
/// # Errors
/// A value does not have the type of its family.
pub fn encode(scrape: &Scrape) -> Result<Vec<u8>, fmt::Error> {
    let mut delimited = Vec::new();
    scrape.for_each(|family, groups| {
        let mut message = Message::default();
        message.string(1, family.name);
        message.string(2, family.help);
        message.uint(3, kind(family.kind));
        for (process, samples) in groups {
            for sample in samples {
                message.nested(4, &metric(family, &AllLabels(process, sample), sample)?);
            }
        }
        message.string(5, family.unit.unwrap_or_default());
        varint(&mut delimited, message.0.len() as u64);
        delimited.extend_from_slice(&message.0);
        Ok(())
    })?;
    Ok(delimited)
}

/// The enum `MetricType`.
const fn kind(kind: Kind) -> u64 {
    match kind {
        Kind::Counter => 0,
        // There is no type for `…_info`, which is a gauge of 1.
        Kind::Gauge | Kind::Info => 1,
        Kind::Histogram(_) => 4,
    }
}

fn metric(family: &Family, labels: &AllLabels, sample: &Sample) -> Result<Message, fmt::Error> {
    let mut metric = Message::default();
    for (name, value) in labels.iter() {
        let mut label = Message::default();
        label.string(1, name);
        label.string(2, value);
        metric.nested(1, &label);
    }
    let number = match (family.kind, &sample.value) {
        (Kind::Info, _) => 1.0,
        (Kind::Histogram(bounds), Value::Waits(waits)) => {
            metric.nested(7, &histogram(bounds, waits));
            return Ok(metric);
        }
        (_, Value::Count(count)) => *count as f64,
        (_, Value::Number(number)) => *number,
        // A mistake in the table, which a test finds.
        (_, Value::Waits(_)) => return Err(fmt::Error),
    };
    // The messages of counters and gauges are alike.
    let mut value = Message::default();
    value.double(1, number);
    metric.nested(if family.kind == Kind::Counter { 3 } else { 2 }, &value);
    Ok(metric)
}

fn histogram(bounds: Bounds, waits: &Histogram) -> Message {
    let mut histogram = Message::default();
    histogram.uint(1, waits.count());
    histogram.double(2, sum_seconds(waits));
    let mut cumulative = 0u64;
    for (upper, count) in bounds.count(waits) {
        cumulative = cumulative.saturating_add(count);
        let mut bucket = Message::default();
        bucket.uint(1, cumulative);
        bucket.double(2, upper);
        histogram.nested(3, &bucket);
    }
    let native = Native::of(waits);
    histogram.uint(5, zigzag(i64::from(native.schema)));
    histogram.double(6, ZERO_THRESHOLD);
    histogram.uint(7, native.zero_count);
    for (gap, length) in &native.spans {
        let mut span = Message::default();
        span.uint(1, zigzag(i64::from(*gap)));
        span.uint(2, u64::from(*length));
        histogram.nested(12, &span);
    }
    let mut deltas = Vec::new();
    for delta in &native.deltas {
        varint(&mut deltas, zigzag(*delta));
    }
    histogram.bytes(13, &deltas);
    histogram
}

/// The fields of a message, encoded.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    /// Appends a `uint64`, `uint32` or `enum`; with [`zigzag`] a `sint64` or `sint32`.
    fn uint(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.key(field, 0);
            varint(&mut self.0, value);
        }
    }

    /// Appends a `double`.
    fn double(&mut self, field: u32, value: f64) {
        if value != 0.0 {
            self.key(field, 1);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// Appends a `string`.
    fn string(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// Appends `bytes`, or a packed repeated field.
    fn bytes(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            self.delimited(field, value);
        }
    }

    /// Appends a nested message, even if it is empty.
    fn nested(&mut self, field: u32, message: &Message) {
        self.delimited(field, &message.0);
    }

    fn delimited(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, 2);
        varint(&mut self.0, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        varint(&mut self.0, u64::from(field << 3 | wire_type));
    }
}

/// Appends a number, seven bits to a byte, the lowest first.
fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Encodes 0, −1, 1, −2 … as 0, 1, 2, 3 …
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[cfg(test)]
mod tests;
