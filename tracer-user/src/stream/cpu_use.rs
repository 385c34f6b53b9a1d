//! How much CPU time the target uses for each wait, before and while probes are in it: what their overhead is measured
//! by.

use serde::{Deserialize, Serialize};

/// Most slices of one capture; beyond it, neighbours are put together.
const MOST_SLICES: usize = 64;

/// CPU time and waits of a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuSlice {
    /// CPU time that the target's threads used in it, in nanoseconds.
    pub cpu_ns: u64,
    /// Entries that its runtime added to its histogram of waits (`sched.timeToRun`): one for each nominally eighth time
    /// that a goroutine ran. `p.schedtick` counts no goroutine that inherits a time slice, as one does that was woken by
    /// the one that runs.
    pub waits: u64,
}

/// Stretches of time of a target, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuUse {
    /// Just before the probes were attached.
    #[serde(default)]
    pub before: Vec<CpuSlice>,
    /// While they were.
    #[serde(default)]
    pub during: Vec<CpuSlice>,
}

impl CpuUse {
    /// Adds a slice with probes; a short one is put together with the one before it.
    pub fn add(&mut self, slice: CpuSlice, is_short: bool) {
        match self.during.last_mut().filter(|_| is_short) {
            Some(last) => *last = CpuSlice::sum(&[*last, slice]),
            None => self.during.push(slice),
        }
        if self.during.len() > MOST_SLICES {
            let merged = self.during.chunks(2).map(CpuSlice::sum);
            self.during = merged.collect();
        }
    }
}

impl CpuSlice {
    /// Puts slices together.
    pub fn sum(slices: &[Self]) -> Self {
        slices.iter().fold(Self::default(), |sum, slice| Self {
            cpu_ns: sum.cpu_ns.saturating_add(slice.cpu_ns),
            waits: sum.waits.saturating_add(slice.waits),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_capture_keeps_its_sum_and_few_slices() {
        let mut used = CpuUse::default();
        for n in 0..10_000 {
            used.add(CpuSlice { cpu_ns: n, waits: 1 }, n % 7 == 3);
            assert!(used.during.len() <= MOST_SLICES, "{}", used.during.len());
        }
        let sum = CpuSlice {
            cpu_ns: (0..10_000).sum(),
            waits: 10_000,
        };
        assert_eq!(CpuSlice::sum(&used.during), sum);
    }
}
