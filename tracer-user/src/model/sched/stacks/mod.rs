//! Where goroutines block, and for how long at each place (`--stacks`).

use std::collections::HashMap;

use super::change::Change;
use super::waits::Wait;
use crate::stream::transition::{StackSeen, StacksSeen};

/// The stacks that were seen, and the waits at each.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    /// Stacks by [`StackSeen::id`].
    seen: HashMap<u32, StackSeen>,
    walked: u64,
    /// Of them, those of goroutines that kept running.
    skipped: u64,
    places: HashMap<Place, Blocked>,
}

/// What waits are counted by: the stack (0: not known), the reason, and the `go` statement that made the goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// [`StackSeen::id`].
    pub stack: u32,
    /// The number of the reason.
    pub reason: u8,
    /// `g.gopc`; 0 where it is not known.
    pub gopc: u64,
}

/// Waits at one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    /// Those that ended.
    pub count: u64,
    /// Those that have not ended.
    pub ongoing: u64,
    /// Nanoseconds of all of them.
    pub total_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

impl Blocked {
    /// Adds a wait.
    pub fn add(&mut self, ns: u64, ongoing: bool) {
        *(if ongoing {
            &mut self.ongoing
        } else {
            &mut self.count
        }) += 1;
        self.total_ns = self.total_ns.saturating_add(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds the waits of another place.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.ongoing += other.ongoing;
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }
}

/// Where goroutines blocked, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct StacksReport {
    /// Goroutines that blocked in the capture.
    pub walked: u64,
    /// Different stacks.
    pub different: u64,
    /// Places, those with the longest time in all first.
    pub places: Vec<PlaceReport>,
    /// Waits of which it is not known where: they began before the capture, or their stack was lost.
    pub elsewhere: Blocked,
}

/// Waits at one place.
#[derive(Clone, Debug)]
pub struct PlaceReport {
    /// Where.
    pub stack: StackSeen,
    /// Why, in the runtime's words.
    pub reason: String,
    /// Where the goroutines were made; 0 where that is not known.
    pub gopc: u64,
    /// How many, and how long.
    pub blocked: Blocked,
}

impl Stacks {
    /// Takes in stacks that were seen.
    pub fn observe(&mut self, seen: &StacksSeen) {
        self.walked = self.walked.saturating_add(seen.walked);
        // No source gives 0, which stands for one that is not known.
        for stack in seen.new.iter().filter(|stack| stack.id != 0) {
            self.seen.insert(stack.id, stack.clone());
        }
    }

    /// Whether the capture records stacks: else there is nothing to count.
    pub fn are_recorded(&self) -> bool {
        !self.seen.is_empty() || self.walked > 0
    }

    /// The stack with this number.
    pub fn get(&self, id: u32) -> Option<&StackSeen> {
        self.seen.get(&id)
    }

    /// Leaves a stack (0: none) out of those walked: its goroutine said that it waits, and kept running.
    pub fn skip_walk(&mut self, stack: u64) {
        self.skipped += u64::from(stack != 0);
    }

    /// Adds the wait that a change ends.
    #[inline(always)]
    pub fn follow(&mut self, change: &Change) {
        if self.are_recorded()
            && let Some(wait) = Wait::ended_by(change)
        {
            self.places
                .entry(place_of(&wait))
                .or_default()
                .add(wait.duration_ns, false);
        }
    }

    /// All waits by place, with those that have not ended; `None` where stacks are not recorded.
    pub fn report(&self, ongoing: &[Wait], reason: impl Fn(u8) -> String) -> Option<StacksReport> {
        if !self.are_recorded() {
            return None;
        }
        let mut places = self.places.clone();
        for wait in ongoing {
            places
                .entry(place_of(wait))
                .or_default()
                .add(wait.duration_ns, true);
        }
        let mut report = StacksReport {
            walked: self.walked.saturating_sub(self.skipped),
            different: self.seen.len() as u64,
            ..StacksReport::default()
        };
        let mut places: Vec<_> = places.into_iter().collect();
        places.sort_by_key(|(place, blocked)| (std::cmp::Reverse(blocked.total_ns), *place));
        for (place, blocked) in places {
            match self.seen.get(&place.stack) {
                Some(stack) => report.places.push(PlaceReport {
                    stack: stack.clone(),
                    reason: reason(place.reason),
                    gopc: place.gopc,
                    blocked,
                }),
                None => report.elsewhere.merge(&blocked),
            }
        }
        Some(report)
    }
}

fn place_of(wait: &Wait) -> Place {
    Place {
        stack: wait.stack,
        reason: wait.reason,
        gopc: wait.gopc,
    }
}

#[cfg(test)]
mod tests;
