//! The binaries that are probed, each with a slot in the kernel side's tables.

use std::{collections::BTreeMap, sync::Arc};

use tracer_ebpf::{SiteKey, start::MAX_BINARIES};

use crate::{
    bpf::{
        attach::{LinkKind, Probes},
        linker::Linker,
    },
    error::{Error, Result},
};

/// The probed binaries by slot.
#[derive(Default)]
pub struct SlotTable {
    slots: BTreeMap<u16, Slot>,
    /// Number of the binary that last had each slot: marks of it may still arrive.
    numbers: BTreeMap<u16, u32>,
    /// The slot that was taken last: free slots are taken in turn, so that one is not reused at once.
    last: u16,
}

struct Slot {
    number: u32,
    how: How,
    sites: usize,
    /// Keys of the sites, where there are no cookies.
    keys: Vec<SiteKey>,
}

/// How the processes of a binary get their probes.
#[allow(dead_code, reason = "held for what their drop does")]
pub enum How {
    /// All have them already.
    Live(Probes),
    /// Each gets them at the gate, as it executes the binary.
    Each(Arc<Linker>),
    /// Each gets them before it is released, one process after the other.
    InTurn(LinkKind),
}

/// A binary that is not probed any more. Dropping it removes its probes.
pub struct RemovedBinary(Slot);

impl RemovedBinary {
    /// Keys of its sites, where there are no cookies.
    pub fn keys(&self) -> impl Iterator<Item = SiteKey> {
        self.0.keys.iter().copied()
    }
}

impl SlotTable {
    /// A free slot.
    ///
    /// # Errors
    /// All slots are taken.
    pub fn free_slot(&self) -> Result<u16> {
        let slots = u16::try_from(MAX_BINARIES).unwrap_or(u16::MAX);
        let from = match self.slots.is_empty() && self.numbers.is_empty() {
            true => 0,
            false => self.last.wrapping_add(1) % slots,
        };
        let mut in_turn = (from..slots).chain(0..from);
        in_turn
            .find(|slot| !self.slots.contains_key(slot))
            .ok_or_else(|| {
                Error::failed(format!(
                    "{slots} binaries are probed, and there is no room for more"
                ))
            })
    }

    /// Adds a binary.
    pub fn add(&mut self, slot: u16, number: u32, how: How, sites: usize, keys: Vec<SiteKey>) {
        self.last = slot;
        self.numbers.insert(slot, number);
        self.slots.insert(
            slot,
            Slot {
                number,
                how,
                sites,
                keys,
            },
        );
    }

    /// Removes a binary.
    pub fn remove(&mut self, number: u32) -> Option<RemovedBinary> {
        let slot = u16::try_from(self.slot_of(number)?).ok()?;
        self.slots.remove(&slot).map(RemovedBinary)
    }

    /// Removes all probes, in parallel: the kernel takes some time for each link, and lets them wait together.
    pub fn clear(&mut self) {
        let all = std::mem::take(&mut self.slots);
        std::thread::scope(|scope| {
            for slot in all.into_values() {
                let spawned = std::thread::Builder::new().spawn_scoped(scope, || drop(slot));
                if let Err(e) = spawned {
                    // The slot was dropped with the closure.
                    log::debug!("probes were taken away one after the other: {e}");
                }
            }
        });
    }

    /// The slot of a binary.
    pub fn slot_of(&self, number: u32) -> Option<u32> {
        let mut slots = self.slots.iter();
        slots
            .find(|(_, slot)| slot.number == number)
            .map(|(slot, _)| u32::from(*slot))
    }

    /// The binary that has a slot, or had it last; the slot's own number if none ever had it.
    pub fn number_of(&self, slot: u32) -> u32 {
        let known = u16::try_from(slot).ok().and_then(|slot| self.numbers.get(&slot));
        known.copied().unwrap_or(slot)
    }

    /// How many instructions are probed.
    pub fn sites(&self) -> usize {
        self.slots.values().map(|slot| slot.sites).sum()
    }

    /// The kind of link that holds the probes.
    pub fn link_kind(&self) -> Option<LinkKind> {
        self.slots.values().next().map(|slot| match &slot.how {
            How::Live(probes) => probes.kind,
            How::Each(linker) => linker.kind(),
            How::InTurn(kind) => *kind,
        })
    }

    /// What attaches to processes of the binary in this slot.
    pub fn linker_of(&self, slot: u32) -> Option<Arc<Linker>> {
        match &self.slots.get(&u16::try_from(slot).ok()?)?.how {
            How::Each(linker) => Some(Arc::clone(linker)),
            How::Live(_) | How::InTurn(_) => None,
        }
    }
}
