//! The fanotify group: the kernel holds programs that are about to be executed until we have answered (fanotify(7),
//! `FAN_OPEN_EXEC_PERM`, Linux 5.0).
//!
//! When the last descriptor of the group is closed, the kernel releases all that is held.
//!
//! In two cases the kernel refuses an `execve` by itself, without an answer (fs/notify/fanotify): where it cannot open
//! the file for the reader of the event, and where there is no memory for the event. The first is prevented by
//! [`super::descriptors`], by reading one event at a time, and by watching only file systems whose files we may open
//! ([`super::mounts`]); the second by `FAN_UNLIMITED_QUEUE`, with which the kernel waits for memory instead of charging
//! it to our cgroup and refusing at its limit. (The queue is as long as there are processes in `execve`.)

use std::{
    fs,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
    path::Path,
    rc::Rc,
};

use nix::{
    errno::Errno,
    sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags},
};
use rustix::fs::{AtFlags, StatxFlags};

use super::{asker::Asker, descriptors, mounts};
use crate::{
    clock::now_ns,
    error::{Error, Result},
    escape::Untrusted,
    kernel::privilege::{Capability, Privileges},
    process::file::{FileId, FileState},
};

/// Size of an event in bytes.
pub const EVENT: usize = size_of::<libc::fanotify_event_metadata>();
/// The answer that releases a program. No other is ever given.
pub const ALLOW: u32 = libc::FAN_ALLOW;

/// The group, and through it the events.
pub struct Group {
    fanotify: Rc<Fanotify>,
    asker: Asker,
}

/// The file systems that are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchedMounts {
    /// How many file systems are watched.
    pub watches: usize,
    /// The file systems that are not watched, and why.
    pub left: Vec<Untrusted>,
}

/// A file that a process is about to execute. The process waits until this is dropped.
pub struct Opening {
    file: OwnedFd,
    tid: u32,
    came_ns: u64,
    fanotify: Rc<Fanotify>,
    is_answered: bool,
}

/// The state of a file's content: what was found out about the file holds while this is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// When its inode was changed: seconds and nanoseconds.
    pub changed: (i64, u32),
    /// When its content was changed.
    pub written: (i64, u32),
    /// Its length in bytes.
    pub length: u64,
}

impl Version {
    /// The version in a file's state.
    pub fn of(state: &FileState) -> Self {
        let time = |(seconds, nanoseconds): (i64, i64)| (seconds, u32::try_from(nanoseconds).unwrap_or(0));
        Self {
            changed: time(state.changed),
            written: time(state.modified),
            length: state.len,
        }
    }
}

/// Tries to create a group, which watches nothing, and closes it.
///
/// # Errors
/// What is missing, in a few words.
pub fn trial() -> std::result::Result<(), String> {
    if !opens_everything() {
        return Err("CAP_DAC_READ_SEARCH is not held".to_owned());
    }
    match Group::init() {
        Ok(_) => Ok(()),
        Err(Errno::EPERM) => Err("CAP_SYS_ADMIN is not held".to_owned()),
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            Err("no permission events of fanotify in this kernel".to_owned())
        }
        Err(e) => Err(format!("fanotify: {}", e.desc())),
    }
}

impl Group {
    /// Creates a group that watches nothing yet.
    ///
    /// # Errors
    /// The privilege or the kernel's feature is missing.
    pub fn new(asker: Asker) -> Result<Self> {
        if !opens_everything() {
            return Err(Error::not_permitted(format!(
                "{asker} has the kernel open each program that is executed for gmpscope, and what it could not open \
                 nobody could execute: that takes CAP_DAC_READ_SEARCH (besides CAP_SYS_ADMIN); {}",
                asker.remedy()
            )));
        }
        Ok(Self {
            fanotify: Rc::new(Self::init().map_err(|e| refused(asker, e))?),
            asker,
        })
    }

