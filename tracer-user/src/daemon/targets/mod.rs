//! The Go processes that are watched, and when each is to be read.

mod ends;
mod governed;
mod target;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::fd::BorrowedFd,
    sync::Arc,
    time::Duration,
};

use self::ends::Ends;
pub use self::{
    governed::{Governed, settings, tier_of},
    target::{Target, Trouble, Watched},
};
use crate::daemon::view::TargetView;

/// Readings that fall into one of these stretches of time are made together: waking up costs as much as one.
const SLICE_NS: u64 = 250_000_000;

/// All of them, by PID.
#[derive(Debug)]
pub struct Targets {
    all: BTreeMap<u32, Planned>,
    /// When each is to be read next.
    due: BTreeSet<(u64, u32)>,
    ends: Ends,
    interval_ns: u64,
    /// One has come or gone since that was last asked.
    has_changed: bool,
}

#[derive(Debug)]
struct Planned {
    target: Target,
    due_ns: u64,
}

impl Targets {
    /// None; each is to be read once in every `interval`.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn new(interval: Duration) -> io::Result<Self> {
        Ok(Self {
            all: BTreeMap::new(),
            due: BTreeSet::new(),
            ends: Ends::new()?,
            interval_ns: nanos(interval),
            has_changed: false,
        })
    }

    /// Changes the interval. Those that would be read later than in one are read earlier.
    pub fn set_interval(&mut self, interval: Duration, now_ns: u64) {
        self.interval_ns = nanos(interval);
        for (_, pid) in std::mem::take(&mut self.due) {
            self.plan(pid, now_ns);
        }
    }

    /// Takes in one more, to be read at once.
    ///
    /// # Errors
    /// Its end cannot be waited for.
    pub fn insert(&mut self, target: Target, now_ns: u64) -> io::Result<()> {
        let pid = target.life().pid().unsigned_abs();
        self.remove(pid);
        self.ends.add(pid, target.life().pidfd())?;
        let due_ns = now_ns;
        self.all.insert(pid, Planned { target, due_ns });
        self.due.insert((due_ns, pid));
        self.has_changed = true;
        Ok(())
    }

    /// Lets one go.
    pub fn remove(&mut self, pid: u32) -> Option<Target> {
        let Planned { target, due_ns } = self.all.remove(&pid)?;
        self.due.remove(&(due_ns, pid));
        self.has_changed = true;
        Some(target)
    }

    /// Whether one has come or gone since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// One of them.
    pub fn get_mut(&mut self, pid: u32) -> Option<&mut Target> {
        self.all.get_mut(&pid).map(|planned| &mut planned.target)
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Target)> {
        self.all
            .iter_mut()
            .map(|(pid, planned)| (*pid, &mut planned.target))
    }

    /// Whether any is, or may be, probed.
    pub fn has_governed(&self) -> bool {
        self.all.values().any(|planned| planned.target.is_governed())
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What is shown of each.
    pub fn views(&self) -> Vec<Arc<TargetView>> {
        self.all
            .values()
            .map(|planned| Arc::clone(planned.target.view()))
            .collect()
    }

    /// Readable when one has ended.
    pub fn ends_fd(&self) -> BorrowedFd<'_> {
        self.ends.fd()
    }

    /// Those that have ended, until they are removed.
    ///
    /// # Errors
    /// None that is to be expected.
    pub fn ended(&self) -> io::Result<Vec<u32>> {
        self.ends.ended()
    }

    /// When the next is to be read.
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The next that is to be read now; planned anew.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<u32> {
        let (at, pid) = *self.due.first()?;
        if at > now_ns {
            return None;
        }
        self.due.pop_first();
        self.plan(pid, now_ns);
        Some(pid)
    }

    /// Every process has a place of its own in the interval, so that they are spread over it.
    fn plan(&mut self, pid: u32, now_ns: u64) {
        let mut hasher = DefaultHasher::new();
        pid.hash(&mut hasher);
        let place = hasher.finish() % self.interval_ns;
        if let Some(planned) = self.all.get_mut(&pid) {
            planned.due_ns = next(now_ns, self.interval_ns, place);
            self.due.insert((planned.due_ns, pid));
        }
    }
}

/// The first moment after now that lies `place` behind a multiple of the interval, to the next slice.
fn next(now_ns: u64, interval_ns: u64, place: u64) -> u64 {
    let begun = now_ns - now_ns % interval_ns;
    let candidates = [
        begun,
        begun.saturating_add(interval_ns),
        begun.saturating_add(2 * interval_ns),
    ];
    let at = candidates
        .into_iter()
        .map(|begun| begun.saturating_add(place))
        // Not twice at nearly the same moment.
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
        for place in [0, 1, interval / 3, interval - 1] {
            let mut at = 123_456_789_012;
            at = next(at, interval, place);
            for _ in 0..5 {
                let then = at;
                at = next(at, interval, place);
                let distance = at - then;
                assert!(distance.abs_diff(interval) <= SLICE_NS, "{place}: {distance}");
            }
        }
        // A reading that comes late does not move those after it.
        let on_time = next(50_000_000_000, interval, 5);
        assert_eq!(next(52_000_000_000, interval, 5), on_time);
    }
}
