//! The memory of a live process, read by `process_vm_readv(2)`.

use std::io::IoSliceMut;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sys::uio::process_vm_readv;
use nix::unistd::Pid;

use super::{Memory, MemoryRange, ReadError, check_length, check_ranges};
use crate::process::threads::living_thread;

/// Most ranges that one `process_vm_readv` takes: the kernel's `UIO_MAXIOV` (include/uapi/linux/uio.h).
const MAX_RANGES: usize = 1024;

/// The memory of a running process. It holds no handle: if the process exits and its PID is reused, the new process is
/// read; the owner of the target's pidfd must check that.
#[derive(Debug)]
pub struct ProcessMemory {
    pid: u32,
    /// The thread through which it is read: the first one, and if that has ended, another.
    thread: AtomicU32,
}

impl ProcessMemory {
    /// The memory of process `pid` of our PID namespace. Nothing is read yet.
    pub const fn new(pid: u32) -> Self {
        Self {
            pid,
            thread: AtomicU32::new(pid),
        }
    }

    /// The process.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Makes one system call, which reads the ranges of `remote` (at most [`MAX_RANGES`]) into `into`. Returns the
    /// number of bytes read.
    fn readv(&self, remote: &[MemoryRange], into: &mut [u8]) -> Result<usize, ReadError> {
        let Some(first) = remote.first() else { return Ok(0) };
        let thread = self.thread.load(Ordering::Relaxed);
        let mut read = self.readv_through(thread, remote, into);
        // A thread that has ended has no memory, and its id may be that of another process's thread by now.
        if read == Err(Errno::ESRCH) || thread != self.pid && !self.has_thread(thread) {
            read = match living_thread(self.pid).filter(|other| *other != thread) {
                Some(other) => {
                    self.thread.store(other, Ordering::Relaxed);
                    self.readv_through(other, remote, into)
                }
                None => Err(Errno::ESRCH),
            };
        }
        read.map_err(|errno| match errno {
            Errno::ESRCH => ReadError::Gone { pid: self.pid },
            Errno::EPERM | Errno::EACCES => ReadError::NotPermitted { pid: self.pid },
            Errno::EFAULT => self.unmapped(first),
            other => ReadError::Other {
                pid: self.pid,
                reason: other.desc().to_owned(),
            },
        })
    }

    fn readv_through(&self, thread: u32, remote: &[MemoryRange], into: &mut [u8]) -> Result<usize, Errno> {
        let thread = i32::try_from(thread).map_err(|_| Errno::ESRCH)?;
        process_vm_readv(Pid::from_raw(thread), &mut [IoSliceMut::new(into)], remote)
    }

    /// Whether the process has a thread of this id now.
    fn has_thread(&self, thread: u32) -> bool {
        // SAFETY: takes numbers; signal 0 only asks whether there is such a thread.
        let answer = unsafe { libc::syscall(libc::SYS_tgkill, self.pid, thread, 0) };
        // EPERM: there is one, and we may not signal it.
        answer == 0 || Errno::last() != Errno::ESRCH
    }

    fn unmapped(&self, range: &MemoryRange) -> ReadError {
        ReadError::Unmapped {
            pid: self.pid,
            address: range.base as u64,
            length: range.len,
        }
    }

    fn range(&self, address: u64, length: usize) -> Result<MemoryRange, ReadError> {
        let base = usize::try_from(address)
            .ok()
            .filter(|base| base.checked_add(length).is_some());
        match base {
            Some(base) => Ok(MemoryRange { base, len: length }),
            None => Err(ReadError::Unmapped {
                pid: self.pid,
                address,
                length,
            }),
        }
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        if into.is_empty() {
            return Ok(());
        }
        let range = self.range(address, into.len())?;
        // The kernel transfers page by page and stops at the first that is not mapped, without an error if it has read
        // any.
        match self.readv(&[range], into)? {
            n if n == into.len() => Ok(()),
            _ => Err(self.unmapped(&range)),
        }
    }

