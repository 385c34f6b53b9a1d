//! Exports a [`HostView`] as metrics for Prometheus.
//!
//! ```text
//! HostView ──▶ families (one table: name, type, unit, HELP, labels, how it is read) ──▶ encode ──▶ bytes
//!                  └──▶ document: docs/metrics.md
//! ```
//!
//! The crate `prometheus-client` writes text 0.0.4 and OpenMetrics 1.0; the module `protobuf` writes the delimited
//! protobuf with native histograms. Each scrape makes a new registry of one collector, rather than keep metrics
//! registered: so counts are encoded as they are, and series of a process that has ended disappear. No `_created` is
//! written: the daemon does not know when the runtime of a target began to count.

mod bounds;
mod document;
mod encode;
mod families;
mod format;
mod label;
mod native;
mod protobuf;
mod sample;
mod series;
#[cfg(test)]
pub mod testing;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use prometheus_client::{
    encoding::{prometheus_text, text},
    registry::Registry,
};

pub use self::{
    bounds::Bounds,
    document::document,
    families::{Family, Kind, families},
    format::Format,
    label::MOST_BYTES,
    series::{INIT_PACKAGES, targets},
};
use self::{encode::Scrape, series::Chosen};
use crate::daemon::{http::counters::Counts, view::HostView};

/// Renders the metrics. One is kept for the life of the daemon: it remembers which creation sites have series of their
/// own.
#[derive(Debug, Default)]
pub struct Exposition {
    chosen: Mutex<Chosen>,
}

impl Exposition {
    /// Creates one in which no creation site has a series yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Renders all series of a view, which takes some 0.1 ms for each target.
    pub fn render(&self, view: Arc<HostView>, http: Counts, format: Format) -> Result<Bytes, fmt::Error> {
        let own = self
            .chosen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .series(&view);
        let scrape = Scrape::new(view, own, http);
        if format == Format::Protobuf {
            return Ok(protobuf::encode(&scrape)?.into());
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(scrape));
        let mut written = String::new();
        if format == Format::Text {
            prometheus_text::encode(&mut written, &registry)?;
        } else {
            text::encode(&mut written, &registry)?;
        }
        Ok(written.into())
    }
}

#[cfg(test)]
mod tests;
