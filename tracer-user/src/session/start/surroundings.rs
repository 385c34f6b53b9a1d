//! Reads what starts depend on: the limits of the cgroup and the settings of the Go runtime.

use crate::{
    process::{Process, limits::godebug_of},
    stream::step::Environment,
};

/// The environment of the processes that start, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// What was read last.
    pub known: Environment,
    /// The throttling of the cgroup before the first process was released.
    throttled_before: Option<(u64, u64)>,
}

impl Surroundings {
    /// Reads the environment of our own command while it is held.
    pub fn read_held(&mut self, pid: u32) {
        if let Some(process) = open(pid) {
            self.known.cgroup_cpu_limit = process.cgroup_cpu_limit();
            self.throttled_before = self.throttled_before.or_else(|| process.cgroup_throttled());
        }
        self.known.godebug = std::env::var("GODEBUG").ok();
    }

    /// Reads what can still be seen of the environment of somebody else's process, which has just started.
    pub fn read_other(&mut self, pid: u32) {
        if let Some(process) = open(pid) {
            self.known.cgroup_cpu_limit = process.cgroup_cpu_limit();
        }
        self.known.godebug = godebug_of(pid);
    }

    /// Reads how often the cgroup was throttled since our command was held, which is in the same cgroup as we are.
    pub fn read_throttled(&mut self) {
        let now = open(std::process::id()).and_then(|ourselves| ourselves.cgroup_throttled());
        self.known.throttled = now
            .zip(self.throttled_before)
            .map(|(now, before)| (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1)));
    }
}

fn open(pid: u32) -> Option<Process> {
    Process::open(i32::try_from(pid).ok()?).ok()
}
