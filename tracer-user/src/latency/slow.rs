//! Slow waits, which are recorded one by one.

use hdrhistogram::Histogram as Hdr;

use crate::stream::SlowWait;

/// How many of the longest slow waits are kept; the others are only counted.
const KEPT: usize = 100;

/// Longer waits count as this long in the distribution.
const LONGEST_NS: u64 = 1 << 57;

/// A slow wait and when it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Slow {
    /// When the goroutine began to run, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The wait.
    pub wait: SlowWait,
}

/// All slow waits: the longest hundred, and the number and distribution of all.
#[derive(Clone, Debug)]
pub struct SlowWaits {
    /// Not sorted.
    kept: Vec<Slow>,
    values: Hdr<u64>,
}

impl Default for SlowWaits {
    fn default() -> Self {
        // Three significant digits, growing as needed; 3 is within what the library accepts.
        let values = Hdr::new(3).unwrap_or_else(|_| unreachable!("3 significant digits are supported"));
        Self {
            kept: Vec::new(),
            values,
        }
    }
}

impl SlowWaits {
    /// Adds a slow wait.
    pub fn add(&mut self, at_ns: u64, wait: &SlowWait) {
        self.record(wait.latency_ns, 1);
        self.keep(Slow {
            at_ns,
            wait: wait.clone(),
        });
    }

    fn record(&mut self, latency_ns: u64, count: u64) {
        // The histogram grows with its largest value, and fails only if that exceeds all memory, which it does not
        // below this limit of 4.5 years.
        let _ = self.values.record_n(latency_ns.min(LONGEST_NS), count);
    }

    fn keep(&mut self, slow: Slow) {
        self.kept.push(slow);
        // Sorted only now and then, so that an insertion is cheap.
        if self.kept.len() >= 2 * KEPT {
            self.trim();
        }
    }

    fn trim(&mut self) {
        self.kept.sort_by(|a, b| {
            b.wait
                .latency_ns
                .cmp(&a.wait.latency_ns)
                .then(a.at_ns.cmp(&b.at_ns))
        });
        self.kept.truncate(KEPT);
    }

    /// Adds the slow waits of another.
    pub fn merge(&mut self, other: &SlowWaits) {
        for value in other.values.iter_recorded() {
            self.record(value.value_iterated_to(), value.count_at_value());
        }
        other.kept.iter().for_each(|slow| self.keep(slow.clone()));
    }

    /// Number of slow waits, kept or not.
    pub fn count(&self) -> u64 {
        self.values.len()
    }

    /// The longest ones, at most a hundred, longest first.
    pub fn longest(&self) -> Vec<Slow> {
        let mut sorted = Self {
            kept: self.kept.clone(),
            values: Self::default().values,
        };
        sorted.trim();
        sorted.kept
    }

    /// A quantile of all slow waits, to three significant digits; `None` if there are none.
    pub fn quantile_ns(&self, per_mille: u32) -> Option<u64> {
        let quantile = f64::from(per_mille.min(1000)) / 1000.0;
        (!self.values.is_empty()).then(|| self.values.value_at_quantile(quantile))
    }
}
