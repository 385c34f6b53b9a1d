//! The ring buffers that carry transitions: one for each CPU, as far as there are bytes for them.
//!
//! All that write to a ring buffer take its lock, before it is known whether there is room: with a single one, each hit
//! on a machine of many CPUs would wait for those of all others. Buffers in shared memory without a lock were the
//! alternative: a uprobe program may be interrupted by another one on the same CPU, and the atomic instructions that this
//! needs came with Linux 5.12.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    thread,
};

use aya::{
    maps::{Map, MapData, MapError, RingBuf},
    util::online_cpus,
};
use aya_obj::generated::bpf_map_type;
use tracer_ebpf::full::DEFAULT_RING_BYTES;

use super::{mapped_ring::MappedRing, raw};

/// Most ring buffers: each takes a descriptor, and is looked at every few milliseconds.
const MOST: u32 = 64;
/// Fewest bytes of one of several ring buffers: what a CPU that does nothing but switch sends in some 25 ms.
const LEAST_BYTES: u32 = 1 << 20;
/// Bytes for each CPU where no size is asked for, if that is more than [`DEFAULT_RING_BYTES`].
const USUAL_BYTES: u32 = 2 << 20;
/// Bytes of a ring buffer that is not used: the least that every kernel accepts.
const UNUSED_BYTES: u32 = 1 << 16;

/// Returns the size of all ring buffers together where none is asked for.
pub fn default_bytes() -> u32 {
    bytes_for(cpus())
}

fn bytes_for(cpus: u32) -> u32 {
    DEFAULT_RING_BYTES.max(USUAL_BYTES * wanted(cpus))
}

/// The ring buffers, and the map through which programs find them.
pub struct Rings {
    rings: Vec<MapData>,
    array: OwnedFd,
}

impl Rings {
    /// Creates ring buffers of `bytes` (a power of two) in all; none if that is 0.
    ///
    /// # Errors
    /// The kernel refuses them, also a single one.
    pub fn create(bytes: u32) -> Result<Self, MapError> {
        if bytes == 0 {
            let like = ring(UNUSED_BYTES)?;
            return Ok(Self {
                rings: Vec::new(),
                array: raw::create_array_of_maps(1, like.fd().as_fd())?,
            });
        }
        match number_of(bytes, cpus()) {
            1 => Self::with(1, bytes),
            number => Self::with(number, bytes / number).or_else(|e| {
                log::info!("all CPUs share a ring buffer: {number} of them could not be made: {e}");
                Self::with(1, bytes)
            }),
        }
    }

    fn with(number: u32, each: u32) -> Result<Self, MapError> {
        let rings = (0..number).map(|_| ring(each)).collect::<Result<Vec<_>, _>>()?;
        let like = rings.first().ok_or(MapError::KeyNotFound)?;
        let array = raw::create_array_of_maps(number, like.fd().as_fd())?;
        fill(array.as_fd(), &rings)?;
        Ok(Self { rings, array })
    }

    /// The number that programs compute with: at least 1.
    pub fn number(&self) -> u32 {
        u32::try_from(self.rings.len()).unwrap_or(MOST).max(1)
    }

    /// Has the map that programs were compiled with stand for the ring buffers. Programs that are loaded from here on
    /// find them.
    ///
    /// # Errors
    /// The system's error.
    pub fn replace(&self, placeholder: BorrowedFd<'_>) -> io::Result<()> {
        raw::replace(placeholder, self.array.as_fd())
    }

    /// Takes the ring buffers, to be read.
    ///
    /// # Errors
    /// They cannot be mapped.
    pub fn take(&mut self) -> Result<Vec<MappedRing>, MapError> {
        std::mem::take(&mut self.rings)
            .into_iter()
            .map(|ring| {
                let buffer = RingBuf::<MapData>::try_from(Map::from_map_data(ring)?)?;
                Ok(MappedRing::new(buffer)?)
            })
            .collect()
    }
}

fn ring(bytes: u32) -> Result<MapData, MapError> {
    let map = aya_obj::Map::new_from_params(bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32, 0, 0, bytes, 0);
    MapData::create(map, "TRANSITIONS", None)
}

/// Puts the ring buffers into the array. Before it returns, each call waits until programs on all CPUs have ended that
/// may use what was there (an RCU grace period, some 10 ms); calls at the same time wait together.
fn fill(array: BorrowedFd<'_>, rings: &[MapData]) -> io::Result<()> {
    thread::scope(|scope| {
        let calls: Vec<_> = (0..)
            .zip(rings)
            .map(|(index, ring)| {
                let ring = ring.fd().as_fd();
                thread::Builder::new().spawn_scoped(scope, move || raw::set_map(array, index, ring))
            })
            .collect();
        calls.into_iter().try_for_each(|call| {
            call?
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread has ended")))
        })
    })
}

/// The number of CPUs as far as the lowest bits of their numbers tell them apart.
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

/// How many ring buffers so many CPUs would have: a power of two.
fn wanted(cpus: u32) -> u32 {
    cpus.clamp(1, MOST).next_power_of_two()
}

/// How many ring buffers share these bytes: a power of two, since `bytes` is one.
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
