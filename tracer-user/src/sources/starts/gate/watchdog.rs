//! A process that releases everything when the gate's thread does not move.
//!
//! A process that is stopped (SIGSTOP, a debugger), wedged in the kernel or writing its core answers no events, and
//! programs of the whole host would wait for it. Nothing within it can help, so another process has the group open, too:
//! it checks several times a second whether the thread moves, and if it does not while a program waits, removes the marks
//! and answers in its place. It allows everything, so it needs to know nothing.
//!
//! The process is forked from the thread, without `execve` (which might wait at the gate itself), and is killed with it:
//! `PR_SET_PDEATHSIG` is bound to the thread that forked, and reaches a stopped process, too. After the fork of a
//! multi-threaded process only system calls are safe, so it makes nothing else. A thread is not an alternative, since
//! it would be stopped with the others; a separate executable would have to be found and waited for.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    mm::{MapFlags, ProtFlags},
    process::{Signal, WaitId, WaitIdOptions},
};

use super::{
    descriptors::{self, HIGHEST},
    group::{ALLOW, EVENT, answer_bytes, descriptor_in},
};

/// How often the process checks.
const PERIOD_MS: i32 = 70;
/// How long it sleeps where there was nothing to answer.
const PAUSE_MS: i32 = 10;
/// The thread is considered stopped when it has not moved in this many checks.
const STILL: u32 = 3;
/// How often the thread beats at least while a program waits.
pub const BEAT: Duration = Duration::from_millis(40);
const _: () = assert!(BEAT.as_millis() < PERIOD_MS as u128);
/// How long the process may take to come up.
const PATIENCE: Duration = Duration::from_secs(5);
/// The name in `ps` and `top`.
const NAME: &std::ffi::CStr = c"gmpscope-watch";

/// Memory that the two processes share, zeroed at first.
#[repr(C)]
#[derive(Default)]
struct Table {
    /// Incremented by the thread while it moves.
    beats: AtomicU64,
    /// 1: the thread may have read an event that it has not answered yet.
    owes: AtomicU32,
    /// 1: the process watches.
    watches: AtomicU32,
    /// 1: the process has released everything, and continues to.
    opened: AtomicU32,
    /// How many programs the process has released.
    released: AtomicU64,
}

/// A handle to the process, which is killed when this is dropped.
pub struct Watchdog {
    table: Shared,
    pidfd: OwnedFd,
}

/// The mapped [`Table`].
struct Shared(NonNull<Table>);

impl Watchdog {
    /// Starts the process, which watches from here on, and writes to `wake` once it has released everything.
    ///
    /// # Errors
    /// There is no memory, or there are too many processes.
    pub fn start(group: BorrowedFd<'_>, wake: BorrowedFd<'_>) -> io::Result<Self> {
        let table = Shared::map()?;
        let pidfd = fork(table.get(), group.as_raw_fd(), wake.as_raw_fd())?;
        let watchdog = Self { table, pidfd };
        let until = Instant::now() + PATIENCE;
        while watchdog.table.get().watches.load(Ordering::Acquire) == 0 {
            if watchdog.has_ended() || Instant::now() > until {
                return Err(io::Error::other("it did not come up"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(watchdog)
    }

    /// Records that the thread moves.
    pub fn beat(&self) {
        self.table.get().beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets whether the thread may have read events that it has not answered. To be set before it reads one.
    pub fn owe(&self, owes: bool) {
        self.table.get().owes.store(u32::from(owes), Ordering::SeqCst);
    }

    /// Whether the process has released everything.
    pub fn has_opened(&self) -> bool {
        self.table.get().opened.load(Ordering::SeqCst) != 0
    }

    /// How many programs the process has released.
    pub fn released(&self) -> u64 {
        self.table.get().released.load(Ordering::SeqCst)
    }

    /// Whether the process has ended: somebody has killed it.
    pub fn has_ended(&self) -> bool {
        ready(&self.pidfd, 0)
    }
}

impl AsFd for Watchdog {
    /// Readable when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Fails if the process has ended already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        // It has the group, which is open until it is gone. The wait is bounded, in case it cannot be killed.
        if ready(
            &self.pidfd,
            i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX),
        ) {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let _ = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
        }
    }
}

impl Shared {
    fn map() -> io::Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let place = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), size_of::<Table>(), protection, flags)
        }?;
        NonNull::new(place.cast())
            .map(Self)
            .ok_or_else(|| io::Error::other("mapped at 0"))
    }

    fn get(&self) -> &Table {
        // SAFETY: mapped, aligned to a page and zeroed, which atomics may be, until this is dropped.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; borrows of the table borrow `self`.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), size_of::<Table>()) };
    }
}

