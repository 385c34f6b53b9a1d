//! Puts the transitions of the ring buffer in the order of time: a CPU reserves its place in the ring before it reads
//! the clock, so that transitions that are near in time may be swapped.
//!
//! The order of one goroutine's transitions never changes: each is sent before the next one can happen, so that the
//! ring has them in the order of their times, and equal times keep their places.

use super::transition::Transition;

/// Holds transitions back until nothing earlier can come.
#[derive(Debug, Default)]
pub struct Reorder {
    held: Vec<Transition>,
    /// Time of the latest transition that was released.
    released_ns: u64,
    late: u64,
}

impl Reorder {
    /// Returns an empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a transition, in the order of the ring.
    pub fn push(&mut self, transition: Transition) {
        self.late += u64::from(transition.at_ns < self.released_ns);
        self.held.push(transition);
    }

    /// Releases all transitions that are earlier than `until_ns`, in the order of time. One that comes after a later
    /// one was released is released all the same, and counted as late.
    pub fn until(&mut self, until_ns: u64) -> Vec<Transition> {
        // A stable sort, which is cheap on what is nearly in order.
        self.held.sort_by_key(|transition| transition.at_ns);
        let count = self
            .held
            .partition_point(|transition| transition.at_ns < until_ns);
        if let Some(latest) = count.checked_sub(1).and_then(|last| self.held.get(last)) {
            self.released_ns = self.released_ns.max(latest.at_ns);
        }
        if count == self.held.len() {
            let room = Vec::with_capacity(self.held.len());
            return std::mem::replace(&mut self.held, room);
        }
        self.held.drain(..count).collect()
    }

    /// Returns how many came too late since the last call.
    pub fn take_late(&mut self) -> u64 {
        std::mem::take(&mut self.late)
    }

    /// Returns how many are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at_ns: u64, subject: u64) -> Transition {
        Transition {
            at_ns,
            subject,
            ..Transition::default()
        }
    }

    #[test]
    fn swapped_transitions_are_put_in_order_and_equal_times_keep_their_places() {
        let mut reorder = Reorder::new();
        for t in [at(5, 1), at(3, 2), at(3, 3), at(9, 4), at(7, 5)] {
            reorder.push(t);
        }
        assert_eq!(reorder.until(7), [at(3, 2), at(3, 3), at(5, 1)]);
        reorder.push(at(8, 6));
        assert_eq!(reorder.held(), 3);
        assert_eq!(reorder.until(u64::MAX), [at(7, 5), at(8, 6), at(9, 4)]);
        assert_eq!(reorder.take_late(), 0);
    }

    #[test]
    fn what_comes_too_late_is_released_and_counted() {
        let mut reorder = Reorder::new();
        reorder.push(at(5, 1));
        assert_eq!(reorder.until(10).len(), 1);
        reorder.push(at(4, 2));
        // Not late: nothing later was released before it.
        reorder.push(at(9, 3));
        assert_eq!(reorder.until(11), [at(4, 2), at(9, 3)]);
        assert_eq!((reorder.take_late(), reorder.take_late()), (1, 0));
    }
}
