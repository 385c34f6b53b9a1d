//! The rings that carry transitions: one for each CPU, as far as there are bytes for them, or one for all.

use aya::util::online_cpus;
use tracer_ebpf::full::{DEFAULT_RING_BYTES, Transition};

use super::{mapped_ring::MappedRing, slots::SlotRing};

/// Most rings: each is looked at every few milliseconds.
const MOST: u32 = 64;
/// Fewest bytes of one of several rings: what a CPU that does nothing but switch sends in some 30 ms.
const LEAST_BYTES: u32 = 1 << 20;
/// Bytes for each CPU where no size is asked for, if that is more than [`DEFAULT_RING_BYTES`].
const USUAL_BYTES: u32 = 2 << 20;
/// Bytes of a ring buffer that is not used: the least that every kernel accepts.
const UNUSED_BYTES: u32 = 1 << 16;

/// A ring that is read.
pub enum TransitionRing {
    /// Of a CPU, or of some.
    Slots(SlotRing),
    /// Of all CPUs.
    Shared(MappedRing),
}

/// The sizes of the maps that are the rings. There are slots for programs that find their site by its cookie, and a ring
/// buffer for those that do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// How many rings of slots: a power of two.
    pub rings: u32,
    /// How many slots each has: a power of two.
    pub slots: u32,
    /// Bytes of the ring buffer.
    pub shared_bytes: u32,
}

impl Sizes {
    /// Splits `bytes` (a power of two, or 0 for none) over the rings of this machine. `cookies`: whether programs find
    /// their site by its cookie.
    pub fn of(bytes: u32, cookies: bool) -> Self {
        let unused = Self {
            rings: 1,
            slots: 1,
            shared_bytes: UNUSED_BYTES,
        };
        match (bytes, cookies) {
            (0, _) => unused,
            (_, false) => Self {
                shared_bytes: bytes,
                ..unused
            },
            (_, true) => {
                let rings = number_of(bytes, cpus());
                Self {
                    rings,
                    slots: bytes / rings / size_of::<Transition>() as u32,
                    ..unused
                }
            }
        }
    }
}

/// Returns the size of all rings together where none is asked for.
pub fn default_bytes() -> u32 {
    bytes_for(cpus())
}

fn bytes_for(cpus: u32) -> u32 {
    DEFAULT_RING_BYTES.max(USUAL_BYTES * wanted(cpus))
}

/// The number of CPUs as far as the lowest bits of their numbers differ.
fn cpus() -> u32 {
    let cpus = online_cpus().map(|cpus| cpus.into_iter().max());
    match cpus {
        Ok(highest) => highest.unwrap_or(0).saturating_add(1),
        Err((file, e)) => {
            log::debug!("{file}: {e}");
            1
        }
    }
}

/// How many rings so many CPUs would have: a power of two.
fn wanted(cpus: u32) -> u32 {
    cpus.clamp(1, MOST).next_power_of_two()
}

/// How many rings share these bytes: a power of two, since `bytes` is one.
fn number_of(bytes: u32, cpus: u32) -> u32 {
    wanted(cpus).min(bytes / LEAST_BYTES).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_has_a_ring_where_the_bytes_suffice() {
        for (bytes, cpus, number) in [
            (16 << 20, 1, 1),
            (16 << 20, 2, 2),
            (16 << 20, 6, 8),
            (16 << 20, 16, 16),
            // Four CPUs share one.
            (16 << 20, 64, 16),
            (64 << 20, 64, 64),
            (1 << 30, 500, 64),
            (1 << 20, 8, 1),
            (64 << 10, 8, 1),
            (16 << 20, 0, 1),
        ] {
            let found = number_of(bytes, cpus);
            assert_eq!(found, number, "{bytes} bytes, {cpus} CPUs");
            assert!(found.is_power_of_two());
        }
    }

    #[test]
    fn the_usual_size_is_enough_for_a_ring_for_each_cpu() {
        for (cpus, bytes) in [
            (1, 16 << 20),
            (8, 16 << 20),
            (12, 32 << 20),
            (64, 128 << 20),
            (1000, 128 << 20),
        ] {
            assert_eq!(bytes_for(cpus), bytes);
            assert_eq!(number_of(bytes, cpus), wanted(cpus));
        }
    }
}
