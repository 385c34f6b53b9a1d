//! A process from outside: who it is, which file it runs and where that is mapped, what it may use.
//!
//! All is read through one open `/proc/PID` and one pidfd, so that a PID that is used again is noticed.

mod cgroup;
mod find;
mod maps;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix::time::ClockId;
use procfs::ProcError;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

pub use find::{Found, by_comm, by_exe};

use super::file::{FileId, ProgramFile};
use crate::error::privilege::{Need, advice};
use crate::error::{Error, Result};

/// `PF_KTHREAD`, include/linux/sched.h.
const PF_KTHREAD: u32 = 0x0020_0000;

/// `AT_NULL` and its value, the last pair of an auxiliary vector.
const END_MARK: usize = 16;
/// How long the rest of an execve is waited for.
const EXEC_MS: u32 = 20;

/// A process that was alive when it was opened. Its PID may be used again; this stays the one it was.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    start_time: u64,
    comm: String,
    uid: u32,
    /// What tells its program's image from that of any other exec; see [`image`].
    image: Vec<u8>,
    proc: procfs::process::Process,
    pidfd: OwnedFd,
}

impl Process {
    /// Opens a process by its PID in our PID namespace. The error says whether it is gone, a kernel thread,
    /// a zombie, a thread of another process, or hidden from us.
    pub fn open(pid: i32) -> Result<Self> {
        let gone = || {
            Error::not_traceable(format!(
                "there is no process {pid}: it has ended, or it is in another PID namespace (then use the PID that \
                 ps shows here); gmpscope attach --comm NAME finds processes by name"
            ))
        };
        let raw = Some(pid)
            .filter(|&pid| pid > 0)
            .and_then(Pid::from_raw)
            .ok_or_else(|| Error::usage(format!("{pid} is not a PID: PIDs are positive numbers")))?;
        let looked = |what: &str, e: ProcError| match e {
            ProcError::NotFound(_) => gone(),
            ProcError::PermissionDenied(_) => hidden(pid, what),
            ProcError::Io(e, _) if e.raw_os_error() == Some(libc::ESRCH) => gone(),
            e => Error::failed(format!("process {pid}: {what} cannot be read: {e}")),
        };
        let proc = procfs::process::Process::new(pid).map_err(|e| looked("/proc entry", e))?;
        let status = proc.status().map_err(|e| looked("status", e))?;
        if status.tgid != pid {
            return Err(Error::not_traceable(format!(
                "{pid} is a thread of process {0}: use -p {0}",
                status.tgid
            )));
        }
        let pidfd = rustix::process::pidfd_open(raw, PidfdFlags::empty()).map_err(|e| match e {
            rustix::io::Errno::SRCH => gone(),
            rustix::io::Errno::NOSYS => Error::not_permitted(
                "this kernel has no pidfd_open (Linux 5.3 and later have it): see gmpscope doctor".to_owned(),
            ),
            e => Error::failed(format!("process {pid}: pidfd_open failed: {e}")),
        })?;
        // Read behind the pidfd: if /proc/PID as it was opened still answers, both are of one process.
        let stat = proc.stat().map_err(|e| looked("stat", e))?;
        if stat.flags & PF_KTHREAD != 0 {
            return Err(Error::not_traceable(format!(
                "process {pid} ({}) is a kernel thread, not a Go program",
                stat.comm
            )));
        }
        if matches!(stat.state, 'Z' | 'X' | 'x') {
            return Err(Error::not_traceable(format!(
                "process {pid} ({}) has ended and is a zombie: only its parent {} has not yet waited for it",
                stat.comm, stat.ppid
            )));
        }
        Ok(Self {
            pid,
            start_time: stat.starttime,
            comm: stat.comm,
            uid: status.euid,
            image: image(pid),
            proc,
            pidfd,
        })
    }

