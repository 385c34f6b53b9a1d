//! A program's file, mapped while it is analysed. Its owner may truncate it meanwhile, and its disk or server may
//! fail: the kernel then sends SIGBUS to the reader of a page that is not available. Instead of dying of that, the
//! reader sees zeros, and its result is discarded.
//!
//! The mapping must be a shared one. The kernel puts the breakpoints of uprobes into private mappings of a file, even
//! read-only ones (`valid_vma` in kernel/events/uprobes.c), so that in a private mapping a second gmpscope would
//! decode the first one's breakpoints in place of the program.

use std::{
    ffi::c_void,
    fs::File,
    io,
    ops::Deref,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use libc::{c_int, siginfo_t};
use memmap2::Mmap;

use crate::error::{Error, Result};

/// Most files that are mapped at the same time.
const MOST: usize = 256;

static MAPPED: [Place; MOST] = [const { Place::free() }; MOST];
/// The action for SIGBUS before ours was installed.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// The place of a mapped file; all zero if it is free.
struct Place {
    taken: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    was_cut: AtomicBool,
}

impl Place {
    const fn free() -> Self {
        Self {
            taken: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            was_cut: AtomicBool::new(false),
        }
    }
}

/// The bytes of a file; unmapped, and so no longer resident, when dropped.
#[derive(Debug)]
pub struct Mapping {
    /// Unmapped before its place is freed.
    bytes: Option<Mmap>,
    place: usize,
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let Some(place) = MAPPED.get(self.place) else {
            return;
        };
        place.start.store(0, Ordering::SeqCst);
        place.end.store(0, Ordering::SeqCst);
        drop(self.bytes.take());
        place.taken.store(false, Ordering::SeqCst);
    }
}

impl Mapping {
    /// Maps a file. Pages are read on access.
    ///
    /// # Errors
    /// The file cannot be mapped, or too many are.
    pub fn of(file: &File) -> io::Result<Self> {
        BEFORE.get_or_init(install);
        let index = MAPPED
            .iter()
            .position(|place| !place.taken.swap(true, Ordering::SeqCst))
            .ok_or_else(|| io::Error::other("too many files are mapped at once"))?;
        // From here on, dropping it frees the place.
        let mut mapping = Self {
            bytes: None,
            place: index,
        };
        let bytes = map(file)?;
        if let Some(place) = MAPPED.get(index) {
            let start = bytes.as_ptr().addr();
            place.was_cut.store(false, Ordering::SeqCst);
            place
                .end
                .store(start.saturating_add(bytes.len()), Ordering::SeqCst);
            place.start.store(start, Ordering::SeqCst);
        }
        mapping.bytes = Some(bytes);
        Ok(mapping)
    }

    /// Whether some of it could not be read, so that zeros were read instead.
    pub fn was_cut(&self) -> bool {
        let place = MAPPED.get(self.place);
        place.is_some_and(|place| place.was_cut.load(Ordering::SeqCst))
    }

    /// Returns `made`, which was made of the mapping, if all of that could be read.
    ///
    /// # Errors
    /// Those of `made`; or some of it could not be read.
    pub fn judge<T>(&self, name: &str, made: Result<T>) -> Result<T> {
        if self.was_cut() {
            return Err(Error::failed(format!(
                "{name}: could not be read to its end while it was looked at: it was cut short, or its disk or server \
                 fails. Try again when it is whole."
            )));
        }
        made
    }
}

fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: The mapping is shared and read-only (`Mmap::map` asks for MAP_SHARED), and this crate hands it out as
    // `&[u8]` only. What Rust cannot rule out is that somebody else writes to the file: the kernel refuses that while
    // any process executes it (ETXTBSY), and package managers replace files instead of writing into them. Should bytes
    // change all the same, every parser here takes each byte as hostile and reads it by value; should they go away,
    // `on_sigbus` puts zeros in their place.
    unsafe { Mmap::map(file) }
}

/// Installs [`on_sigbus`], and returns the previous action.
fn install() -> libc::sigaction {
    // SAFETY: Both structs are plain data for which zeros are valid, and both pointers are valid for the call.
    // `on_sigbus` has the signature that SA_SIGINFO asks for, and does nothing that a handler may not do.
    unsafe {
        let mut ours: libc::sigaction = std::mem::zeroed();
        let mut before: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_sigbus;
        ours.sa_sigaction = handler as usize;
        // On the stack that Rust's runtime has for this: the fault may be of another kind.
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut ours.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const ours, &raw mut before);
        before
    }
}

/// Maps a page of zeros where one of a mapped file is not available. For any other fault it restores the previous
/// action, and the fault happens again. Only makes system calls, and loads and stores atomics.
extern "C" fn on_sigbus(_signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: The kernel hands over a valid siginfo_t, whose si_addr is set for SIGBUS.
    let address = unsafe { (*info).si_addr() }.addr();
    let hit = MAPPED.iter().find(|place| {
        (place.start.load(Ordering::SeqCst)..place.end.load(Ordering::SeqCst)).contains(&address)
    });
    if let Some(place) = hit {
        // SAFETY: sysconf is async-signal-safe. The page lies in a mapping of ours that the faulting thread is reading,
        // so it stays mapped during this call, and nobody holds a pointer into it but to read bytes.
        let mapped = unsafe {
            let size = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).unwrap_or(4096);
            let page = std::ptr::without_provenance_mut::<c_void>(address & !(size - 1));
            libc::mmap(
                page,
                size,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if mapped != libc::MAP_FAILED {
            place.was_cut.store(true, Ordering::SeqCst);
            return;
        }
    }
    if let Some(before) = BEFORE.get() {
        // SAFETY: `before` is what the kernel gave us.
        unsafe { libc::sigaction(libc::SIGBUS, before, std::ptr::null_mut()) };
    } else {
        // SAFETY: sets the default action.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// The flags of /proc/self/maps (`r--s`) of whatever is mapped at an address.
    fn flags_at(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut fields = maps.lines().map(|line| line.split_whitespace());
        let found = fields.find_map(|mut fields| {
            let (from, to) = fields.next()?.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).ok();
            (number(from)?..number(to)?)
                .contains(&address)
                .then(|| fields.next())?
        });
        found.unwrap().to_owned()
    }

    #[test]
    fn a_program_is_mapped_so_that_no_breakpoint_of_others_is_seen() {
        let mapping = Mapping::of(&File::open("/proc/self/exe").unwrap()).unwrap();
        assert_eq!(flags_at(mapping.as_ptr().addr()), "r--s");
    }

    #[test]
    fn missing_pages_are_read_as_zeros_and_reported() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 3 * 65536]).unwrap();
        let (whole, cut) = (Mapping::of(&file).unwrap(), Mapping::of(&file).unwrap());
        assert_eq!((cut.len(), cut[65536]), (3 * 65536, 7));
        assert!(!cut.was_cut());
        file.set_len(65536).unwrap();
        assert!(cut[2 * 65536..].iter().all(|byte| *byte == 0));
        assert!(cut.was_cut() && !whole.was_cut());
        let error = cut.judge("server", Ok(())).unwrap_err();
        assert!(
            error.message.contains("server: could not be read to its end"),
            "{error:?}"
        );
        assert!(whole.judge("server", Ok(())).is_ok());
        // A later mapping in the same place starts afresh.
        drop((whole, cut));
        let again = Mapping::of(&file).unwrap();
        assert_eq!(again.len(), 65536);
        assert!(!again.was_cut() && again.iter().all(|byte| *byte == 7));
    }
}
