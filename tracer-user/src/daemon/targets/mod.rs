//! The Go processes that are watched or shown, and when each is to be read.

mod cgroups;
mod exits;
mod governed;
mod samples;
mod target;
mod tracked;
mod watched;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::fd::BorrowedFd,
    sync::Arc,
    time::Duration,
};

use self::{exits::Exits, samples::SampleTimes};
pub use self::{
    governed::{Governed, settings, tier_of},
    samples::sample_delay,
    target::Target,
    watched::{ReadFailure, Watched},
};
use crate::daemon::view::TargetView;

/// Readings are made together at multiples of this time: waking up costs as much as a reading.
const SLICE_NS: u64 = 250_000_000;

/// All targets.
#[derive(Debug)]
pub struct Targets {
    by_pid: BTreeMap<u32, Scheduled>,
    /// (when, PID) of the next reading of each.
    due: BTreeSet<(u64, u32)>,
    /// When those that are busy are to be sampled.
    samples: SampleTimes,
    exits: Exits,
    interval_ns: u64,
    /// Whether a target was added or removed since [`Self::take_changed`] was called.
    has_changed: bool,
}

#[derive(Debug)]
struct Scheduled {
    target: Target,
    due_ns: u64,
}

impl Targets {
    /// Creates an empty set; each target is to be read once in every `interval`.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn new(interval: Duration) -> io::Result<Self> {
        Ok(Self {
            by_pid: BTreeMap::new(),
            due: BTreeSet::new(),
            samples: SampleTimes::default(),
            exits: Exits::new()?,
            interval_ns: nanos(interval),
            has_changed: false,
        })
    }

    /// Changes the interval, and schedules all readings anew.
    pub fn set_interval(&mut self, interval: Duration, now_ns: u64) {
        self.interval_ns = nanos(interval);
        for (_, pid) in std::mem::take(&mut self.due) {
            self.schedule(pid, now_ns);
        }
    }

    /// Adds a target, which is to be read at once.
    ///
    /// # Errors
    /// The exit of the process cannot be waited for.
    pub fn insert(&mut self, target: Target, now_ns: u64) -> io::Result<()> {
        let pid = target.life().pid().unsigned_abs();
        self.remove(pid);
        self.exits.add(pid, target.life().pidfd())?;
        let due_ns = now_ns;
        self.by_pid.insert(pid, Scheduled { target, due_ns });
        self.due.insert((due_ns, pid));
        self.has_changed = true;
        Ok(())
    }

    /// Removes a target.
    pub fn remove(&mut self, pid: u32) -> Option<Target> {
        let Scheduled { target, due_ns } = self.by_pid.remove(&pid)?;
        self.due.remove(&(due_ns, pid));
        self.samples.remove(pid);
        self.has_changed = true;
        Some(target)
    }

    /// Whether a target was added or removed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// The target of this PID.
    pub fn get_mut(&mut self, pid: u32) -> Option<&mut Target> {
        self.by_pid.get_mut(&pid).map(|scheduled| &mut scheduled.target)
    }

    /// All targets, by PID.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Target)> {
        self.by_pid
            .iter_mut()
            .map(|(pid, scheduled)| (*pid, &mut scheduled.target))
    }

    /// Whether any target is probed, or may be.
    pub fn has_governed(&self) -> bool {
        self.by_pid
            .values()
            .any(|scheduled| scheduled.target.is_governed())
    }

    /// How many targets there are.
    pub fn len(&self) -> usize {
        self.by_pid.len()
    }

    /// Whether there is no target.
    pub fn is_empty(&self) -> bool {
        self.by_pid.is_empty()
    }

    /// What is shown of each target.
    pub fn views(&self) -> Vec<Arc<TargetView>> {
        self.by_pid
            .values()
            .map(|scheduled| Arc::clone(scheduled.target.view()))
            .collect()
    }

    /// Readable when a process has ended.
    pub fn exits_fd(&self) -> BorrowedFd<'_> {
        self.exits.fd()
    }

    /// The targets whose process has ended and that were not removed yet.
    ///
    /// # Errors
    /// The kernel refuses the wait, which is not expected.
    pub fn ended(&self) -> io::Result<Vec<u32>> {
        self.exits.ended()
    }

    /// When the next target is to be read or sampled.
    pub fn next_due(&self) -> Option<u64> {
        let read = self.due.first().map(|(at, _)| *at);
        // Samples are taken when the loop turns.
        let sampled = self.samples.next().map(|at| at.next_multiple_of(SLICE_NS));
        read.into_iter().chain(sampled).min()
    }

    /// Has a target sampled again soon if it is busy, else with its next reading. `cost` is the CPU time that the last
    /// sample has cost us.
    pub fn schedule_sample(&mut self, pid: u32, now_ns: u64, cost: Duration) {
        let Some(scheduled) = self.by_pid.get_mut(&pid) else {
            return;
        };
        let longest_ns = match scheduled.target.sampled.is_busy() {
            true => self.samples.schedule(pid, now_ns, cost),
            false => {
                self.samples.remove(pid);
                0
            }
        };
        // Both may come late.
        scheduled.target.sampled.most_ns = longest_ns.max(self.interval_ns).saturating_mul(2);
    }

    /// Has a target read with the next slice, since that was not possible now.
    pub fn read_soon(&mut self, pid: u32, now_ns: u64) {
        if let Some(scheduled) = self.by_pid.get_mut(&pid) {
            self.due.remove(&(scheduled.due_ns, pid));
            let slice_ns = SLICE_NS.min(self.interval_ns);
            scheduled.due_ns = now_ns.saturating_add(1).next_multiple_of(slice_ns);
            self.due.insert((scheduled.due_ns, pid));
        }
    }

    /// Returns the next busy target that is to be sampled now.
    pub fn pop_sample(&mut self, now_ns: u64) -> Option<u32> {
        self.samples.pop(now_ns)
    }

    /// Returns the next target that is to be read now, and schedules its next reading.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<u32> {
        let (at, pid) = *self.due.first()?;
        if at > now_ns {
            return None;
        }
        self.due.pop_first();
        self.schedule(pid, now_ns);
        Some(pid)
    }

    /// Schedules the next reading. Every process has its own offset in the interval, so that readings are spread over
    /// it.
    fn schedule(&mut self, pid: u32, now_ns: u64) {
        let mut hasher = DefaultHasher::new();
        pid.hash(&mut hasher);
        let offset_ns = hasher.finish() % self.interval_ns;
        if let Some(scheduled) = self.by_pid.get_mut(&pid) {
            scheduled.due_ns = next_reading(now_ns, self.interval_ns, offset_ns);
            self.due.insert((scheduled.due_ns, pid));
        }
    }
}

