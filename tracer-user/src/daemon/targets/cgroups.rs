//! The CPU limit of a target's cgroups, and how often it was throttled.

use std::fs;
use std::time::Duration;

use crate::{
    daemon::view::{TargetView, Throttling},
    process::{self, Hierarchies},
};

/// How often the limits of cgroups are read, which seldom change.
const LIMITS_NS: u64 = 60_000_000_000;

/// The cgroups of a target.
#[derive(Debug, Default)]
pub(super) struct TargetCgroups {
    throttling: Vec<process::Throttling>,
    /// Those of each cgroup that has a limit.
    limited: Vec<process::Throttling>,
    limits_due_ns: u64,
}

impl TargetCgroups {
    /// Reads them for what is shown of the target.
    pub(super) fn read(&mut self, pid: i32, now_ns: u64, hierarchies: &Hierarchies, view: &mut TargetView) {
        if now_ns >= self.limits_due_ns {
            self.limits_due_ns = now_ns.saturating_add(LIMITS_NS);
            let text = fs::read(format!("/proc/{pid}/cgroup"));
            let cgroups = hierarchies.of(text.unwrap_or_default());
            self.throttling = cgroups.throttling();
            self.limited = cgroups.limited_throttling();
            view.cgroup_cpus = cgroups.cpu_limit();
        }
        let throttled = self.throttling.iter().find_map(process::Throttling::read);
        view.throttling = throttled.map(|throttled| Throttling {
            periods: throttled.periods,
            throttled_periods: throttled.throttled_periods,
            throttled: Duration::from_nanos(throttled.time_ns),
        });
    }

    /// The files that count how long it was throttled, of each cgroup that has a limit.
    pub(super) fn limited(&self) -> &[process::Throttling] {
        &self.limited
    }
}
