//! What the kernel counts of the throttling of a cgroup.

use std::{fs, path::PathBuf};

/// The `cpu.stat` of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttling(pub(super) PathBuf);

/// How much a cgroup was throttled since it was created, because its quota was used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttled {
    /// Periods in which something wanted to run.
    pub periods: u64,
    /// Of them, those in which the quota was used up.
    pub throttled_periods: u64,
    /// Throttled time, summed over CPUs, in nanoseconds.
    pub time_ns: u64,
}

impl Throttling {
    /// Reads the current values.
    pub fn read(&self) -> Option<Throttled> {
        Throttled::parse(&fs::read_to_string(&self.0).ok()?)
    }
}

impl Throttled {
    /// Reads a `cpu.stat`, of v1 (nanoseconds) or v2 (microseconds).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            let mut lines = text.lines();
            let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            found?.trim().parse::<u64>().ok()
        };
        let time_ns = value("throttled_time").or_else(|| value("throttled_usec")?.checked_mul(1_000));
        Some(Self {
            periods: value("nr_periods")?,
            throttled_periods: value("nr_throttled")?,
            time_ns: time_ns?,
        })
    }
}
