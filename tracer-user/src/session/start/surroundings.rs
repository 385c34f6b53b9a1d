//! What starts depend on: limits of the cgroup, settings of the Go runtime.

use std::fs;

use crate::{process::Process, stream::step::Environment};

/// What is known of the environment by now.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The latest of each.
    pub known: Environment,
    throttled_before: Option<(u64, u64)>,
}

impl Surroundings {
    /// Looks at a process of ours that is held.
    pub fn of_held(&mut self, pid: u32) {
        if let Some(process) = open(pid) {
            self.known.cgroup_cpu_limit = process.cgroup_cpu_limit();
            self.throttled_before = self.throttled_before.or_else(|| process.cgroup_throttled());
        }
        self.known.godebug = std::env::var("GODEBUG").ok();
    }

    /// Looks at somebody else's process that has just started: what can still be seen of it.
    pub fn of_other(&mut self, pid: u32) {
        if let Some(process) = open(pid) {
            self.known.cgroup_cpu_limit = process.cgroup_cpu_limit();
        }
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        self.known.godebug = environment
            .split(|byte| *byte == 0)
            .find_map(|setting| setting.strip_prefix(b"GODEBUG="))
            .map(|value| String::from_utf8_lossy(value).into_owned());
    }

    /// How often the cgroup of a process of ours was throttled since it was held: it is our own.
    pub fn settle(&mut self) {
        let now = open(std::process::id()).and_then(|ourselves| ourselves.cgroup_throttled());
        self.known.throttled = now
            .zip(self.throttled_before)
            .map(|(now, before)| (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1)));
    }
}

fn open(pid: u32) -> Option<Process> {
    Process::open(i32::try_from(pid).ok()?).ok()
}