    fn read_each(&self, addresses: &[u64], each: usize, into: &mut [u8]) -> Result<(), ReadError> {
        check_length(addresses, each, into)?;
        if each == 0 {
            return Ok(());
        }
        // The kernel caps one transfer below 2 GiB.
        let per_call = MAX_RANGES.min((1 << 30) / each).max(1);
        let mut ranges = Vec::with_capacity(per_call.min(addresses.len()));
        for (addresses, chunk) in addresses.chunks(per_call).zip(into.chunks_mut(per_call * each)) {
            ranges.clear();
            for address in addresses {
                ranges.push(self.range(*address, each)?);
            }
            let read = self.readv(&ranges, chunk)?;
            if read != chunk.len() {
                let first_bad = ranges.get(read / each).or(ranges.first());
                return Err(first_bad.map_or(ReadError::Gone { pid: self.pid }, |r| self.unmapped(r)));
            }
        }
        Ok(())
    }

    fn read_ranges(&self, ranges: &[MemoryRange], into: &mut [u8]) -> Result<(), ReadError> {
        check_ranges(ranges, into)?;
        let mut rest = into;
        for ranges in ranges.chunks(MAX_RANGES) {
            if let Some(range) = ranges
                .iter()
                .find(|range| range.base.checked_add(range.len).is_none())
            {
                return Err(self.unmapped(range));
            }
            // No more than the length of `into`, as was checked.
            let length: usize = ranges.iter().map(|range| range.len).sum();
            let (chunk, behind) = rest.split_at_mut(length);
            rest = behind;
            let read = self.readv(ranges, chunk)?;
            if read != length {
                let first_bad = first_unread(ranges, read).or(ranges.first());
                return Err(first_bad.map_or(ReadError::Gone { pid: self.pid }, |r| self.unmapped(r)));
            }
        }
        Ok(())
    }
}

