//! A process from outside: its identity, the file that it runs and where that is mapped, its limits, and its memory.
//!
//! Everything is read through one open `/proc/PID` and one pidfd, so that a reused PID is noticed. All of /proc is bytes:
//! names of processes and files may hold any, and are decoded only to be shown.

pub mod bytes;
mod cgroup;
mod family;
pub mod file;
mod find;
mod halt;
pub mod layout;
mod life;
pub mod limits;
pub mod mapping;
mod maps;
pub mod memory;
pub mod modules;
mod plugin;
mod target;
#[cfg(test)]
mod tests;
pub mod threads;

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use procfs::process::Status;
use procfs::{FromBufRead as _, ProcError};
use rustix::process::{Pid, PidfdFlags};

pub use cgroup::{Cgroups, Hierarchies, NewlyThrottled, ThrottleWatch, Throttled, Throttling};
pub use family::{children_of, go_descendant, is_go, is_loader};
pub use find::{Found, by_comm, by_exe};
pub use halt::{Halt, HaltWatch};
pub use life::{Fate, Life};
pub use plugin::Plugin;
pub use target::Target;

use life::{EXEC_MS, LEADER_MS, is_readable, settled_image};

use self::file::{FileId, FileState, ProgramFile};
use self::threads::{folder_of, living_thread};
use crate::clock::ClockOffset;
use crate::error::{Error, Result};
use crate::escape::Untrusted;
use crate::kernel::privilege::{Need, advice};

/// `PF_KTHREAD`, include/linux/sched.h.
const PF_KTHREAD: u32 = 0x0020_0000;

/// A process that was alive when it was opened. If its PID is reused, this still stands for the old process.
#[derive(Debug)]
pub struct Process {
    life: Life,
    /// The folder of its first thread, or of another one if that has ended.
    proc: procfs::process::Process,
}

