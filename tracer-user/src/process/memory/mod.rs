//! All reading of another process's memory.
//!
//! There is one trait, [`Memory`], so that the code that decodes the runtime's structs does not depend on where the
//! bytes come from, and one implementation for live processes, [`ProcessMemory`]. Reading stops no thread of the
//! target, so a struct that is being changed may be seen half changed. Single aligned words are never torn.

mod process;

pub use process::ProcessMemory;

/// A range of memory, in the form in which the kernel takes it, so that a list of them is handed over as it is.
pub use nix::sys::uio::RemoteIoVec as MemoryRange;

use crate::error::Error;

/// Memory of one process, by run-time address.
pub trait Memory {
    /// Fills `into` with the bytes at `address`. All or nothing.
    ///
    /// # Errors
    /// See [`ReadError`]; the contents of `into` are then unspecified.
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError>;

    /// Reads `each` bytes at each of `addresses` into `into`, one after the other, with as few system calls as
    /// possible. For walks over many structs.
    ///
    /// # Errors
    /// The first address that cannot be read fails the whole; [`ReadError::Length`] if `into` is not
    /// `addresses.len() * each` bytes long.
    fn read_each(&self, addresses: &[u64], each: usize, into: &mut [u8]) -> Result<(), ReadError> {
        check_length(addresses, each, into)?;
        if each == 0 {
            return Ok(());
        }
        for (address, chunk) in addresses.iter().zip(into.chunks_exact_mut(each)) {
            self.read(*address, chunk)?;
        }
        Ok(())
    }

    /// Reads ranges of any lengths into `into`, one after the other in this order, with as few system calls as possible,
    /// and without an allocation: for the same few structs again and again.
    ///
    /// # Errors
    /// The first range that cannot be read fails the whole; [`ReadError::Length`] if `into` is not as long as all ranges
    /// together.
    fn read_ranges(&self, ranges: &[MemoryRange], into: &mut [u8]) -> Result<(), ReadError> {
        check_ranges(ranges, into)?;
        let mut rest = into;
        for range in ranges {
            let (chunk, behind) = rest.split_at_mut(range.len);
            self.read(range.base as u64, chunk)?;
            rest = behind;
        }
        Ok(())
    }

    /// The 4-byte word at `address`, in the byte order of this machine (which is the target's).
    fn read_u32(&self, address: u64) -> Result<u32, ReadError> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    /// The 8-byte word at `address`, in the byte order of this machine.
    fn read_u64(&self, address: u64) -> Result<u64, ReadError> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// Fills `into` with the consecutive 8-byte words at `address`.
    fn read_u64s(&self, address: u64, into: &mut [u64]) -> Result<(), ReadError> {
        let mut bytes = vec![0; size_of_val(into)];
        self.read(address, &mut bytes)?;
        for (word, chunk) in into.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_ne_bytes(*chunk);
        }
        Ok(())
    }
}

impl<M: Memory + ?Sized> Memory for &M {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        (**self).read(address, into)
    }

    fn read_each(&self, addresses: &[u64], each: usize, into: &mut [u8]) -> Result<(), ReadError> {
        (**self).read_each(addresses, each, into)
    }

    fn read_ranges(&self, ranges: &[MemoryRange], into: &mut [u8]) -> Result<(), ReadError> {
        (**self).read_ranges(ranges, into)
    }
}

/// Why memory could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such process, or it has no memory of its own: it has exited, is a zombie, or is a kernel thread
    /// (`ESRCH`).
    #[error("process {pid} has no memory to read: it has exited, or is a kernel thread")]
    Gone {
        /// The process.
        pid: u32,
    },
    /// We may not read its memory (`EPERM`).
    #[error(
        "no permission to read the memory of process {pid}: run as root, or as its user with CAP_SYS_PTRACE \
         (a container's seccomp profile or kernel.yama.ptrace_scope may also forbid it)"
    )]
    NotPermitted {
        /// The process.
        pid: u32,
    },
    /// Not all of the range is mapped and readable (`EFAULT`, or fewer bytes than asked for).
    #[error("{length} bytes at {address:#x} of process {pid} are not readable")]
    Unmapped {
        /// The process.
        pid: u32,
        /// First address of the range.
        address: u64,
        /// Its length.
        length: usize,
    },
    /// The caller's buffer has the wrong length.
    #[error("a buffer of {length} bytes was given where {needed} are needed")]
    Length {
        /// Bytes needed.
        needed: usize,
        /// Bytes given.
        length: usize,
    },
    /// Something else (no memory, no such system call).
    #[error("reading the memory of process {pid} failed: {reason}")]
    Other {
        /// The process.
        pid: u32,
        /// The system's error message.
        reason: String,
    },
}

impl From<ReadError> for Error {
    fn from(e: ReadError) -> Self {
        let message = e.to_string();
        match e {
            ReadError::Gone { .. } => Error::not_traceable(message),
            ReadError::NotPermitted { .. } => Error::not_permitted(message),
            _ => Error::failed(message),
        }
    }
}

/// Checks that `into` has the length that [`Memory::read_each`] needs.
fn check_length(addresses: &[u64], each: usize, into: &[u8]) -> Result<(), ReadError> {
    match addresses.len().checked_mul(each) {
        Some(needed) if needed == into.len() => Ok(()),
        needed => Err(wrong_length(needed, into)),
    }
}

/// Checks that `into` has the length that [`Memory::read_ranges`] needs.
fn check_ranges(ranges: &[MemoryRange], into: &[u8]) -> Result<(), ReadError> {
    let mut lengths = ranges.iter().map(|range| range.len);
    match lengths.try_fold(0usize, usize::checked_add) {
        Some(needed) if needed == into.len() => Ok(()),
        needed => Err(wrong_length(needed, into)),
    }
}

fn wrong_length(needed: Option<usize>, into: &[u8]) -> ReadError {
    ReadError::Length {
        needed: needed.unwrap_or(usize::MAX),
        length: into.len(),
    }
}
