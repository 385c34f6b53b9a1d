//! A ring buffer that is read, and of which it is known whether all of it was.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicUsize, Ordering},
};

use aya::maps::{MapData, RingBuf, ring_buf::RingBufItem};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A ring buffer of the kernel.
pub struct MappedRing {
    buffer: RingBuf<MapData>,
    positions: Positions,
}

impl MappedRing {
    /// Maps what says how far the ring buffer was written.
    ///
    /// # Errors
    /// The system's error.
    pub(super) fn new(buffer: RingBuf<MapData>) -> io::Result<Self> {
        Ok(Self {
            positions: Positions::of(buffer.as_fd())?,
            buffer,
        })
    }

    /// Takes the next record. `None` where there is none, or its program has not sent it yet.
    pub fn take(&mut self) -> Option<RingBufItem<'_>> {
        self.buffer.next()
    }

    /// Whether every record was taken for which a program has a place.
    pub fn is_empty(&self) -> bool {
        self.positions.are_equal()
    }
}

/// The positions of a ring buffer's reader and writers: the beginnings of its first two pages (`struct bpf_ringbuf`,
/// kernel/bpf/ringbuf.c). aya has them, too, and does not show them.
struct Positions {
    pages: NonNull<u8>,
    page: usize,
}

// SAFETY: the mapping belongs to this value alone, and is only read, atomically.
unsafe impl Send for Positions {}

impl Positions {
    fn of(ring: BorrowedFd<'_>) -> io::Result<Self> {
        let page = rustix::param::page_size();
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let pages = unsafe {
            mmap(
                ptr::null_mut(),
                2 * page,
                ProtFlags::READ,
                MapFlags::SHARED,
                ring,
                0,
            )
        }?;
        let pages = NonNull::new(pages.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { pages, page })
    }

    fn are_equal(&self) -> bool {
        // SAFETY: an aligned word at the beginning of each of two mapped pages, which others change atomically.
        let (read, written) = unsafe {
            (
                self.pages.cast::<AtomicUsize>().as_ref(),
                self.pages.add(self.page).cast::<AtomicUsize>().as_ref(),
            )
        };
        read.load(Ordering::Acquire) == written.load(Ordering::Acquire)
    }
}

impl Drop for Positions {
    fn drop(&mut self) {
        // SAFETY: mapped by `of` with this length, and nothing refers to it any more.
        let _ = unsafe { munmap(self.pages.as_ptr().cast(), 2 * self.page) };
    }
}