impl Process {
    /// Opens a process by its PID in our PID namespace. The error says whether it is gone, a kernel thread, a zombie,
    /// a thread of another process, or hidden from us.
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
        let read_error = |what: &str, e: ProcError| match e {
            ProcError::NotFound(_) => gone(),
            ProcError::PermissionDenied(_) => hidden(pid, what),
            ProcError::Io(e, _) if e.raw_os_error() == Some(libc::ESRCH) => gone(),
            e => Error::failed(format!("process {pid}: {what} cannot be read: {e}")),
        };
        let proc = procfs::process::Process::new(pid).map_err(|e| read_error("/proc entry", e))?;
        let status = status_of(&proc).map_err(|e| read_error("status", e))?;
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
        // Read first: if the process executes another program from here on, that is noticed.
        let image = settled_image(pid);
        // Read after opening the pidfd: if /proc/PID still answers, both are of one process.
        let mut stat = proc.stat().map_err(|e| read_error("stat", e))?;
        let mut through = pid;
        for waited in 0..EXEC_MS {
            if !matches!(stat.state, 'Z' | 'X' | 'x') || is_readable(&pidfd) {
                break;
            }
            // The main thread also ends where another one is in execve, which then takes its place (fs/exec.c,
            // de_thread): one that lives on beside it for long is not that one.
            if waited >= LEADER_MS
                && let Some(other) = living(pid)
                && other != pid
            {
                through = other;
                break;
            }
            thread::sleep(Duration::from_millis(1));
            stat = proc.stat().map_err(|e| read_error("stat", e))?;
        }
        if stat.flags & PF_KTHREAD != 0 {
            return Err(Error::not_traceable(format!(
                "process {pid} ({}) is a kernel thread, not a Go program",
                Untrusted::from(stat.comm)
            )));
        }
        let mut proc = proc;
        if through != pid {
            let folder = folder_of(pid.unsigned_abs(), through.unsigned_abs());
            log::debug!("process {pid}: its first thread has ended, and it is read through {folder}");
            proc = procfs::process::Process::new_with_root(PathBuf::from(folder))
                .map_err(|e| read_error("/proc entry of a thread", e))?;
        } else if matches!(stat.state, 'Z' | 'X' | 'x') {
            return Err(Error::not_traceable(format!(
                "process {pid} ({}) has ended with all its threads and is a zombie: only its parent {} has not yet waited \
                 for it",
                Untrusted::from(stat.comm),
                stat.ppid
            )));
        }
        let life = Life {
            pid,
            start_time: stat.starttime,
            comm: stat.comm.into(),
            uid: status.euid,
            image,
            pidfd,
        };
        Ok(Self { life, proc })
    }

    /// Its PID, in our namespace.
    pub fn pid(&self) -> i32 {
        self.life.pid()
    }

    /// When it was started, in clock ticks since boot: with the PID, its identity.
    pub fn start_time(&self) -> u64 {
        self.life.start_time()
    }

    /// Its name, at most 15 bytes.
    pub fn comm(&self) -> &Untrusted {
        self.life.comm()
    }

    /// Readable once the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.life.pidfd()
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.life.has_ended()
    }

    /// Keeps what is needed to watch the process for long.
    pub fn into_life(self) -> Life {
        self.life
    }

    /// The file that it executes, even if that was replaced or deleted, or is in a container.
    pub fn exe(&self) -> Result<ProgramFile> {
        let path = self.path("exe");
        let shown = fs::read_link(&path).map(|p| Untrusted::path(&p));
        let may_look = shown.is_ok();
        let name = shown.unwrap_or_else(|_| Untrusted::path(&path));
        let file = self.proc.open_relative("exe").map_err(|e| match e {
            // We may follow the link, so we may trace the process: it is the file that we may not open.
            ProcError::PermissionDenied(_) if may_look => Error::not_permitted(format!(
                "process {} ({}): its program {name} may be read by its owner only. Run gmpscope as root, or give \
                 it CAP_DAC_READ_SEARCH, too.",
                self.pid(), self.comm()
            )),
            e => self.read_error("its program (/proc/PID/exe)", e),
        })?;
        ProgramFile::from_file(file, path, name)
    }

    /// Identity of the file that it executes now; changes with execve.
    pub fn exe_id(&self) -> Result<FileId> {
        FileState::known_at(&self.path("exe"))
            .map(|state| state.id)
            .map_err(|e| match e.kind() {
                ErrorKind::PermissionDenied => hidden(self.pid(), "its program (/proc/PID/exe)"),
                _ => self.ended(),
            })
    }

    /// See [`Life::has_execed`].
    pub fn has_execed(&self) -> bool {
        self.life.has_execed()
    }

    /// See [`Life::fate`].
    pub fn fate(&self, file: Option<FileId>) -> Fate {
        self.life.fate(file)
    }

    /// See [`Life::explain`].
    pub fn explain(&self, error: Error, file: Option<FileId>) -> Error {
        self.life.explain(error, file)
    }

    /// Checks that the process still runs the program that it ran when it was opened, so that what was read belongs
    /// to that program.
    ///
    /// # Errors
    /// The process has executed another program, or ended.
    pub fn unchanged(&self, file: FileId) -> Result<()> {
        match self.fate(Some(file)) {
            Fate::Unchanged => Ok(()),
            Fate::Executed => Err(self.life.executed()),
            Fate::Ended => Err(self.ended()),
        }
    }

    /// The ids of its threads, in our PID namespace.
    pub fn threads(&self) -> Result<Vec<i32>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid()))
            .map_err(|e| self.read_error("its threads", ProcError::from(e)))?;
        // Threads come and go while the list is read.
        Ok(tasks
            .flatten()
            .filter_map(|task| task.file_name().to_str()?.parse().ok())
            .collect())
    }

    /// See [`Life::cpu_time_ns`].
    pub fn cpu_time_ns(&self) -> Result<u64> {
        self.life.cpu_time_ns()
    }

    /// The lowest CPU limit of its cgroup and the ancestors of that, in CPUs (`cpu.max`, or `cpu.cfs_quota_us`);
    /// `None` if there is no limit, or it cannot be seen.
    pub fn cgroup_cpu_limit(&self) -> Option<f64> {
        self.cgroups()?.cpu_limit()
    }

    /// How often its cgroup was throttled since it was created, and for how many nanoseconds; `None` if that cannot be
    /// seen.
    pub fn cgroup_throttled(&self) -> Option<(u64, u64)> {
        let throttled = self.cgroups()?.throttled()?;
        Some((throttled.throttled_periods, throttled.time_ns))
    }

    fn cgroups(&self) -> Option<Cgroups> {
        let text = fs::read(self.path("cgroup")).ok()?;
        Some(Hierarchies::mounted().of(text))
    }

    /// How far its clock is ahead of the host's: not at all, unless it is in a time namespace. `None` if it is in one
    /// whose offset cannot be found.
    pub fn clock_offset(&self) -> Option<ClockOffset> {
        // Of a thread that is not the first, too: the file is not in the folders of threads below `task`.
        let thread = living(self.pid()).unwrap_or(self.pid());
        ClockOffset::of(Path::new(&format!("/proc/{thread}")))
    }

    /// Whether its root or mounts differ from ours, as in a container.
    pub fn in_other_mount_namespace(&self) -> bool {
        let ours = fs::read_link("/proc/self/ns/mnt");
        matches!((ours, fs::read_link(self.path("ns/mnt"))), (Ok(a), Ok(b)) if a != b)
    }

    fn path(&self, relative: &str) -> PathBuf {
        PathBuf::from(threads::folder(self.pid().unsigned_abs())).join(relative)
    }

    fn ended(&self) -> Error {
        self.life.ended()
    }

    fn read_error(&self, what: &str, e: ProcError) -> Error {
        match e {
            ProcError::PermissionDenied(_) => hidden(self.pid(), what),
            ProcError::NotFound(_) => self.ended(),
            ProcError::Io(ref io, _) if io.raw_os_error() == Some(libc::ESRCH) => self.ended(),
            e => Error::failed(format!(
                "process {} ({}): {what} cannot be read: {e}",
                self.pid(),
                self.comm()
            )),
        }
    }

    /// The user that it runs as.
    pub fn uid(&self) -> u32 {
        self.life.uid()
    }
}

/// The oldest living thread of a process.
fn living(pid: i32) -> Option<i32> {
    living_thread(pid.unsigned_abs()).map(u32::cast_signed)
}

/// Reads `/proc/PID/status`. Its first line is the process's name, and procfs accepts only UTF-8.
///
/// # Errors
/// It cannot be read.
pub fn status_of(proc: &procfs::process::Process) -> procfs::ProcResult<Status> {
    let mut bytes = Vec::new();
    proc.open_relative("status")?.read_to_end(&mut bytes)?;
    Status::from_buf_read(String::from_utf8_lossy(&bytes).as_bytes())
}

/// Reads a file of /proc with names in it, which may contain any bytes: those that are not UTF-8 become U+FFFD.
///
/// # Errors
/// The file cannot be read.
pub fn text_of(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = fs::read(path)?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// The error for something of a process that the kernel does not let us see.
fn hidden(pid: i32, what: &str) -> Error {
    let owner = fs::metadata(format!("/proc/{pid}"))
        .map(|m| std::os::unix::fs::MetadataExt::uid(&m))
        .map_or_else(|_| String::new(), |uid| format!(" (of user {uid})"));
    Error::not_permitted(format!(
        "process {pid}{owner}: {what} may not be read. {} Run `gmpscope doctor` for details.",
        advice(Need::ReadProcess)
    ))
}
