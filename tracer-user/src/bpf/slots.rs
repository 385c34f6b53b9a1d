//! Rings of slots in memory that programs share with us. What programs do with them is in `tracer-ebpf`,
//! `programs/rings.rs`.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use memmap2::{MmapOptions, MmapRaw};
use tracer_ebpf::full::{LAP, RingPosition, Transition};

/// Number of records after which the read position is stored anew. Programs read it at each hit: if it changed with each
/// record, its cache line would move between CPUs each time.
const STORED_EVERY: u64 = 64;

/// One ring, which is read.
pub struct SlotRing {
    /// Keeps what the two pointers point into.
    _shared: Arc<SharedMemory>,
    /// The first slot and the positions of this ring.
    slots: *mut Transition,
    position: *mut RingPosition,
    /// How many slots there are: a power of two.
    length: u64,
    /// Records that were read.
    read: u64,
}

/// What all rings lie in.
struct SharedMemory {
    slots: MmapRaw,
    positions: MmapRaw,
}

// SAFETY: the pointers are into the memory that the value keeps mapped. What others change of it is accessed atomically,
// and the rest only while no program writes to it.
unsafe impl Send for SlotRing {}

impl SlotRing {
    /// Maps `number` rings of `length` slots (a power of two) each: `slots` and `positions` are arrays that can be mapped,
    /// with as many elements.
    ///
    /// # Errors
    /// The system's error.
    pub(super) fn map(
        slots: BorrowedFd<'_>,
        positions: BorrowedFd<'_>,
        number: u32,
        length: u32,
    ) -> io::Result<Vec<Self>> {
        let (rings, each) = (number as usize, length as usize);
        let map = |array: BorrowedFd<'_>, bytes| MmapOptions::new().len(bytes).map_raw(array.as_raw_fd());
        let shared = Arc::new(SharedMemory {
            slots: map(slots, rings * each * size_of::<Transition>())?,
            positions: map(positions, rings * size_of::<RingPosition>())?,
        });
        let ring = |ring| Self {
            slots: shared
                .slots
                .as_mut_ptr()
                .cast::<Transition>()
                .wrapping_add(ring * each),
            position: shared
                .positions
                .as_mut_ptr()
                .cast::<RingPosition>()
                .wrapping_add(ring),
            _shared: Arc::clone(&shared),
            length: u64::from(length),
            read: 0,
        };
        Ok((0..rings).map(ring).collect())
    }

    /// Takes the next record. `None` where there is none, or its program has not sent it yet.
    pub fn take(&mut self) -> Option<Transition> {
        let slot = self.slots.wrapping_add((self.read & (self.length - 1)) as usize);
        // SAFETY: an aligned word of a slot of this ring, which programs write as a whole.
        let at_ns = unsafe { AtomicU64::from_ptr(&raw mut (*slot).at_ns) }.load(Ordering::Acquire);
        let lap = if self.read & self.length == 0 { LAP } else { 0 };
        if at_ns & LAP != lap {
            self.store_position();
            return None;
        }
        // SAFETY: the record is complete, and no program writes to its slot before the stored position has passed it. Every
        // bit pattern of that struct of integers is valid.
        let record = unsafe { slot.read_volatile() };
        self.read += 1;
        if self.read.is_multiple_of(STORED_EVERY) {
            self.store_position();
        }
        Some(Transition {
            at_ns: at_ns & !LAP,
            ..record
        })
    }

    /// Whether every record was taken for which a program has a place.
    pub fn is_empty(&self) -> bool {
        // SAFETY: an aligned word of this ring's positions.
        let written = unsafe { AtomicU64::from_ptr(&raw mut (*self.position).written) };
        written.load(Ordering::Acquire) == self.read
    }

    /// Stores the read position: programs may use the slots before it again.
    fn store_position(&self) {
        // SAFETY: as above; programs only read it.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.position).read) }.store(self.read, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::fd::{AsFd as _, OwnedFd},
    };

    use memmap2::MmapMut;

    use super::*;

    const RINGS: u32 = 2;
    const LENGTH: u32 = 128;

    /// Writes into the rings as a program does.
    struct Writer {
        slots: MmapMut,
        positions: MmapMut,
    }