/// Whether a descriptor is readable within this time.
fn ready(fd: &OwnedFd, milliseconds: i32) -> bool {
    let timeout = Timespec {
        tv_sec: i64::from(milliseconds / 1000),
        tv_nsec: i64::from(milliseconds % 1000) * 1_000_000,
    };
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// Forks the process, and returns its pidfd.
fn fork(table: &Table, group: RawFd, wake: RawFd) -> io::Result<OwnedFd> {
    let parent = rustix::process::getpid().as_raw_nonzero().get();
    // Otherwise our signal handlers could run in the child.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let mut pidfd: RawFd = -1;
    let flags = libc::c_long::from(libc::CLONE_PIDFD | libc::SIGCHLD);
    // SAFETY: as fork(2), without what a C library does around it. The child returns on a copy of this stack, of this
    // memory, and makes nothing but system calls from there on (`watch`), so it needs no lock that another thread had.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    if pid == 0 {
        watch(table, group, wake, parent);
    }
    let failed = (pid < 0).then(io::Error::last_os_error);
    before.thread_set_mask()?;
    match failed {
        Some(e) => Err(e),
        // SAFETY: the kernel has just made it, in the table of this thread.
        None => Ok(unsafe { descriptors::owned(pidfd) }),
    }
}

/// Runs the process. All signals are blocked: it ends with the thread, and not before it. Never allocates or panics.
fn watch(table: &Table, group: RawFd, wake: RawFd, parent: i32) -> ! {
    // SAFETY: system calls with numbers and a constant name.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
        // Out of the reach of Ctrl-Z and Ctrl-C.
        libc::setsid();
        if libc::getppid() != parent || descriptors::close_all_but(&[group, wake]).is_err() {
            libc::_exit(1);
        }
    }
    table.watches.store(1, Ordering::Release);
    let mut pulse = ProgressCheck::default();
    loop {
        pause(PERIOD_MS);
        let somebody_waits = table.owes.load(Ordering::SeqCst) != 0 || readable(group, 0);
        if pulse.is_still(table.beats.load(Ordering::Relaxed), somebody_waits) {
            break;
        }
    }
    table.opened.store(1, Ordering::SeqCst);
    flush(group);
    // So that the thread notices as soon as it runs again.
    // SAFETY: writes eight bytes that are there.
    unsafe { libc::write(wake, (&raw const ONE).cast(), size_of::<u64>()) };
    loop {
        let released = answer_taken(group).wrapping_add(answer_waiting(group));
        table.released.fetch_add(released, Ordering::SeqCst);
        if released == 0 {
            // So that a descriptor that is readable without an event does not keep the CPU busy.
            pause(PAUSE_MS);
        }
        readable(group, PERIOD_MS);
    }
}

fn pause(milliseconds: i32) {
    // SAFETY: waits without any descriptors.
    unsafe { libc::poll(std::ptr::null_mut(), 0, milliseconds) };
}

static ONE: u64 = 1;

/// What repeated checks have seen of the thread.
#[derive(Default)]
struct ProgressCheck {
    beats: u64,
    still: u32,
}

impl ProgressCheck {
    /// Whether the thread has not moved for too long while a program waited. Counts checks, not time: if both were
    /// stopped together (a virtual machine, a laptop that slept), the thread moves before the next checks.
    fn is_still(&mut self, beats: u64, somebody_waits: bool) -> bool {
        self.still = match beats == self.beats && somebody_waits {
            true => self.still.saturating_add(1),
            false => 0,
        };
        self.beats = beats;
        self.still >= STILL
    }
}

fn readable(fd: RawFd, milliseconds: i32) -> bool {
    let mut fds = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: passes one valid `pollfd`.
    unsafe { libc::poll(&raw mut fds, 1, milliseconds) > 0 }
}

