//! The descriptors that the gate depends on: a table of its own for the thread that answers, and a reserve in it.
//!
//! The kernel opens each file that is executed for whoever reads the event. Where it cannot, because the reader has no
//! descriptor left or no memory, it refuses the `execve` by itself (fs/notify/fanotify/fanotify_user.c,
//! `copy_event_to_user`), whoever made it. So the reader shares its table with no other thread: what the rest of
//! gmpscope opens takes nothing away from it, and between a look at the table and the read nothing changes.

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

use super::Asker;
use crate::error::{Error, Result};

/// With fewer descriptors nothing is held: attaching takes most of them, and each program that is held takes one.
pub const FLOOR: u64 = 128;
/// No more programs are held at once than this: each takes a descriptor.
const MOST_HELD: usize = 256;
/// Descriptors that the thread has besides those of programs that are held.
const OWN: u64 = 32;
/// No descriptor of the thread's has a higher number: it has its table for itself, and the kernel gives the lowest that
/// is free.
pub const HIGHEST: RawFd = 511;
const _: () = assert!(MOST_HELD as u64 + OWN <= HIGHEST as u64);
/// Files in reserve: one that is executed may take two (an overlay opens what lies below, too).
const RESERVE: usize = 2;

/// Refuses where the limit leaves too few descriptors.
///
/// # Errors
/// That, with what to do.
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

/// Gives the calling thread a table of descriptors of its own, in which only these are open. Standard input, output and
/// error lead to /dev/null in it: the thread waits for nobody who reads them.
///
/// # Errors
/// The kernel's.
pub fn separate(kept: &[RawFd]) -> io::Result<()> {
    // SAFETY: takes a number. Who owns descriptors in the table that this thread had shares it with it no longer.
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
        // The next that stays, from here.
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

/// The descriptor of this number.
///
/// # Safety
/// It is open in the calling thread's table, and nothing else in that table owns it.
pub unsafe fn owned(number: RawFd) -> OwnedFd {
    // SAFETY: what the caller promises.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Open files that stand in for the one that the kernel opens with the next event: as long as they can be opened, so can
/// that. They are closed just before it is read.
///
/// It notices every shortage that the kernel's own attempt would meet, before it does: descriptors (`EMFILE`), open files
/// of the host (`ENFILE`; CAP_SYS_ADMIN, which the gate takes, has no such limit) and memory of our cgroup (`ENOMEM`).
#[derive(Default)]
pub struct Reserve(Vec<OwnedFd>);

impl Reserve {
    /// Opens what is missing.
    ///
    /// # Errors
    /// There is no room: no event may be read.
    pub fn fill(&mut self) -> std::result::Result<(), Errno> {
        while self.0.len() < RESERVE {
            self.0.push(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?);
        }
        Ok(())
    }

    /// Makes room for one event.
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
