//! A process beside ours that lets everything pass when the gate's thread does not move.
//!
//! A process that is stopped (SIGSTOP, a debugger), wedged in the kernel or writing its core answers nobody, and
//! programs of the whole host would wait for it. Nothing within it can help, so another process has the group, too: it
//! looks a few times a second whether the thread moves, and if it does not while somebody waits, takes the marks away and
//! answers in its place. It knows nothing and decides nothing.
//!
//! The process is forked from the thread, without `execve` (which might wait at the gate itself), and is killed with it:
//! `PR_SET_PDEATHSIG` is bound to the thread that forked, and reaches a process that is stopped, too. Behind the fork of
//! a process with threads only system calls are safe, so it makes nothing else. A thread would be stopped with the
//! others; a program of its own, executed, would have to be found and be waited for.

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

/// How often it looks.
const PERIOD_MS: i32 = 70;
/// How soon it looks again where nothing came, while it answers.
const PAUSE_MS: i32 = 10;
/// The thread is taken for stopped when it has not moved by so many looks.
const STILL: u32 = 3;
/// The thread moves at least so often while somebody waits.
pub const BEAT: Duration = Duration::from_millis(40);
const _: () = assert!(BEAT.as_millis() < PERIOD_MS as u128);
/// How long it may take to come up.
const PATIENCE: Duration = Duration::from_secs(5);
/// What `ps` and `top` call it.
const NAME: &std::ffi::CStr = c"gmpscope-watch";

/// What the two processes share. Zero at first.
#[repr(C)]
#[derive(Default)]
struct Table {
    /// Grows while the thread moves.
    beats: AtomicU64,
    /// 1: the thread may have taken an event that it has not answered yet.
    owes: AtomicU32,
    /// 1: the process watches.
    watches: AtomicU32,
    /// 1: it has let everything go, and does so from here on.
    opened: AtomicU32,
    /// How many it has let go.
    let_go: AtomicU64,
}

/// The process. It is gone when this is dropped.
pub struct Watchdog {
    table: Shared,
    pidfd: OwnedFd,
}

/// The table, mapped.
struct Shared(NonNull<Table>);

impl Watchdog {
    /// Starts the process. It watches from here on, and wakes `wake` when it has let everything go.
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

