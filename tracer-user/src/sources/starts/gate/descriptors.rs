//! The descriptors that the gate depends on: a separate table for the thread that answers, and a reserve in it.
//!
//! The kernel opens each file that is executed for the reader of the event. Where it cannot, because the reader has no
//! descriptor or no memory left, it refuses the `execve` by itself (fs/notify/fanotify/fanotify_user.c,
//! `copy_event_to_user`), by any process. So the reader shares its table with no other thread: the rest of gmpscope
//! cannot use up its descriptors, and nothing changes between a check of the table and the read.

use std::{
    io,
    ops::RangeInclusive,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use rustix::{
    event::EventfdFlags,
    fs::{Mode, OFlags},
    io::Errno,
    process::{Resource, getrlimit},
};

use super::asker::Asker;
use crate::error::{Error, Result};

/// Fewest descriptors with which programs are held: attaching takes most of them, and each held program takes one.
pub const FLOOR: u64 = 128;
/// Most programs that are held at once: each takes a descriptor.
const MOST_HELD: usize = 256;
/// Descriptors of the thread besides those of held programs.
const OWN: u64 = 32;
/// Highest number of a descriptor of the thread: the table is its own, and the kernel gives the lowest free number.
pub const HIGHEST: RawFd = 511;
const _: () = assert!(MOST_HELD as u64 + OWN <= HIGHEST as u64);
/// Files in reserve: one that is executed may take two (an overlay opens what lies below, too).
const RESERVE: usize = 2;

/// Checks that the limit leaves enough descriptors.
///
/// # Errors
/// It does not; the message says what to do.
pub fn enough(asker: Asker) -> Result<()> {
    let limits = getrlimit(Resource::Nofile);
    let limit = limits.current.unwrap_or(u64::MAX);
    if limit >= FLOOR {
        return Ok(());
    }
    let hard = limits
        .maximum
        .map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    Err(Error::failed(format!(
        "{asker} takes at least {FLOOR} file descriptors, and RLIMIT_NOFILE is {limit} (hard limit {hard}): with none \
         left the kernel would refuse to execute programs, those of others too; raise the limit (`ulimit -n {FLOOR}`, or \
         LimitNOFILE= of a systemd unit) and run it again"
    )))
}

/// How many programs may be held at once under the limit that is in force now.
pub fn most_held() -> usize {
    most_held_under(getrlimit(Resource::Nofile).current)
}

fn most_held_under(limit: Option<u64>) -> usize {
    let room = limit.map_or(u64::MAX, |limit| limit.saturating_sub(OWN));
    usize::try_from(room).unwrap_or(usize::MAX).min(MOST_HELD)
}

/// Gives the calling thread its own table of descriptors, in which only these are open. Standard input, output and error
/// lead to /dev/null in it, so that the thread never waits for their readers.
///
/// # Errors
/// The kernel's.
pub fn separate(kept: &[RawFd]) -> io::Result<()> {
    // SAFETY: takes a number. Owners of descriptors in the old table keep that table.
    if unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
        return Err(io::Error::last_os_error());
    }
    close_all_but(kept)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    for standard in 0..=2 {
        // SAFETY: takes two numbers. The table is the calling thread's own, where nothing else has the target.
        if null.as_raw_fd() != standard && unsafe { libc::dup2(null.as_raw_fd(), standard) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    if null.as_raw_fd() <= 2 {
        // It is one of the three now.
        std::mem::forget(null);
    }
    Ok(())
}

/// Closes every descriptor of the calling thread's table but these. Allocates nothing for up to four.
///
/// # Errors
/// The kernel is older than 5.9, or a filter keeps us from it.
pub fn close_all_but(kept: &[RawFd]) -> io::Result<()> {
    let mut from = 0;
    loop {
        // The next descriptor that stays open.
        let next = kept
            .iter()
            .filter_map(|fd| u32::try_from(*fd).ok())
            .filter(|fd| *fd >= from)
            .min();
        match next {
            Some(next) if next == from => {}
            Some(next) => close(from..=next - 1)?,
            None => return close(from..=u32::MAX),
        }
        from = next.map_or(u32::MAX, |next| next.saturating_add(1));
    }
}

fn close(range: RangeInclusive<u32>) -> io::Result<()> {
    // SAFETY: takes numbers. What is closed belongs to the calling thread alone, which uses none of it any more.
    match unsafe { libc::syscall(libc::SYS_close_range, *range.start(), *range.end(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes ownership of the descriptor with this number.
///
/// # Safety
/// It is open in the calling thread's table, and nothing else in that table owns it.
pub unsafe fn owned(number: RawFd) -> OwnedFd {
    // SAFETY: what the caller promises.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Open files that stand in for the one that the kernel opens with the next event: as long as they can be opened, it can.
/// They are closed just before the event is read.
///
/// Filling the reserve meets every shortage that the kernel's own attempt would meet, before it does: descriptors
/// (`EMFILE`), open files of the host (`ENFILE`; CAP_SYS_ADMIN, which the gate takes, has no such limit) and memory of
/// our cgroup (`ENOMEM`).
#[derive(Default)]
pub struct Reserve(Vec<OwnedFd>);

impl Reserve {
    /// Opens files until the reserve is full.
    ///
    /// # Errors
    /// There is no room: no event may be read.
    pub fn fill(&mut self) -> std::result::Result<(), Errno> {
        while self.0.len() < RESERVE {
            self.0.push(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?);
        }
        Ok(())
    }

    /// Closes the files, which makes room for one event.
    pub fn spend(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_ones() -> Vec<RawFd> {
        let listed = std::fs::read_dir("/proc/thread-self/fd").unwrap();
        let mut numbers: Vec<RawFd> = listed
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn a_small_limit_leaves_little_to_hold() {
        assert_eq!(most_held_under(None), MOST_HELD);
        assert_eq!(most_held_under(Some(1 << 20)), MOST_HELD);
        assert_eq!(most_held_under(Some(FLOOR)), 96);
        assert_eq!(most_held_under(Some(3)), 0);
    }

    #[test]
    fn a_thread_of_its_own_table_shares_nothing() {
        let (reader, writer) = io::pipe().unwrap();
        let kept = reader.as_raw_fd();
        let inside = std::thread::spawn(move || {
            separate(&[kept]).unwrap();
            let open = open_ones();
            let target = std::fs::read_link("/proc/thread-self/fd/2").unwrap();
            (open, target)
        });
        let (open, target) = inside.join().unwrap();
        // One more is the folder that was listed.
        assert_eq!(open.len(), 5, "{open:?}");
        assert!([0, 1, 2, kept].iter().all(|fd| open.contains(fd)), "{open:?}");
        assert_eq!(target, std::path::Path::new("/dev/null"));
        assert!(open_ones().contains(&writer.as_raw_fd()), "ours is as it was");
    }

    #[test]
    fn the_reserve_is_opened_and_spent() {
        std::thread::spawn(|| {
            separate(&[]).unwrap();
            let before = open_ones().len();
            let mut reserve = Reserve::default();
            reserve.fill().unwrap();
            reserve.fill().unwrap();
            assert_eq!(open_ones().len(), before + RESERVE);
            reserve.spend();
            assert_eq!(open_ones().len(), before);
        })
        .join()
        .unwrap();
    }
}
