//! Whether a process is still the same: what is kept of one that is watched for long.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix::time::ClockId;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::error::{Error, Result};
use crate::escape::Untrusted;
use crate::process::file::{FileId, FileState};
use crate::process::threads::{folder, folder_of, living_thread};

/// `AT_NULL` and its value, the last pair of an auxiliary vector.
const END_MARK: usize = 16;
/// How long to wait for the rest of an execve, which may have to read from a disk.
pub(super) const EXEC_MS: u32 = 200;
/// How long to wait for a first thread that has ended: as long as this, another one may be in execve, and about to take
/// its place. Then the process is read through another.
pub(super) const LEADER_MS: u32 = 20;

/// What has become of a process since it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It still runs the same program, as far as can be seen.
    Unchanged,
    /// It has executed a program (execve), or is about to: what was read may be of either program.
    Executed,
    /// It has ended, or is about to: its memory is gone.
    Ended,
}

/// A process that was alive when it was opened, held by one descriptor.
#[derive(Debug)]
pub struct Life {
    pub(super) pid: i32,
    pub(super) start_time: u64,
    pub(super) comm: Untrusted,
    pub(super) uid: u32,
    /// Identifies the image that its execve made; see [`settled_image`].
    pub(super) image: Vec<u8>,
    pub(super) pidfd: OwnedFd,
}

impl Life {
    /// Its PID, in our namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When it was started, in clock ticks since boot: with the PID, its identity.
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Its name when it was opened, at most 15 bytes.
    pub fn comm(&self) -> &Untrusted {
        &self.comm
    }

    /// The user that it ran as when it was opened.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Readable once the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        is_readable(&self.pidfd)
    }

    /// Whether it has executed a program (execve) since it was opened, even the same one. False if its auxiliary
    /// vector may not be read, or it has just ended.
    pub fn has_execed(&self) -> bool {
        self.is_other(&image(&self.folder()))
    }

    /// The folder of /proc of its first thread.
    fn folder(&self) -> String {
        folder_of(self.pid.unsigned_abs(), self.pid.unsigned_abs())
    }

    fn is_other(&self, now: &Image) -> bool {
        match now {
            _ if self.image.is_empty() => false,
            Image::Unknown | Image::Gone => false,
            Image::InExec => true,
            Image::Whole(now) => *now != self.image,
        }
    }

    /// What has become of it since it was opened; `file` is the program that it ran then, if that is known. To be
    /// asked when something about the process is unexpected, before that is interpreted.
    pub fn fate(&self, file: Option<FileId>) -> Fate {
        let read = |folder: &str| (FileState::known_at(&format!("{folder}/exe")), image(folder));
        let (mut state, mut now) = read(&self.folder());
        for waited in 1..=EXEC_MS {
            // Its main thread has no memory any more: it has ended alone, the process is about to end, or another
            // thread is in execve, which ends all others (fs/exec.c, de_thread). The memory may have gone between two
            // checks.
            let is_gone =
                matches!(&state, Err(e) if e.kind() == io::ErrorKind::NotFound) || matches!(now, Image::Gone);
            if !is_gone || self.has_ended() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
            (state, now) = match waited < LEADER_MS {
                true => read(&self.folder()),
                false => read(&folder(self.pid.unsigned_abs())),
            };
        }
        let seen = match state {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Fate::Ended,
            Ok(now) if file.is_some_and(|then| then != now.id) => Fate::Executed,
            _ if self.is_other(&now) => Fate::Executed,
            _ => Fate::Unchanged,
        };
        // Only now it is certain that the PID was not reused.
        if self.has_ended() { Fate::Ended } else { seen }
    }

    /// Returns `error`, which occurred when the process was analysed or attached to, unless the fate of the process
    /// explains it (see [`Self::fate`]): then an error that says so, with exit status 3.
    pub fn explain(&self, error: Error, file: Option<FileId>) -> Error {
        match self.fate(file) {
            Fate::Unchanged => error,
            Fate::Executed => self.executed(),
            Fate::Ended => Error::not_traceable(format!(
                "process {} ({}) ended while gmpscope looked at it; to trace a process from its start, use gmpscope run",
                self.pid, self.comm
            )),
        }
    }

    /// The error for a process that does not run the examined program any more.
    pub fn executed(&self) -> Error {
        Error::not_traceable(format!(
            "process {} ({}) executed another program while gmpscope looked at it; if that is one to trace, attach again",
            self.pid, self.comm
        ))
    }

    /// CPU time in nanoseconds that all its threads have used since it started, including those that have ended,
    /// exact to the last tick of the scheduler.
    pub fn cpu_time_ns(&self) -> Result<u64> {
        let failed = |e| Error::failed(format!("process {}: its CPU clock cannot be read: {e}", self.pid));
        let clock = ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(self.pid)).map_err(|e| match e {
            nix::errno::Errno::ESRCH => self.ended(),
            e => failed(e),
        })?;
        let time = clock.now().map_err(failed)?;
        // The clock is selected by PID: it is the right one only if the process still exists.
        if self.has_ended() {
            return Err(self.ended());
        }
        let (seconds, rest) = (u64::try_from(time.tv_sec()), u64::try_from(time.tv_nsec()));
        Ok(seconds
            .unwrap_or(0)
            .saturating_mul(1_000_000_000)
            .saturating_add(rest.unwrap_or(0)))
    }

    pub(super) fn ended(&self) -> Error {
        Error::not_traceable(format!("process {} ({}) has ended", self.pid, self.comm))
    }
}