    /// Its PID, in our namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When it was started, in clock ticks since boot: with the PID, its identity.
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Its name, at most 15 bytes.
    pub fn comm(&self) -> &str {
        &self.comm
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

    /// The file that it executes, also if that was replaced or deleted, or is in a container.
    pub fn exe(&self) -> Result<ProgramFile> {
        let path = self.path("exe");
        let shown = fs::read_link(&path).map(|p| p.display().to_string());
        let may_look = shown.is_ok();
        let name = shown.unwrap_or_else(|_| path.display().to_string());
        let file = self.proc.open_relative("exe").map_err(|e| match e {
            // Who may follow the link may trace the process: it is the file that is closed to us.
            ProcError::PermissionDenied(_) if may_look => Error::not_permitted(format!(
                "process {} ({}): its program {name} may be read by its owner only. Run gmpscope as root, or give \
                 it CAP_DAC_READ_SEARCH, too.",
                self.pid, self.comm
            )),
            e => self.looked("its program (/proc/PID/exe)", e),
        })?;
        ProgramFile::from_file(file, path, name)
    }

    /// Identity of the file that it executes now; changes when it execs.
    pub fn exe_id(&self) -> Result<FileId> {
        let path = self.path("exe");
        fs::metadata(&path)
            .map(|m| FileId::of(&m))
            .map_err(|e| match e.kind() {
                ErrorKind::PermissionDenied => hidden(self.pid, "its program (/proc/PID/exe)"),
                _ => self.ended(),
            })
    }

    /// Whether it has been started anew (execve) since it was opened, be it with the very same program. One whose
    /// auxiliary vector may not be read, or that has just ended, has not as far as we know.
    pub fn has_execed(&self) -> bool {
        let now = image(self.pid);
        !now.is_empty() && !self.image.is_empty() && now != self.image
    }

    /// Its threads' ids, in our PID namespace.
    pub fn threads(&self) -> Result<Vec<i32>> {
        let tasks = self.proc.tasks().map_err(|e| self.looked("its threads", e))?;
        // Threads come and go while the list is read.
        Ok(tasks.flatten().map(|t| t.tid).collect())
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

    /// CPUs that its cgroup and that cgroup's ancestors let it use, the least of them (`cpu.max`, or
    /// `cpu.cfs_quota_us`); `None` where nothing limits it, or nothing can be seen of it.
    pub fn cgroup_cpu_limit(&self) -> Option<f64> {
        cgroup::cpu_limit(&self.proc)
    }

    /// How often its own cgroup was stopped because its quota was used up, and for how long in nanoseconds, since
    /// the cgroup was made; `None` where nothing of it is seen.
    pub fn cgroup_throttled(&self) -> Option<(u64, u64)> {
        cgroup::throttled(&self.proc)
    }

    /// Whether its root or mounts are others than ours, as in a container.
    pub fn in_other_mount_namespace(&self) -> bool {
        let ours = fs::read_link("/proc/self/ns/mnt");
        matches!((ours, fs::read_link(self.path("ns/mnt"))), (Ok(a), Ok(b)) if a != b)
    }

    fn path(&self, relative: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{relative}", self.pid))
    }

    fn ended(&self) -> Error {
        Error::not_traceable(format!("process {} ({}) has ended", self.pid, self.comm))
    }

    fn looked(&self, what: &str, e: ProcError) -> Error {
        match e {
            ProcError::PermissionDenied(_) => hidden(self.pid, what),
            ProcError::NotFound(_) => self.ended(),
            ProcError::Io(ref io, _) if io.raw_os_error() == Some(libc::ESRCH) => self.ended(),
            e => Error::failed(format!(
                "process {} ({}): {what} cannot be read: {e}",
                self.pid, self.comm
            )),
        }
    }

    /// The user that it runs as.
    pub fn uid(&self) -> u32 {
        self.uid
    }
}

/// `/proc/PID/auxv`, whose addresses differ from one execve to the next where address space is randomized: with
/// that switched off, a program that starts itself anew is not noticed. (The random bytes that it points to would
/// not do: Go's runtime clears them from 1.22 on, rand.go, `randinit`.)
///
/// In the middle of an execve it has no more than its end mark: then it is waited for, some milliseconds. It is for
/// its owner to read; who may trace the process without being that has the addresses of its stack and arguments
/// from /proc/PID/stat. Empty where neither tells.
fn image(pid: i32) -> Vec<u8> {
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

/// The error for what the kernel does not let us see of a process.
fn hidden(pid: i32, what: &str) -> Error {
    let owner = fs::metadata(format!("/proc/{pid}"))
        .map(|m| std::os::unix::fs::MetadataExt::uid(&m))
        .map_or_else(|_| String::new(), |uid| format!(" (of user {uid})"));
    Error::not_permitted(format!(
        "process {pid}{owner}: {what} may not be read. {} `gmpscope doctor` tells more.",
        advice(Need::ReadProcess)
    ))
}
