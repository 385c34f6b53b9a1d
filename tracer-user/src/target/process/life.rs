//! Whether a process is still the one that it was: what is kept of it by whoever watches it for long.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::time::ClockId;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::error::{Error, Result};
use crate::escape::Untrusted;

/// `AT_NULL` and its value, the last pair of an auxiliary vector.
const END_MARK: usize = 16;
/// How long the rest of an execve is waited for.
const EXEC_MS: u32 = 20;

/// A process that was alive when it was opened, held by one descriptor.
#[derive(Debug)]
pub struct Life {
    pub(super) pid: i32,
    pub(super) start_time: u64,
    pub(super) comm: Untrusted,
    pub(super) uid: u32,
    /// What tells its program's image from that of any other exec; see [`image`].
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
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(n) if n > 0)
    }

    /// Whether it has been started anew (execve) since it was opened, be it with the very same program. One whose
    /// auxiliary vector may not be read, or that has just ended, has not as far as we know.
    pub fn has_execed(&self) -> bool {
        let now = image(self.pid);
        !now.is_empty() && !self.image.is_empty() && now != self.image
    }

    /// CPU time that all its threads have used since it started, in nanoseconds: those that have ended
    /// included, exact to the last tick of the scheduler.
    pub fn cpu_time_ns(&self) -> Result<u64> {
        let failed = |e| Error::failed(format!("process {}: its CPU clock cannot be read: {e}", self.pid));
        let clock = ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(self.pid)).map_err(|e| match e {
            nix::errno::Errno::ESRCH => self.ended(),
            e => failed(e),
        })?;
        let time = clock.now().map_err(failed)?;
        // The clock goes by PID: it is ours only if the process is still there.
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

/// `/proc/PID/auxv`, whose addresses differ from one execve to the next where address space is randomized: with
/// that switched off, a program that starts itself anew is not noticed. (The random bytes that it points to would
/// not do: Go's runtime clears them from 1.22 on, rand.go, `randinit`.)
///
/// In the middle of an execve it has no more than its end mark: then it is waited for, some milliseconds. It is for
/// its owner to read; who may trace the process without being that has the addresses of its stack and arguments
/// from /proc/PID/stat. Empty where neither tells.
pub(super) fn image(pid: i32) -> Vec<u8> {
    for _ in 0..EXEC_MS {
        match fs::read(format!("/proc/{pid}/auxv")) {
            Ok(auxv) if auxv.len() == END_MARK => thread::sleep(Duration::from_millis(1)),
            Ok(auxv) => return auxv,
            Err(_) => return stack(pid).unwrap_or_default(),
        }
    }
    Vec::new()
}

/// Where the stack and the arguments of a process begin (`startstack`, `arg_start`, proc(5)): 0 to who may not trace it.
fn stack(pid: i32) -> Option<Vec<u8>> {
    let stat = procfs::process::Process::new(pid)
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