/// Removes all marks.
fn flush(group: RawFd) {
    for of in [
        libc::FAN_MARK_FILESYSTEM,
        libc::FAN_MARK_MOUNT,
        libc::FAN_MARK_INODE,
    ] {
        let flags = libc::FAN_MARK_FLUSH | of;
        // SAFETY: a flush uses neither path nor mask; it only checks that the path exists.
        unsafe { libc::fanotify_mark(group, flags, 0, libc::AT_FDCWD, c"/".as_ptr()) };
    }
}

/// Answers every event that the thread has read. It may have been stopped between reading one and recording it; but an
/// answer names an event by a descriptor number, which is at most [`HIGHEST`], so all are tried.
fn answer_taken(group: RawFd) -> u64 {
    (0..=HIGHEST).fold(0, |released: u64, number| {
        released.wrapping_add(answer(group, number))
    })
}

/// Reads the events that wait, and answers them.
fn answer_waiting(group: RawFd) -> u64 {
    let mut released = 0u64;
    let mut event = [0u8; EVENT];
    loop {
        // SAFETY: reads at most as many bytes as the buffer has.
        let read = unsafe { libc::read(group, event.as_mut_ptr().cast(), EVENT) };
        if read != EVENT as isize {
            return released;
        }
        if let Some(number) = descriptor_in(&event) {
            released = released.wrapping_add(answer(group, number));
            // SAFETY: the kernel has just given it to us.
            unsafe { libc::close(number) };
        }
    }
}

/// Releases the programs that wait under this descriptor number, and returns how many. Repeats until there is none:
/// the thread may have another file under the same number, since each process has its own table, and an answer reaches
/// the earlier event.
fn answer(group: RawFd, number: RawFd) -> u64 {
    let bytes = answer_bytes(number, ALLOW);
    let mut released = 0u64;
    // SAFETY: writes as many bytes as the buffer has.
    while unsafe { libc::write(group, bytes.as_ptr().cast(), bytes.len()) } > 0 {
        released = released.wrapping_add(1);
    }
    released
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A watchdog with a pipe in place of a group: nothing can be answered, but it can be waited for.
    fn started() -> (Watchdog, io::PipeReader, io::PipeWriter, OwnedFd) {
        let (reader, writer) = io::pipe().unwrap();
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let watchdog = Watchdog::start(reader.as_fd(), wake.as_fd()).unwrap();
        (watchdog, reader, writer, wake)
    }

    #[test]
    fn a_thread_is_still_only_while_somebody_waits() {
        let mut pulse = ProgressCheck::default();
        assert!((1..100).all(|_| !pulse.is_still(7, false)));
        let looks: Vec<bool> = (0..3).map(|_| pulse.is_still(7, true)).collect();
        assert_eq!(looks, [false, false, true]);
        assert!(!pulse.is_still(8, true), "it has moved");
        assert!(!pulse.is_still(8, true));
        assert!(!pulse.is_still(8, false), "nobody waits any more");
        assert!(!pulse.is_still(8, true));
    }

    #[test]
    fn it_opens_when_an_answer_is_owed_and_the_thread_does_not_move() {
        let (watchdog, _reader, _writer, wake) = started();
        std::thread::sleep(Duration::from_millis(500));
        assert!(!watchdog.has_opened(), "nobody waits");
        watchdog.owe(true);
        assert!(ready(&wake, 20_000), "the thread is woken");
        assert!(watchdog.has_opened());
    }

    #[test]
    fn it_ends_with_the_thread_that_made_it_stopped_or_not() {
        for stopped in [false, true] {
            let pidfd = std::thread::spawn(move || {
                let (watchdog, reader, writer, _) = started();
                if stopped {
                    rustix::process::pidfd_send_signal(&watchdog.pidfd, Signal::STOP).unwrap();
                }
                let pidfd = watchdog.pidfd.try_clone().unwrap();
                assert!(!ready(&pidfd, 100), "it has ended too early");
                // As if the thread had been killed.
                std::mem::forget((watchdog, reader, writer));
                pidfd
            })
            .join()
            .unwrap();
            assert!(ready(&pidfd, 20_000), "stopped: {stopped}");
        }
    }

    #[test]
    fn dropped_it_is_gone() {
        let (watchdog, ..) = started();
        let pidfd = watchdog.pidfd.try_clone().unwrap();
        drop(watchdog);
        assert!(ready(&pidfd, 0));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        assert!(
            rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options).is_err(),
            "nobody is left to be waited for"
        );
    }
}
