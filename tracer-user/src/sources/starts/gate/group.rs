//! Programs that are about to be executed, held by the kernel until we have answered (fanotify(7),
//! `FAN_OPEN_EXEC_PERM`, Linux 5.0).
//!
//! If we die, the kernel closes the group and lets all that is held go on.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use nix::{
    errno::Errno,
    sys::fanotify::{
        EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
    },
};
use rustix::fs::{AtFlags, StatxFlags};

use super::mounts;
use crate::{
    error::{
        Error, Result,
        privilege::{Capability, Privileges},
    },
    target::file::FileId,
};

/// The group that such events come from.
pub struct Group {
    fanotify: Arc<Fanotify>,
    watched: usize,
}

/// A file that a process is about to execute. The process waits until this is dropped.
pub struct Opening {
    event: FanotifyEvent,
    came_ns: u64,
    fanotify: Arc<Fanotify>,
}

/// A file, and a state of its content: what was found out about it holds while this is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// When its inode was changed: seconds and nanoseconds.
    pub changed: (i64, u32),
    /// When its content was.
    pub written: (i64, u32),
    /// Bytes.
    pub length: u64,
}

impl Group {
    /// A group that watches nothing yet.
    ///
    /// # Errors
    /// The privilege or the kernel's feature is missing.
    pub fn new() -> Result<Self> {
        if !opens_everything() {
            return Err(Error::not_permitted(
                "--follow has the kernel open each program that is executed for gmpscope, and what it could not open \
                 nobody could execute: that takes CAP_DAC_READ_SEARCH (besides CAP_SYS_ADMIN); run gmpscope as root",
            ));
        }
        let flags = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let for_files = EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC | EventFFlags::O_LARGEFILE;
        let fanotify = Fanotify::init(flags, for_files).map_err(refused)?;
        Ok(Self {
            fanotify: Arc::new(fanotify),
            watched: 0,
        })
    }

    /// Watches the file systems that are mounted now, those that it did already once more (which changes nothing); those
    /// that it cannot, with the reason.
    ///
    /// # Errors
    /// The list cannot be read, or the kernel has no such events.
    pub fn watch_mounted(&mut self) -> Result<Vec<String>> {
        let list = fs::read(mounts::MOUNTS)
            .map_err(|e| Error::failed(format!("{} cannot be read: {e}", mounts::MOUNTS)))?;
        let (mut left, mut why, mut watched) = (Vec::new(), None, 0);
        for mounted in mounts::listed(&String::from_utf8_lossy(&list)) {
            if !mounted.watched {
                left.push(format!("{} ({})", mounted.at.display(), mounted.kind));
                continue;
            }
            let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
            let marked = self.fanotify.mark(
                flags,
                MaskFlags::FAN_OPEN_EXEC_PERM,
                rustix::fs::CWD,
                Some(&mounted.at),
            );
            match marked {
                Ok(()) => watched += 1,
                Err(e) => {
                    why = Some(e);
                    left.push(format!(
                        "{} ({}: {})",
                        mounted.at.display(),
                        mounted.kind,
                        e.desc()
                    ));
                }
            }
        }
        self.watched = watched;
        match why {
            Some(e) if watched == 0 => Err(refused(e)),
            _ => Ok(left),
        }
    }

    /// Watches nothing any more.
    pub fn unwatch(&mut self) {
        let flags = MarkFlags::FAN_MARK_FLUSH | MarkFlags::FAN_MARK_FILESYSTEM;
        let here: Option<&str> = Some("/");
        if let Err(e) = self
            .fanotify
            .mark(flags, MaskFlags::empty(), rustix::fs::CWD, here)
        {
            log::warn!("file systems are still watched: {e}");
        }
        self.watched = 0;
    }

    /// How many file systems are watched.
    pub fn watches(&self) -> usize {
        self.watched
    }

    /// What has come; empty if nothing has.
    ///
    /// # Errors
    /// The kernel's.
    pub fn openings(&self) -> std::result::Result<Vec<Opening>, Errno> {
        let came_ns = super::now_ns();
        match self.fanotify.read_events() {
            Ok(events) => Ok(events
                .into_iter()
                .map(|event| Opening {
                    event,
                    came_ns,
                    fanotify: Arc::clone(&self.fanotify),
                })
                .collect()),
            Err(Errno::EAGAIN) => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fanotify.as_fd()
    }
}

impl Opening {
    /// The process, in our PID namespace; 0 if it has no id there.
    pub fn pid(&self) -> u32 {
        u32::try_from(self.event.pid()).unwrap_or(0)
    }

    /// When we knew of it, CLOCK_MONOTONIC.
    pub fn came_ns(&self) -> u64 {
        self.came_ns
    }

    /// Which file in which state. Asks no server and no daemon for it, which might wait for us.
    pub fn file(&self) -> Option<(FileId, Version)> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::from_bits_retain(libc::AT_STATX_DONT_SYNC as u32);
        let stat = rustix::fs::statx(self.event.fd()?, "", flags, StatxFlags::BASIC_STATS).ok()?;
        let file = FileId {
            device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
        };
        let version = Version {
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            written: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            length: stat.stx_size,
        };
        Some((file, version))
    }

    /// A descriptor of the file; opening or reading it makes no event.
    pub fn descriptor(&self) -> Option<OwnedFd> {
        self.event.fd()?.try_clone_to_owned().ok()
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(fd) = self.event.fd()
            && let Err(e) = self
                .fanotify
                .write_response(FanotifyResponse::new(fd, Response::FAN_ALLOW))
        {
            log::warn!("an execve could not be answered: {e}");
        }
    }
}

/// Whether no file's mode keeps us from reading it: CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH
/// (include/uapi/linux/capability.h).
fn opens_everything() -> bool {
    const EITHER: u64 = 1 << 1 | 1 << 2;
    let privileges = Privileges::ours();
    // Without CAP_SYS_ADMIN that is the better reason.
    let admin = privileges.has(Capability::SysAdmin);
    !admin || privileges.effective.is_none_or(|all| all & EITHER != 0)
}

/// Why there is no such group, and what to do.
fn refused(errno: Errno) -> Error {
    match errno {
        Errno::EPERM => Error::not_permitted(
            "--follow has the kernel hold each program until its probes are there (fanotify's permission events), \
             which takes CAP_SYS_ADMIN in the initial user namespace: run gmpscope as root on the host",
        ),
        Errno::EINVAL | Errno::ENOSYS => Error::not_permitted(
            "--follow has the kernel hold each program until its probes are there, and this kernel has no \
             permission events of fanotify (it takes Linux 5.0 and CONFIG_FANOTIFY_ACCESS_PERMISSIONS=y); \
             `gmpscope attach --exe PATH --next` sees the starts of one binary without",
        ),
        e => Error::failed(format!("--follow: fanotify: {}", e.desc())),
    }
}