/// The range in which a transfer ended after so many bytes.
fn first_unread(ranges: &[MemoryRange], read: usize) -> Option<&MemoryRange> {
    let mut left = read;
    ranges.iter().find(|range| match left.checked_sub(range.len) {
        Some(less) => {
            left = less;
            false
        }
        None => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn own() -> ProcessMemory {
        ProcessMemory::new(std::process::id())
    }

    #[test]
    fn own_words_read_back() {
        let words: Vec<u64> = (0..5000).map(|n| n * 0x0101_0101_0101).collect();
        let at = words.as_ptr() as u64;
        assert_eq!(own().read_u64(at + 8).unwrap(), words[1]);
        assert_eq!(own().read_u32(at + 16).unwrap(), words[2] as u32);
        let mut back = vec![0; words.len()];
        own().read_u64s(at, &mut back).unwrap();
        assert_eq!(back, words);
    }

    #[test]
    fn a_batch_longer_than_one_call_comes_in_order() {
        let words: Vec<u64> = (0..5000).collect();
        let addresses: Vec<u64> = words.iter().rev().map(|w| w as *const u64 as u64).collect();
        let mut into = vec![0; addresses.len() * 8];
        own().read_each(&addresses, 8, &mut into).unwrap();
        let back: Vec<u64> = into
            .as_chunks()
            .0
            .iter()
            .map(|c| u64::from_ne_bytes(*c))
            .collect();
        assert!(back.iter().rev().copied().eq(0..5000));
    }

    #[test]
    fn an_unmapped_range_is_named() {
        let error = own().read_u64(8).unwrap_err();
        assert_eq!(
            error,
            ReadError::Unmapped {
                pid: std::process::id(),
                address: 8,
                length: 8
            }
        );
        assert!(matches!(
            own().read_u64(u64::MAX - 3),
            Err(ReadError::Unmapped { .. })
        ));
        // The second of three, after one that was read.
        let word = 7u64;
        let good = &word as *const u64 as u64;
        let mut into = [0; 24];
        let error = own().read_each(&[good, 16, good], 8, &mut into).unwrap_err();
        assert_eq!(
            error,
            ReadError::Unmapped {
                pid: std::process::id(),
                address: 16,
                length: 8
            }
        );
    }

    #[test]
    fn ranges_of_any_lengths_come_in_order() {
        let words: Vec<u64> = (0..5000).map(|n| n * 0x0101_0101_0101).collect();
        let at = |n: usize, len: usize| MemoryRange {
            base: &words[n] as *const u64 as usize,
            len,
        };
        // More than one call takes.
        let ranges: Vec<MemoryRange> = (0..3000).map(|n| at(n, 8 * (n % 3))).collect();
        let mut into = vec![0; ranges.iter().map(|range| range.len).sum()];
        own().read_ranges(&ranges, &mut into).unwrap();
        let expected: Vec<u8> = (0..3000)
            .flat_map(|n| words[n..n + n % 3].iter().flat_map(|word| word.to_ne_bytes()))
            .collect();
        assert!(into == expected);
        own().read_ranges(&[], &mut []).unwrap();
        // The third of four is not there, and no address is as high as the last.
        for (base, len) in [(16, 24), (usize::MAX - 3, 8)] {
            let bad = MemoryRange { base, len };
            let mut into = vec![0; 8 + 16 + len + 8];
            let error = own().read_ranges(&[at(0, 8), at(1, 16), bad, at(3, 8)], &mut into);
            let (pid, address, length) = (std::process::id(), base as u64, len);
            assert_eq!(error, Err(ReadError::Unmapped { pid, address, length }));
        }
    }

    #[test]
    fn a_buffer_of_the_wrong_length_is_refused() {
        let range = |len| MemoryRange { base: 4096, len };
        for (ranges, needed) in [
            ([range(8), range(8)], 16),
            ([range(usize::MAX), range(8)], usize::MAX),
        ] {
            let error = own().read_ranges(&ranges, &mut [0; 15]).unwrap_err();
            assert_eq!(error, ReadError::Length { needed, length: 15 });
        }
        let error = own().read_each(&[0, 0], 8, &mut [0; 15]).unwrap_err();
        assert_eq!(
            error,
            ReadError::Length {
                needed: 16,
                length: 15
            }
        );
    }

    #[test]
    fn a_child_can_be_read_until_it_is_gone() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let memory = ProcessMemory::new(child.id());
        // `spawn` returns while the kernel is still building the new address space.
        let start = loop {
            let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
            if let Some(line) = maps.lines().find(|line| line.ends_with("/sleep")) {
                break u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
            }
        };
        let mut header = [0; 4];
        memory.read(start, &mut header).unwrap();
        assert_eq!(&header, b"\x7fELF");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(
            memory.read(start, &mut header),
            Err(ReadError::Gone { pid: child.id() })
        );
    }

    #[test]
    fn kernel_threads_and_impossible_numbers_have_no_memory() {
        for pid in [u32::MAX, i32::MAX as u32] {
            assert_eq!(
                ProcessMemory::new(pid).read_u32(4096),
                Err(ReadError::Gone { pid })
            );
        }
    }

    #[test]
    fn without_privilege_it_says_so() {
        // A process of another user, read by user nobody: `setpriv` drops root, then runs this test again to read.
        if let Ok(pid) = std::env::var("READ_MEMORY_OF") {
            let pid: u32 = pid.parse().unwrap();
            assert_eq!(
                ProcessMemory::new(pid).read_u32(4096),
                Err(ReadError::NotPermitted { pid })
            );
            return;
        }
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test needs root, to have a privilege to drop"
        );
        let this = std::env::current_exe().unwrap();
        // The test binary lies where nobody else may look, so it is run through a descriptor of its own.
        let copy = tempfile::Builder::new()
            .prefix("memory")
            .tempfile_in("/tmp")
            .unwrap()
            .into_temp_path();
        std::fs::copy(&this, &copy).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
        let status = Command::new("setpriv")
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--bounding-set=-all",
            ])
            .arg(&copy)
            .args(["--exact", "memory::process::tests::without_privilege_it_says_so"])
            .env("READ_MEMORY_OF", std::process::id().to_string())
            .current_dir("/")
            .status()
            .unwrap();
        assert!(status.success());
    }
}
