//! The free slots of the kernel's tables.

use std::collections::BTreeSet;

/// A slot as its holder knows it: differs from the ids of earlier holders of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    pub(super) index: u32,
    generation: u64,
}

/// The free slots.
#[derive(Clone, Debug)]
pub struct Slots {
    /// Slots below this index can do `exact`, the others cannot.
    exact: u32,
    free: BTreeSet<u32>,
    generation: u64,
}

impl Slots {
    /// Slots for `targets`, of which the first `exact` can do `exact`. The one after these is left out: calibration uses
    /// it.
    pub fn new(targets: u32, exact: u32) -> Self {
        Self {
            exact,
            free: (0..=targets).filter(|index| *index != exact).collect(),
            generation: 0,
        }
    }

    /// Takes a free slot, if there is one; with `exact`, one that can do that. Without it, such slots are taken last.
    pub fn take(&mut self, exact: bool) -> Option<SlotId> {
        let index = match exact {
            true => self.free.range(..self.exact).next(),
            false => self.free.range(self.exact..).next().or_else(|| self.free.first()),
        };
        let index = *index?;
        self.free.remove(&index);
        self.generation += 1;
        Some(SlotId {
            index,
            generation: self.generation,
        })
    }

    /// Gives a slot back.
    pub fn give_back(&mut self, index: u32) {
        self.free.insert(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_given_once_and_calibrations_never() {
        let mut slots = Slots::new(5, 2);
        let taken: Vec<u32> = std::iter::from_fn(|| slots.take(false))
            .map(|slot| slot.index)
            .collect();
        assert_eq!(taken, [3, 4, 5, 0, 1]);
        slots.give_back(4);
        assert_eq!(slots.take(true), None, "4 has no histograms of exact");
        assert_eq!(slots.take(false).map(|slot| slot.index), Some(4));
    }

    #[test]
    fn a_later_holder_has_another_id() {
        let mut slots = Slots::new(1, 1);
        let first = slots.take(true).unwrap();
        slots.give_back(first.index);
        let second = slots.take(true).unwrap();
        assert_eq!(first.index, second.index);
        assert_ne!(first, second);
    }
}
