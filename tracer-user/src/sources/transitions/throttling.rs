//! Reads how much longer the target was throttled, as often as transitions need it.

use crate::{
    clock::now_ns,
    process::{NewlyThrottled, ThrottleWatch},
    stream::Throttling,
};

/// Least time between two readings. It must not be longer than transitions are held back: those that are emitted without
/// a new reading are then earlier than the last one, so that what it counted is already in its place.
pub const READ_EVERY_NS: u64 = 5_000_000;

/// Reads the throttling of one process.
#[derive(Debug)]
pub struct ThrottleReader {
    watch: ThrottleWatch,
    /// When it was last read.
    read_ns: u64,
}

impl ThrottleReader {
    /// Begins with what is counted from now on of a process, in gmpscope's PID namespace.
    pub fn new(pid: u32) -> Self {
        let now_ns = now_ns();
        Self {
            watch: ThrottleWatch::new(pid, now_ns),
            read_ns: now_ns,
        }
    }

    /// Returns what was counted since the last reading, and when that was; `None` where nothing was, or the last reading is
    /// recent. With `at_once` it is read in any case. `now_ns` is the clock just before.
    pub fn read(&mut self, now_ns: u64, at_once: bool) -> Option<(u64, Throttling)> {
        if !at_once && now_ns.saturating_sub(self.read_ns) < READ_EVERY_NS {
            return None;
        }
        let before_ns = std::mem::replace(&mut self.read_ns, now_ns);
        let NewlyThrottled { time_ns, periods } = self.watch.read(now_ns)?;
        let seen = Throttling {
            throttled_ns: time_ns,
            periods,
        };
        Some((before_ns, seen))
    }
}