/// The next time that lies `offset_ns` behind a multiple of the interval, rounded up to a multiple of [`SLICE_NS`].
fn next_reading(now_ns: u64, interval_ns: u64, offset_ns: u64) -> u64 {
    let begun = now_ns - now_ns % interval_ns;
    let candidates = [
        begun,
        begun.saturating_add(interval_ns),
        begun.saturating_add(2 * interval_ns),
    ];
    let at = candidates
        .into_iter()
        .map(|begun| begun.saturating_add(offset_ns))
        // Not again shortly after the last reading.
        .find(|at| *at > now_ns.saturating_add(interval_ns / 4))
        .unwrap_or(now_ns.saturating_add(interval_ns));
    at.next_multiple_of(SLICE_NS.min(interval_ns))
}

fn nanos(interval: Duration) -> u64 {
    u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_spread_over_the_interval_and_keep_their_distance() {
        let interval = 10_000_000_000;
        for offset_ns in [0, 1, interval / 3, interval - 1] {
            let mut at = 123_456_789_012;
            at = next_reading(at, interval, offset_ns);
            for _ in 0..5 {
                let then = at;
                at = next_reading(at, interval, offset_ns);
                let distance = at - then;
                assert!(distance.abs_diff(interval) <= SLICE_NS, "{offset_ns}: {distance}");
            }
        }
        // A late reading does not delay those after it.
        let on_time = next_reading(50_000_000_000, interval, 5);
        assert_eq!(next_reading(52_000_000_000, interval, 5), on_time);
    }
}
