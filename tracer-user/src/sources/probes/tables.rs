//! Reads the kernel's histograms, and yields what was added to them.

use std::collections::{BTreeSet, HashMap};

use aya::Ebpf;
use tracer_ebpf::{
    Histogram, OTHER_CREATION_SITES, Origin, creation_site_key, creation_site_of, histogram::BUCKETS,
};

use crate::{
    bpf::maps,
    error::Result,
    stream::{BucketScheme, HistogramDelta, HistogramKey},
};

/// The histograms as of the last reading.
pub struct Tables {
    /// Whether a latency of 0 ns is not a wait.
    zeros_are_not_waits: bool,
    last: HashMap<HistogramKey, Box<Reading>>,
    /// Creation sites that are known to have a histogram.
    creation_sites: BTreeSet<u64>,
}

/// One histogram, summed over CPUs.
#[derive(Clone)]
struct Reading {
    counts: [u64; BUCKETS],
    sum_ns: u64,
    max_ns: u64,
    min_ns_inverted: u64,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            sum_ns: 0,
            max_ns: 0,
            min_ns_inverted: 0,
        }
    }
}

impl Reading {
    fn add(&mut self, histogram: &Histogram) {
        for (sum, count) in self.counts.iter_mut().zip(&histogram.counts) {
            *sum += count;
        }
        self.sum_ns = self.sum_ns.wrapping_add(histogram.sum_ns);
        self.max_ns = self.max_ns.max(histogram.max_ns);
        self.min_ns_inverted = self.min_ns_inverted.max(histogram.min_ns_inverted);
    }
}

impl Tables {
    /// Starts without a reading. Set `zeros_are_not_waits` where the runtime's own figures are counted, in which 0 ns
    /// stands for no wait (or for one of less than a tick of its clock).
    pub fn new(zeros_are_not_waits: bool) -> Self {
        Self {
            zeros_are_not_waits,
            last: HashMap::new(),
            creation_sites: BTreeSet::from([OTHER_CREATION_SITES]),
        }
    }

    /// New waits of `exact`, one delta per origin that has any.
    pub fn exact(&mut self, ebpf: &mut Ebpf, target: u32) -> Result<Vec<HistogramDelta>> {
        let table = maps::exact_histograms(ebpf)?;
        let mut deltas = Vec::new();
        for origin in Origin::ALL {
            let index = target * Origin::COUNT + origin as u32;
            let per_cpu = table
                .get(&index, 0)
                .map_err(maps::context("read", "EXACT_HISTOGRAMS"))?;
            let mut reading = Box::<Reading>::default();
            for cpu in per_cpu.iter() {
                reading.add(&cpu.0);
            }
            deltas.extend(self.since_last(HistogramKey::Origin(origin), reading));
        }
        Ok(deltas)
    }

    /// New waits of `sampled`, one delta per creation site that has any. `made` is how many creation sites the
    /// kernel has made a histogram for: only where it has grown is the table walked, which all targets share.
    pub fn sampled(&mut self, ebpf: &mut Ebpf, target: u32, made: u64) -> Result<Vec<HistogramDelta>> {
        let table = maps::sampled_histograms(ebpf)?;
        // One more is the histogram for all others, which was made at the beginning.
        if (self.creation_sites.len() as u64) < made.saturating_add(1) {
            for key in table.keys() {
                let (of, gopc) = creation_site_of(key.map_err(maps::context("walk", "SAMPLED_HISTOGRAMS"))?);
                if of == target {
                    self.creation_sites.insert(gopc);
                }
            }
        }
        let mut deltas = Vec::new();
        let mut readings = Vec::with_capacity(self.creation_sites.len());
        for &gopc in &self.creation_sites {
            let histogram = table
                .get(&creation_site_key(target, gopc), 0)
                .map_err(maps::context("read", "SAMPLED_HISTOGRAMS"))?;
            let mut reading = Box::<Reading>::default();
            reading.add(&histogram.0);
            readings.push((gopc, reading));
        }
        for (gopc, reading) in readings {
            deltas.extend(self.since_last(HistogramKey::CreationSite(gopc), reading));
        }
        Ok(deltas)
    }

    /// The difference to the last reading under this key, which the new one replaces.
    fn since_last(&mut self, key: HistogramKey, reading: Box<Reading>) -> Option<HistogramDelta> {
        let last = self.last.entry(key).or_default();
        let mut counts: Vec<(u16, u64)> = (0u16..)
            .zip(reading.counts.iter().zip(&last.counts))
            .map(|(bucket, (now, before))| (bucket, now.wrapping_sub(*before)))
            .filter(|(_, count)| *count > 0)
            .collect();
        // The runtime records 0 ns for a goroutine that continues without having been Runnable, as after its stack
        // was moved or the world was stopped. The first bucket holds only zeros.
        let excluded_zero = match counts.first() {
            Some((0, zeros)) if self.zeros_are_not_waits => *zeros,
            _ => 0,
        };
        counts.drain(..usize::from(excluded_zero > 0));
        if counts.is_empty() && excluded_zero == 0 {
            // A reading may fall between a count and its sum: the sum then belongs to the next delta.
            return None;
        }
        let delta = HistogramDelta {
            key,
            scheme: BucketScheme::Kernel,
            counts,
            // `sampled` keeps no sums: they would cost the target another addition per hit.
            sum_ns: matches!(key, HistogramKey::Origin(_)).then(|| reading.sum_ns.wrapping_sub(last.sum_ns)),
            extremes_ns: (reading.max_ns > 0).then_some((!reading.min_ns_inverted, reading.max_ns)),
            excluded_zero,
        };
        *last = reading;
        Some(delta)
    }
}