/// Whether a pidfd is readable: its process has ended, with all its threads.
pub(super) fn is_readable(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(n) if n > 0)
}

/// Reads `/proc/PID/auxv`, whose addresses differ between execves where address space is randomized: without that, a
/// program that executes itself again is not noticed. (The random bytes that it points to are not an alternative: Go's
/// runtime clears them from 1.22 on, rand.go, `randinit`.)
///
/// In the middle of an execve it has only its end mark. Only the owner may read it; a tracer that is not the owner
/// uses the addresses of the stack and the arguments in /proc/PID/stat. All threads have the same.
fn image(folder: &str) -> Image {
    let whole = match fs::read(format!("{folder}/auxv")) {
        Ok(auxv) if auxv.len() == END_MARK => return Image::InExec,
        Ok(auxv) if auxv.is_empty() => return Image::Gone,
        Ok(auxv) => auxv,
        Err(_) => stack(folder).unwrap_or_default(),
    };
    match whole.is_empty() {
        true => Image::Unknown,
        false => Image::Whole(whole),
    }
}

/// The image of a process, as [`image`] finds it.
enum Image {
    /// Bytes that differ from those of any other execve.
    Whole(Vec<u8>),
    /// An execve has removed the old image, and not yet made the new one.
    InExec,
    /// The main thread has no memory: it has ended, or another thread is in execve.
    Gone,
    /// It may not be read.
    Unknown,
}

/// The image of a process, after waiting for the rest of an execve; empty if it is not known.
pub(super) fn settled_image(pid: i32) -> Vec<u8> {
    let pid = pid.unsigned_abs();
    for waited in 0..EXEC_MS {
        let now = match image(&folder_of(pid, pid)) {
            Image::Gone if waited >= LEADER_MS => match living_thread(pid) {
                Some(thread) => image(&folder_of(pid, thread)),
                None => Image::Gone,
            },
            now => now,
        };
        match now {
            Image::Whole(image) => return image,
            Image::InExec | Image::Gone => thread::sleep(Duration::from_millis(1)),
            Image::Unknown => break,
        }
    }
    Vec::new()
}

/// The addresses of a process's stack and arguments (`startstack`, `arg_start`, proc(5)): 0 if we may not trace it.
fn stack(folder: &str) -> Option<Vec<u8>> {
    let stat = procfs::process::Process::new_with_root(PathBuf::from(folder))
        .and_then(|process| process.stat())
        .ok()?;
    let addresses = [stat.startstack, stat.arg_start?];
    (addresses != [0, 0]).then(|| {
        addresses
            .iter()
            .flat_map(|address| address.to_ne_bytes())
            .collect()
    })
}