    fn init() -> std::result::Result<Fanotify, Errno> {
        // The thread's id: if it is not the first of its process, another task continues after execve.
        let flags = InitFlags::FAN_CLASS_CONTENT
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::FAN_UNLIMITED_QUEUE
            | InitFlags::FAN_REPORT_TID;
        let for_files = EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC | EventFFlags::O_LARGEFILE;
        Fanotify::init(flags, for_files)
    }

    /// Watches one file under all its names.
    ///
    /// # Errors
    /// The kernel has no such events, or none for this file.
    pub fn watch_file(&self, path: &Path) -> Result<()> {
        self.mark_file(MarkFlags::FAN_MARK_ADD, path)
            .map_err(|e| refused(self.asker, e))
    }

    /// Stops watching a file.
    ///
    /// # Errors
    /// The file was not watched.
    pub fn unwatch_file(&self, path: &Path) -> std::result::Result<(), Errno> {
        self.mark_file(MarkFlags::FAN_MARK_REMOVE, path)
    }

    fn mark_file(&self, flags: MarkFlags, path: &Path) -> std::result::Result<(), Errno> {
        self.fanotify
            .mark(flags, MaskFlags::FAN_OPEN_EXEC_PERM, rustix::fs::CWD, Some(path))
    }

    /// Stops watching everything. Earlier events still wait for an answer.
    pub fn watch_nothing(&self) {
        let kinds = [
            MarkFlags::FAN_MARK_FILESYSTEM,
            MarkFlags::FAN_MARK_MOUNT,
            MarkFlags::FAN_MARK_INODE,
        ];
        for kind in kinds {
            // A flush only checks that the path exists. A mark that it leaves is removed with the group.
            let flags = MarkFlags::FAN_MARK_FLUSH | kind;
            let _ = self
                .fanotify
                .mark(flags, MaskFlags::empty(), rustix::fs::CWD, Some("/"));
        }
    }

    /// Watches all mounted file systems that can be watched ([`mounts`]). Watching one again changes nothing.
    ///
    /// # Errors
    /// The list of mounts cannot be read, or the kernel has no such events.
    pub fn watch_mounted(&self) -> Result<WatchedMounts> {
        let list = fs::read(mounts::MOUNTS)
            .map_err(|e| Error::failed(format!("{} cannot be read: {e}", mounts::MOUNTS)))?;
        let (mut watched, mut why) = (WatchedMounts::default(), None);
        for mounted in mounts::listed(list) {
            if !mounted.watched {
                watched
                    .left
                    .push(format!("{} ({})", mounted.at.display(), mounted.kind).into());
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
                Ok(()) => watched.watches += 1,
                Err(e) => {
                    why = Some(e);
                    let place = mounted.at.display();
                    watched
                        .left
                        .push(format!("{place} ({}: {})", mounted.kind, e.desc()).into());
                }
            }
        }
        match why {
            Some(e) if watched.watches == 0 => Err(refused(self.asker, e)),
            _ => Ok(watched),
        }
    }

    /// Reads the next event, if there is one. One at a time: each takes a descriptor, which must be free.
    ///
    /// # Errors
    /// The kernel could not open the file for us, and has refused to execute it.
    pub fn next(&self) -> std::result::Result<Option<Opening>, rustix::io::Errno> {
        let mut event = [0; EVENT];
        let read = match rustix::io::read(&*self.fanotify, &mut event) {
            Ok(read) => read,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            Err(e) => return Err(e),
        };
        let number = descriptor_in(&event).filter(|_| read == EVENT);
        Ok(number.map(|number| Opening {
            // SAFETY: the kernel has just given it to this thread.
            file: unsafe { descriptors::owned(number) },
            tid: thread_in(&event),
            came_ns: now_ns(),
            fanotify: Rc::clone(&self.fanotify),
            is_answered: false,
        }))
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fanotify.as_fd()
    }
}

impl Opening {
    /// The thread, in our PID namespace; 0 if it has no id there.
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// When the event was read, CLOCK_MONOTONIC.
    pub fn came_ns(&self) -> u64 {
        self.came_ns
    }

