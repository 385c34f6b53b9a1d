//! Goroutines, by the address of their g. The runtime uses the g of a goroutine that has ended for another one: each
//! goroutine is one life of its g.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::state::State;
use super::woken::WokenBy;

/// One goroutine: one life of a g.
#[derive(Clone, Debug, Default)]
pub struct Goroutine {
    /// Address of its g.
    pub g: u64,
    /// Its id; 0 while it is not known.
    pub goid: u64,
    /// `g.gopc`; 0 while it is not known.
    pub gopc: u64,
    /// Since when it is in its state, CLOCK_MONOTONIC.
    pub since_ns: u64,
    /// When it was made; 0 of one that was made before the capture.
    pub created_ns: u64,
    /// Nanoseconds in each state but Dead.
    pub spent_ns: [u64; State::COUNT - 1],
    /// The thread that it runs on, or last ran on; 0 where none is known.
    pub tid: u32,
    /// Where it waits, while it does, as [`StackSeen::id`]; 0: not known.
    ///
    /// [`StackSeen::id`]: crate::stream::transition::StackSeen::id
    pub stack: u32,
    /// Which life of its g this is.
    pub life: u32,
    /// The reading of the causes that it holds while it is Runnable; 0: none.
    pub reading: u32,
    /// Who made it runnable last.
    pub woken_by: WokenBy,
    /// When it was made runnable last, CLOCK_MONOTONIC; 0 where that was not seen.
    pub woken_ns: u64,
    /// Its state.
    pub state: State,
    /// Why it waits, while it does.
    pub reason: u8,
    /// How it became runnable, an `Origin`.
    pub origin: u8,
    /// Bits of [`mark`].
    pub marks: u8,
}

/// Bits of [`Goroutine::marks`].
pub mod mark {
    /// Its state, or since when it is in it, was inferred: no wait is measured from there.
    pub const INFERRED: u8 = 1;
    /// It let another coroutine continue, and may have ended with that.
    pub const SWITCHED: u8 = 2;
    /// Its creation was seen.
    pub const SEEN_CREATED: u8 = 4;
    /// Its state came from an event, not from a snapshot.
    pub const SEEN: u8 = 8;
    /// It does the collector's work: it has waited for a reason that only such goroutines have.
    pub const COLLECTOR: u8 = 16;
    /// It assists the collector, and does not run its own code.
    pub const ASSISTS: u8 = 32;
    /// What stays as it is when the state changes.
    pub const KEPT: u8 = SEEN_CREATED | COLLECTOR;
}

/// A program may have a million of them.
const _: () = assert!(size_of::<Goroutine>() == 120);

impl Goroutine {
    /// Whether a bit of [`mark`] is set.
    pub fn is(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }
}

/// Hashes an address or a thread id: Fibonacci hashing, since addresses of g structs differ in their middle bits, and
/// thread ids in their low ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        let mixed = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The table takes its bits from both ends.
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// A map by address.
pub type ByAddress<V> = HashMap<u64, V, BuildHasherDefault<AddressHasher>>;
/// A map by thread id.
pub type ByThread<V> = HashMap<u32, V, BuildHasherDefault<AddressHasher>>;

/// Every g that was seen, with the goroutine that has it or had it last. The runtime never frees a g: there are as many
/// as goroutines ever lived at one time.
#[derive(Clone, Debug, Default)]
pub struct Table {
    by_address: ByAddress<u32>,
    slots: Vec<Goroutine>,
}

/// Most gs that room is made for in advance: what says how many there are may be a made-up recording. Room that is not
/// used takes addresses, and no memory.
const MOST_RESERVED: usize = 1 << 20;

impl Table {
    /// Makes room for this many gs in all, so that the table need not be built anew while transitions come.
    pub fn reserve(&mut self, gs: u64) {
        let gs = usize::try_from(gs).map_or(MOST_RESERVED, |gs| gs.min(MOST_RESERVED));
        let more = gs.saturating_sub(self.slots.len());
        self.by_address.reserve(more);
        self.slots.reserve_exact(more);
    }

    /// The number of the slot of this g.
    pub fn find(&self, g: u64) -> Option<u32> {
        self.by_address.get(&g).copied()
    }

    /// The number of the slot of this g, which is added if it is new; its goroutine is then Dead.
    pub fn find_or_add(&mut self, g: u64) -> u32 {
        let slots = &mut self.slots;
        *self.by_address.entry(g).or_insert_with(|| {
            slots.push(Goroutine {
                g,
                state: State::Dead,
                ..Goroutine::default()
            });
            (slots.len() - 1) as u32
        })
    }

    /// The goroutine of a slot.
    pub fn get(&self, slot: u32) -> Option<&Goroutine> {
        self.slots.get(slot as usize)
    }

    /// The goroutine of a slot, for changing it.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Goroutine> {
        self.slots.get_mut(slot as usize)
    }

    /// The goroutine that has this g, as long as it is this life of it.
    pub fn of_life(&self, g: u64, life: u32) -> Option<&Goroutine> {
        self.get(self.find(g)?).filter(|goroutine| goroutine.life == life)
    }

    /// The numbers of all slots.
    pub fn slots(&self) -> std::ops::Range<u32> {
        0..self.slots.len() as u32
    }

    /// The living goroutines, in no particular order.
    pub fn living(&self) -> impl Iterator<Item = &Goroutine> {
        self.slots
            .iter()
            .filter(|goroutine| goroutine.state != State::Dead)
    }
}
