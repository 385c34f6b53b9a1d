//! The slots of the kernel's tables: which are free, and who holds the others.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};

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

/// What is in a slot.
pub trait Holder {
    /// The slot as this holder knows it.
    fn slot(&self) -> SlotId;
}

/// Returns the holder of a slot.
///
/// # Errors
/// It was detached before; another one may have the slot by now.
pub fn holder<T: Holder>(holders: &BTreeMap<u32, T>, slot: SlotId) -> Result<&T> {
    let holder = holders.get(&slot.index).filter(|holder| holder.slot() == slot);
    holder.ok_or_else(|| detached(slot))
}

/// Returns the holder of a slot, to be changed.
///
/// # Errors
/// As [`holder`].
pub fn holder_mut<T: Holder>(holders: &mut BTreeMap<u32, T>, slot: SlotId) -> Result<&mut T> {
    let holder = holders
        .get_mut(&slot.index)
        .filter(|holder| holder.slot() == slot);
    holder.ok_or_else(|| detached(slot))
}

/// Removes the holder of a slot. The slot itself is not free yet: see [`Slots::give_back`].
///
/// # Errors
/// As [`holder`].
pub fn take_holder<T: Holder>(holders: &mut BTreeMap<u32, T>, slot: SlotId) -> Result<T> {
    holder(holders, slot)?;
    holders.remove(&slot.index).ok_or_else(|| detached(slot))
}

fn detached(slot: SlotId) -> Error {
    Error::failed(format!("{slot:?} was detached before"))
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
