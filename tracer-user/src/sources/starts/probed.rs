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

/// Binaries by slot.
#[derive(Default)]
pub struct Probed {
    slots: BTreeMap<u16, Slot>,
    /// Numbers of the binaries that last had each slot: marks of theirs may still come.
    numbers: BTreeMap<u16, u32>,
    /// The slot that was given last: one that was given back comes last again.
    last: u16,
}

struct Slot {
    number: u32,
    how: How,
    sites: usize,
    /// By which the sites are known, where there are no cookies.
    keys: Vec<SiteKey>,
}

/// How the processes of a binary get their probes.
#[allow(dead_code, reason = "held for what their drop does")]
pub enum How {
    /// They have them.
    Live(Probes),
    /// Each is given them as it executes the binary.
    Each(Arc<Linker>),
    /// The same, one process after the other, without a gate.
    InTurn(LinkKind),
}

/// Probes that are to go.
pub struct Gone(Slot);

impl Gone {
    /// What their sites are known by, where there are no cookies.
    pub fn keys(&self) -> impl Iterator<Item = SiteKey> {
        self.0.keys.iter().copied()
    }
}

impl Probed {
    /// A slot that no binary has.
    ///
    /// # Errors
    /// All are taken.
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

    /// A binary is probed.
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

    /// It is not to be any more.
    pub fn remove(&mut self, number: u32) -> Option<Gone> {
        let slot = u16::try_from(self.slot_of(number)?).ok()?;
        self.slots.remove(&slot).map(Gone)
    }

    /// Takes all probes away. The kernel takes its time for each link, and less for several at once.
    pub fn clear(&mut self) {
        let all = std::mem::take(&mut self.slots);
        std::thread::scope(|scope| {
            for slot in all.into_values() {
                let spawned = std::thread::Builder::new().spawn_scoped(scope, || drop(slot));
                if let Err(e) = spawned {
                    // It was dropped with the closure.
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

    /// The binary that has a slot, or had it last; the slot itself if none ever had it.
    pub fn number_of(&self, slot: u32) -> u32 {
        let known = u16::try_from(slot).ok().and_then(|slot| self.numbers.get(&slot));
        known.copied().unwrap_or(slot)
    }

    /// How many instructions are probed.
    pub fn sites(&self) -> usize {
        self.slots.values().map(|slot| slot.sites).sum()
    }

    /// How the probes are held.
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
