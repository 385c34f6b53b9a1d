//! Where goroutines block, and for how long at each place (`--stacks`).

use std::collections::HashMap;

use super::waits::Wait;
use crate::stream::transition::{StackSeen, StacksSeen};

/// Stacks, and the waits at each.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    /// By number.
    seen: HashMap<u32, StackSeen>,
    walked: u64,
    /// Of them, those that went on.
    pretended: u64,
    places: HashMap<Place, Blocked>,
}

/// What is told apart: the stack (0: not known), why it waited, and the `go` statement that made the goroutine.
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
    /// Those that go on.
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

    /// Adds what another one has.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.ongoing += other.ongoing;
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }
}

/// The answer as of one moment.
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
    /// Takes in what was told of stacks.
    pub fn observe(&mut self, seen: &StacksSeen) {
        self.walked = self.walked.saturating_add(seen.walked);
        // No source gives 0, which stands for one that is not known.
        for stack in seen.new.iter().filter(|stack| stack.id != 0) {
            self.seen.insert(stack.id, stack.clone());
        }
    }

    /// Whether any was told: else there is nothing to be counted.
    pub fn are_told(&self) -> bool {
        !self.seen.is_empty() || self.walked > 0
    }

    /// A stack.
    pub fn get(&self, id: u32) -> Option<&StackSeen> {
        self.seen.get(&id)
    }

    /// A goroutine with this stack (0: none) said that it waits, and goes on.
    pub fn pretended(&mut self, stack: u64) {
        self.pretended += u64::from(stack != 0);
    }

    /// A wait has ended.
    pub fn waited(&mut self, wait: &Wait) {
        self.places
            .entry(place_of(wait))
            .or_default()
            .add(wait.duration_ns, false);
    }

    /// The answer, with those waits that go on; `None` where no stack was told.
    pub fn report(&self, ongoing: &[Wait], reason: impl Fn(u8) -> String) -> Option<StacksReport> {
        if !self.are_told() {
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
            walked: self.walked.saturating_sub(self.pretended),
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