    /// The thread moves.
    pub fn beat(&self) {
        self.table.get().beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the thread may have taken events that it has not answered. To be set before it takes one.
    pub fn owe(&self, owes: bool) {
        self.table.get().owes.store(u32::from(owes), Ordering::SeqCst);
    }

    /// Whether it has let everything go.
    pub fn has_opened(&self) -> bool {
        self.table.get().opened.load(Ordering::SeqCst) != 0
    }

    /// How many programs it has let go.
    pub fn let_go(&self) -> u64 {
        self.table.get().let_go.load(Ordering::SeqCst)
    }

    /// Whether the process has ended, which it does not by itself.
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
        // Fails where it has ended already.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        // It has the group, which is open until it is gone. Waiting for ever would not help anybody.
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
        // SAFETY: a new mapping, at a place of the kernel's choice.
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
        // SAFETY: mapped by `map` with this length; who borrows from it borrows this.
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

/// Forks the process; its pidfd.
fn fork(table: &Table, group: RawFd, wake: RawFd) -> io::Result<OwnedFd> {
    let parent = rustix::process::getpid().as_raw_nonzero().get();
    // Handlers of ours would run in it before it could take them away.
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

/// The process. All signals are blocked: it ends with the thread, and not before it. Allocates nothing, panics nowhere.
fn watch(table: &Table, group: RawFd, wake: RawFd, parent: i32) -> ! {
    // SAFETY: system calls with numbers and a constant name.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
        // Ctrl-Z and Ctrl-C are for others.
        libc::setsid();
        if libc::getppid() != parent || descriptors::close_all_but(&[group, wake]).is_err() {
            libc::_exit(1);
        }
    }
    table.watches.store(1, Ordering::Release);
    let mut pulse = Pulse::default();
    loop {
        pause(PERIOD_MS);
        let somebody_waits = table.owes.load(Ordering::SeqCst) != 0 || readable(group, 0);
        if pulse.is_still(table.beats.load(Ordering::Relaxed), somebody_waits) {
            break;
        }
    }
    table.opened.store(1, Ordering::SeqCst);
    flush(group);
    // The thread looks at once when it can.
    // SAFETY: writes eight bytes that are there.
    unsafe { libc::write(wake, (&raw const ONE).cast(), size_of::<u64>()) };
    loop {
        let let_go = answer_taken(group).wrapping_add(answer_waiting(group));
        table.let_go.fetch_add(let_go, Ordering::SeqCst);
        if let_go == 0 {
            // Whatever becomes readable without an event does not keep the CPU busy.
            pause(PAUSE_MS);
        }
        readable(group, PERIOD_MS);
    }
}

fn pause(milliseconds: i32) {
    // SAFETY: waits; there are no descriptors to look at.
    unsafe { libc::poll(std::ptr::null_mut(), 0, milliseconds) };
}

static ONE: u64 = 1;

/// What is known of the thread by looking at it again and again.
#[derive(Default)]
struct Pulse {
    beats: u64,
    still: u32,
}

impl Pulse {
    /// Whether it has not moved for too long while somebody waited. Counts looks, not time: who was stopped together
    /// with the thread (a virtual machine, a laptop that slept) sees it move before the next ones.
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
    // SAFETY: one descriptor to look at, which is there.
    unsafe { libc::poll(&raw mut fds, 1, milliseconds) > 0 }
}

/// Takes all marks away.
fn flush(group: RawFd) {
    for of in [
        libc::FAN_MARK_FILESYSTEM,
        libc::FAN_MARK_MOUNT,
        libc::FAN_MARK_INODE,
    ] {
        let flags = libc::FAN_MARK_FLUSH | of;
        // SAFETY: a flush looks at no path and no mask, but at whether the path is there.
        unsafe { libc::fanotify_mark(group, flags, 0, libc::AT_FDCWD, c"/".as_ptr()) };
    }
}

/// Answers whatever the thread has taken. It may have been stopped between taking an event and any note of it; but an
/// answer names an event by a number that is at most [`HIGHEST`], so all are tried.
fn answer_taken(group: RawFd) -> u64 {
    (0..=HIGHEST).fold(0, |let_go: u64, number| {
        let_go.wrapping_add(answer(group, number))
    })
}

/// Takes what nobody has taken, and answers.
fn answer_waiting(group: RawFd) -> u64 {
    let mut let_go = 0u64;
    let mut event = [0u8; EVENT];
    loop {
        // SAFETY: reads at most as many bytes as there are.
        let read = unsafe { libc::read(group, event.as_mut_ptr().cast(), EVENT) };
        if read != EVENT as isize {
            return let_go;
        }
        if let Some(number) = descriptor_in(&event) {
            let_go = let_go.wrapping_add(answer(group, number));
            // SAFETY: the kernel has just given it to us.
            unsafe { libc::close(number) };
        }
    }
}

/// Lets go whoever waits under this number; how many. Until there is none: the thread may have another file under the
/// same number, since each process has a table of its own, and either answer reaches the one that came first.
fn answer(group: RawFd, number: RawFd) -> u64 {
    let bytes = answer_bytes(number, ALLOW);
    let mut let_go = 0u64;
    // SAFETY: writes as many bytes as there are.
    while unsafe { libc::write(group, bytes.as_ptr().cast(), bytes.len()) } > 0 {
        let_go = let_go.wrapping_add(1);
    }
    let_go
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands for a group: nothing can be answered, but it can be waited for.
    fn started() -> (Watchdog, io::PipeReader, io::PipeWriter, OwnedFd) {
        let (reader, writer) = io::pipe().unwrap();
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let watchdog = Watchdog::start(reader.as_fd(), wake.as_fd()).unwrap();
        (watchdog, reader, writer, wake)
    }

    #[test]
    fn a_thread_is_still_only_while_somebody_waits() {
        let mut pulse = Pulse::default();
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
        assert!(ready(&wake, 20_000), "it wakes who has not moved");
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