    /// The file and its version. Asks no server (NFS, FUSE), which might wait for us.
    pub fn file(&self) -> Option<(FileId, Version)> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::from_bits_retain(libc::AT_STATX_DONT_SYNC as u32);
        let stat = rustix::fs::statx(&self.file, "", flags, StatxFlags::BASIC_STATS).ok()?;
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

    /// Another descriptor of the file, which outlives this one.
    pub fn duplicate(&self) -> Option<OwnedFd> {
        self.file.try_clone().ok()
    }

    /// Releases the process. Returns whether it was still waiting: if not, the watchdog released it, or it was killed.
    pub fn allow(mut self) -> bool {
        self.answer()
    }

    fn answer(&mut self) -> bool {
        if std::mem::replace(&mut self.is_answered, true) {
            return false;
        }
        rustix::io::write(&*self.fanotify, &answer_bytes(self.file.as_raw_fd(), ALLOW)).is_ok()
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.answer();
    }
}

/// An answer as the kernel reads it (`struct fanotify_response`).
pub fn answer_bytes(number: RawFd, answer: u32) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (number.to_ne_bytes(), answer.to_ne_bytes());
    [a, b, c, d, e, f, g, h]
}

/// The file's descriptor in an event (`struct fanotify_event_metadata`), if it has one.
pub fn descriptor_in(event: &[u8; EVENT]) -> Option<RawFd> {
    let [.., a, b, c, d, _, _, _, _] = *event;
    Some(RawFd::from_ne_bytes([a, b, c, d])).filter(|number| *number >= 0)
}

/// The thread in an event; 0 if it has no id in our PID namespace.
fn thread_in(event: &[u8; EVENT]) -> u32 {
    let [.., a, b, c, d] = *event;
    u32::try_from(i32::from_ne_bytes([a, b, c, d])).unwrap_or(0)
}

/// Whether we may read files of any mode: CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH
/// (include/uapi/linux/capability.h).
fn opens_everything() -> bool {
    const EITHER: u64 = 1 << 1 | 1 << 2;
    let privileges = Privileges::ours();
    // If CAP_SYS_ADMIN is missing, that is the better reason to report.
    let admin = privileges.has(Capability::SysAdmin);
    !admin || privileges.effective.is_none_or(|all| all & EITHER != 0)
}

/// The error for a refused group, with what to do.
fn refused(asker: Asker, errno: Errno) -> Error {
    match errno {
        Errno::EPERM => Error::not_permitted(format!(
            "{asker} has the kernel hold each program until its probes are there (fanotify's permission events), \
             which takes CAP_SYS_ADMIN in the initial user namespace: {}",
            asker.remedy()
        )),
        Errno::EINVAL | Errno::ENOSYS => Error::not_permitted(format!(
            "{asker} has the kernel hold each program until its probes are there, and this kernel has no \
             permission events of fanotify (it takes Linux 5.0 and CONFIG_FANOTIFY_ACCESS_PERMISSIONS=y); {}",
            asker.alternative()
        )),
        e => Error::failed(format!("{asker}: fanotify: {}", e.desc())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_answers_are_laid_out_as_the_kernel_has_them() {
        let (fd, pid) = (
            std::mem::offset_of!(libc::fanotify_event_metadata, fd),
            std::mem::offset_of!(libc::fanotify_event_metadata, pid),
        );
        let mut event = [0xff; EVENT];
        assert_eq!(descriptor_in(&event), None, "FAN_NOFD: the queue was full");
        assert_eq!(thread_in(&event), 0);
        event[fd..fd + 4].copy_from_slice(&17i32.to_ne_bytes());
        event[pid..pid + 4].copy_from_slice(&4711i32.to_ne_bytes());
        assert_eq!((descriptor_in(&event), thread_in(&event)), (Some(17), 4711));
        assert_eq!(size_of::<libc::fanotify_response>(), 8);
        let bytes = answer_bytes(17, ALLOW);
        let answer = std::mem::offset_of!(libc::fanotify_response, response);
        assert_eq!(bytes[answer..answer + 4], ALLOW.to_ne_bytes());
        assert_eq!(bytes[..4], 17i32.to_ne_bytes());
    }
}
