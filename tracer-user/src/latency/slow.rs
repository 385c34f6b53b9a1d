//! The waits that were asked for one by one.

use hdrhistogram::Histogram as Hdr;

use crate::stream::SlowWait;

/// How many slow waits are kept, the longest; the others are counted.
const KEPT: usize = 100;

/// What is longer counts as this long in the distribution.
const LONGEST_NS: u64 = 1 << 57;

/// A slow wait and when it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Slow {
    /// When the goroutine began to run, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The wait.
    pub wait: SlowWait,
}

/// All slow waits: the longest hundred as they were, of all of them the number and the distribution.
#[derive(Clone, Debug)]
pub struct SlowWaits {
    /// Unordered until asked for.
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
    /// Takes one in.
    pub fn add(&mut self, at_ns: u64, wait: &SlowWait) {
        self.record(wait.latency_ns, 1);
        self.keep(Slow {
            at_ns,
            wait: wait.clone(),
        });
    }

    fn record(&mut self, latency_ns: u64, count: u64) {
        // The histogram grows with its largest value, and fails only where that is past all memory: not
        // below this limit of 4.5 years.
        let _ = self.values.record_n(latency_ns.min(LONGEST_NS), count);
    }

    fn keep(&mut self, slow: Slow) {
        self.kept.push(slow);
        // Sorted only now and then: one insertion costs a comparison, not a move of a hundred.
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

    /// Adds those of another.
    pub fn merge(&mut self, other: &SlowWaits) {
        for value in other.values.iter_recorded() {
            self.record(value.value_iterated_to(), value.count_at_value());
        }
        other.kept.iter().for_each(|slow| self.keep(slow.clone()));
    }

    /// How many there were, kept or not.
    pub fn count(&self) -> u64 {
        self.values.len()
    }

    /// The longest, the longest first; at most a hundred.
    pub fn longest(&self) -> Vec<Slow> {
        let mut sorted = Self {
            kept: self.kept.clone(),
            values: Self::default().values,
        };
        sorted.trim();
        sorted.kept
    }

    /// A quantile of all slow waits, to three significant digits; `None` when there are none.
    pub fn quantile_ns(&self, per_mille: u32) -> Option<u64> {
        let quantile = f64::from(per_mille.min(1000)) / 1000.0;
        (!self.values.is_empty()).then(|| self.values.value_at_quantile(quantile))
    }
}
