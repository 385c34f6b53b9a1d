//! How many waits the runtime of a target tracks.

use crate::stream::{Kind, Observation};

/// Waits that the runtime has tracked since they were last taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tracked {
    /// When they were last read.
    read_ns: Option<u64>,
    waits: u64,
    /// The time in which there were so many.
    length_ns: u64,
}

impl Tracked {
    /// Adds what was observed by a reading of the waits.
    pub(super) fn add(&mut self, seen: &[Observation], at_ns: u64) {
        let Some(before) = self.read_ns.replace(at_ns) else {
            return;
        };
        self.length_ns = self.length_ns.saturating_add(at_ns.saturating_sub(before));
        for observation in seen {
            if let Kind::HistogramDelta(delta) = &observation.kind {
                let counts = delta.counts.iter().map(|(_, count)| count);
                self.waits = counts.fold(self.waits, |sum, count| sum.saturating_add(*count));
            }
        }
    }

    /// (waits since the last call, in how many nanoseconds); `None` if they were not read meanwhile.
    pub(super) fn take(&mut self) -> Option<(u64, u64)> {
        let (waits, length_ns) = (
            std::mem::take(&mut self.waits),
            std::mem::take(&mut self.length_ns),
        );
        (length_ns > 0).then_some((waits, length_ns))
    }
}