    impl Writer {
        fn position(&mut self, ring: usize) -> *mut RingPosition {
            self.positions
                .as_mut_ptr()
                .cast::<RingPosition>()
                .wrapping_add(ring)
        }

        /// Takes a slot, if one is free.
        fn reserve(&mut self, ring: usize) -> Option<u64> {
            let position = self.position(ring);
            // SAFETY: within the mapping, and aligned.
            unsafe {
                let written = (*position).written;
                let free = written - (*position).read < u64::from(LENGTH);
                (*position).written += u64::from(free);
                free.then_some(written)
            }
        }

        fn send(&mut self, ring: usize, place: u64) {
            let lap = if place & u64::from(LENGTH) == 0 { LAP } else { 0 };
            let index = ring * LENGTH as usize + (place % u64::from(LENGTH)) as usize;
            let slot = self.slots.as_mut_ptr().cast::<Transition>().wrapping_add(index);
            let record = Transition {
                at_ns: place | lap,
                subject: place,
                tid: ring as u32,
                ..Transition::default()
            };
            // SAFETY: within the mapping, and aligned.
            unsafe { slot.write_volatile(record) };
        }
    }

    fn rings() -> (Vec<SlotRing>, Writer) {
        let file = |bytes: usize| {
            let fd: OwnedFd = rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            let file = File::from(fd);
            file.set_len(bytes as u64).unwrap();
            file
        };
        let slots = file((RINGS * LENGTH) as usize * size_of::<Transition>());
        let positions = file(RINGS as usize * size_of::<RingPosition>());
        let rings = SlotRing::map(slots.as_fd(), positions.as_fd(), RINGS, LENGTH).unwrap();
        // SAFETY: nothing truncates the files.
        let writer = unsafe {
            Writer {
                slots: MmapMut::map_mut(&slots).unwrap(),
                positions: MmapMut::map_mut(&positions).unwrap(),
            }
        };
        (rings, writer)
    }

    #[test]
    fn each_record_is_taken_once_and_in_its_order_over_many_laps() {
        let (mut rings, mut writer) = rings();
        for round in 0..1_000 {
            for (number, ring) in rings.iter_mut().enumerate() {
                let first = ring.read;
                // Any number, so that laps end anywhere in a round.
                let count = 1 + round * 7 % u64::from(LENGTH);
                for _ in 0..count {
                    let place = writer.reserve(number).expect("the reader has read everything");
                    writer.send(number, place);
                }
                assert!(!ring.is_empty());
                for expected in first..first + count {
                    let record = ring.take().unwrap();
                    assert_eq!((record.at_ns, record.subject), (expected, expected));
                    assert_eq!(record.tid as usize, number);
                }
                assert_eq!(ring.take(), None);
                assert!(ring.is_empty());
            }
        }
    }

    #[test]
    fn a_record_that_is_not_sent_yet_holds_back_those_after_it() {
        let (mut rings, mut writer) = rings();
        let ring = &mut rings[1];
        for _ in 0..3 {
            let (first, second) = (writer.reserve(1).unwrap(), writer.reserve(1).unwrap());
            writer.send(1, second);
            assert_eq!(ring.take(), None);
            assert!(!ring.is_empty(), "its place is taken");
            writer.send(1, first);
            assert_eq!(ring.take().map(|record| record.at_ns), Some(first));
            assert_eq!(ring.take().map(|record| record.at_ns), Some(second));
            // On to the next lap.
            for _ in 0..LENGTH {
                let place = writer.reserve(1).unwrap();
                writer.send(1, place);
                assert_eq!(ring.take().map(|record| record.at_ns), Some(place));
                assert_eq!(ring.take(), None);
            }
        }
    }

    #[test]
    fn no_slot_is_taken_again_before_it_was_read() {
        let (mut rings, mut writer) = rings();
        let mut written = 0;
        while let Some(place) = writer.reserve(0) {
            writer.send(0, place);
            written += 1;
        }
        assert_eq!(written, LENGTH);
        let mut read = 0;
        while rings[0].take().is_some() {
            read += 1;
        }
        assert_eq!(read, LENGTH);
        assert!(writer.reserve(0).is_some(), "the reader says what it has read");
    }
}
