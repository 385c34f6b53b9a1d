//! The rings that carry the records of `full` to userspace.
//!
//! A BPF ring buffer takes a lock for each record, before it is known whether there is room: where all CPUs share one, each
//! hit waits for those of all others. So each CPU has a ring of its own, in an array that userspace maps: a record takes its
//! slot by an atomic instruction, and is there once its time is. The instruction came with Linux 5.12, and is in the
//! programs that find their site by its cookie, for which 5.15 is needed; the others share a ring buffer.

use core::arch::asm;

use aya_ebpf::{
    helpers::generated::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, RingBuf, ring_buf::RingBufEntry},
};
use tracer_ebpf::full::{LAP, RingPosition, Transition};

use super::clock;

/// For [`PerCpu`]: the slots of all rings, one ring after the other.
#[map]
static SLOTS: Array<Transition> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// For [`PerCpu`]: how far each ring was written and read.
#[map]
static POSITIONS: Array<RingPosition> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// For [`Shared`].
#[map]
static TRANSITIONS: RingBuf = RingBuf::with_byte_size(1 << 16, 0);

/// How many rings there are: a power of two. Userspace sets this before the programs are loaded.
#[unsafe(no_mangle)]
static TRANSITION_RINGS: u32 = 1;

/// How many slots each has: a power of two. Userspace sets this before the programs are loaded.
#[unsafe(no_mangle)]
static TRANSITION_SLOTS: u32 = 1;

/// Flag of a map that userspace may map (linux/bpf.h).
const BPF_F_MMAPABLE: u32 = 1 << 10;
/// Flag that does not wake the reader, which reads at intervals: a wake-up costs more than the trap.
const NO_WAKEUP: u64 = 1;
/// How often a slot is tried for that others take at the same moment: interrupted programs of this CPU, or those of the
/// CPUs that share its ring.
const TRIES: u32 = 16;

/// How records reach userspace. The clock is read after a place was reserved, so that a record that is put into a ring after
/// the reader has read the clock has a later time.
pub trait Ring {
    /// A place for one record.
    type Place;

    /// Reserves a place in the ring of this CPU; `None` where there is no room. A program that continues on another CPU
    /// meanwhile is not wrong: it only competes with that one's programs.
    fn reserve() -> Option<Self::Place>;

    /// Sends the record, with the time. The place must be given to this once.
    fn send(place: Self::Place, record: Transition);
}

/// A ring for each CPU, or a few of them, without a lock.
pub struct PerCpu;

impl Ring for PerCpu {
    type Place = Slot;

    #[inline(always)]
    fn reserve() -> Option<Slot> {
        // SAFETY: statics of the object, which userspace changes before it is loaded: the compiler must not assume their
        // values. The helper takes no arguments.
        let (rings, slots, cpu) = unsafe {
            (
                core::ptr::read_volatile(&raw const TRANSITION_RINGS),
                core::ptr::read_volatile(&raw const TRANSITION_SLOTS),
                bpf_get_smp_processor_id(),
            )
        };
        let ring = cpu & rings.wrapping_sub(1);
        let position = POSITIONS.get_ptr_mut(ring)?;
        for _ in 0..TRIES {
            // SAFETY: a checked pointer into the map. Volatile, since others change it.
            let (read, written) = unsafe {
                (
                    core::ptr::read_volatile(&raw const (*position).read),
                    core::ptr::read_volatile(&raw const (*position).written),
                )
            };
            // Where another CPU's programs share the ring, `written` may be older than `read`, and what follows fails.
            if written.wrapping_sub(read).cast_signed() >= i64::from(slots) {
                return None;
            }
            // SAFETY: as above; only the field's address is taken.
            let before = unsafe { compare_exchange(&raw mut (*position).written, written, written + 1) };
            if before == written {
                let within = written as u32 & slots.wrapping_sub(1);
                let slot = SLOTS.get_ptr_mut(ring * slots + within)?;
                let lap = if written & u64::from(slots) == 0 { LAP } else { 0 };
                return Some(Slot { slot, lap });
            }
        }
        None
    }

    #[inline(always)]
    fn send(place: Slot, record: Transition) {
        let Slot { slot, lap } = place;
        // SAFETY: a checked pointer into the map, which no other program has until the reader has read the record.
        unsafe {
            (*slot).subject = record.subject;
            (*slot).detail = record.detail;
            (*slot).tid = record.tid;
            (*slot).what = record.what;
            (*slot).status = record.status;
            (*slot).reason = record.reason;
            (*slot).flags = record.flags;
            publish(&raw mut (*slot).at_ns, clock::now() | lap);
        }
    }
}

/// A slot of a ring, and the bit that says that its record is of this lap.
pub struct Slot {
    slot: *mut Transition,
    lap: u64,
}

/// A BPF ring buffer for all CPUs.
pub struct Shared;

impl Ring for Shared {
    type Place = RingBufEntry<Transition>;

    #[inline(always)]
    fn reserve() -> Option<RingBufEntry<Transition>> {
        TRANSITIONS.reserve(0)
    }

    #[inline(always)]
    fn send(mut place: RingBufEntry<Transition>, mut record: Transition) {
        record.at_ns = clock::now();
        place.write(record);
        place.submit(NO_WAKEUP);
    }
}

/// Writes `new` to `*word` if it is `old`, and returns what it was. The BPF target has no atomics in `core`.
///
/// # Safety
/// `word` points into a map.
#[inline(always)]
unsafe fn compare_exchange(word: *mut u64, old: u64, new: u64) -> u64 {
    let before;
    // SAFETY: up to the caller; the verifier checks the bounds.
    unsafe {
        asm!("r0 = cmpxchg_64({p} + 0, r0, {new})", p = in(reg) word, new = in(reg) new, inout("r0") old => before);
    }
    before
}

/// Writes a word after everything that was written before it.
///
/// # Safety
/// `word` points into a map.
#[inline(always)]
unsafe fn publish(word: *mut u64, value: u64) {
    // SAFETY: up to the caller; the verifier checks the bounds. That this accesses memory keeps the compiler's order.
    #[cfg(bpf_target_arch = "x86_64")]
    unsafe {
        // x86 keeps the order of writes.
        asm!("*(u64 *)({p} + 0) = {value}", p = in(reg) word, value = in(reg) value);
    }
    // SAFETY: as above.
    #[cfg(not(bpf_target_arch = "x86_64"))]
    unsafe {
        // A plain write could be seen before those before it; an exchange is not.
        asm!("{value} = xchg_64({p} + 0, {value})", p = in(reg) word, value = inout(reg) value => _);
    }
}
