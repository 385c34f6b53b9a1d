//! What the parts of a reading of all states have said so far.

use super::goroutine::ByAddress;
use crate::stream::transition::SchedSnapshot;

/// A reading of all states that comes in parts.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// When it began.
    pub begin_ns: u64,
    /// Threads by the address of their m.
    pub threads: ByAddress<u32>,
    /// Whether something is missing.
    pub cut_short: bool,
    /// A bit for the slot of each goroutine that was in it.
    present: Vec<u64>,
}

impl Reading {
    /// Takes in what concerns the whole reading: the next part of this one, or the first of another, which replaces it.
    /// Returns whether it is the first.
    pub fn take_in(&mut self, snapshot: &SchedSnapshot) -> bool {
        let begin_ns = snapshot.part.map_or(snapshot.begin_ns, |part| part.begin_ns);
        let is_first = snapshot.begin_ns == begin_ns;
        if is_first || self.begin_ns != begin_ns {
            *self = Self {
                begin_ns,
                // Earlier parts are missing where this is not the first.
                cut_short: !is_first,
                ..Self::default()
            };
        }
        self.cut_short |= snapshot.cut_short;
        let threads = snapshot.machines.iter().map(|machine| (machine.m, machine.tid));
        self.threads.extend(threads);
        is_first
    }

    /// Marks the goroutine of a slot as present.
    pub fn add(&mut self, slot: u32) {
        let word = slot as usize / 64;
        if self.present.len() <= word {
            self.present.resize(word + 1, 0);
        }
        if let Some(word) = self.present.get_mut(word) {
            *word |= 1 << (slot % 64);
        }
    }

    /// Whether the goroutine of a slot was in it.
    pub fn has(&self, slot: u32) -> bool {
        self.present
            .get(slot as usize / 64)
            .is_some_and(|word| word >> (slot % 64) & 1 != 0)
    }
}
