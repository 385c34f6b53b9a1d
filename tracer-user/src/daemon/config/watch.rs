//! Seeing that files of a configuration change: inotify on the folders that they lie in, so that a file that is
//! replaced by rename, a link that is turned (as Kubernetes does with a ConfigMap) and one that appears later are seen.

use std::{
    collections::BTreeSet,
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::escape::Untrusted;

use super::layers::{Files, dropped_in};

/// Links that are followed in one path, as the kernel has it (`MAXSYMLINKS` of include/linux/namei.h).
const MOST_LINKS: usize = 40;

/// How often the folders are looked at again when they change meanwhile.
const ATTEMPTS: usize = 8;

/// inotify on some folders.
#[derive(Debug)]
pub struct Watch {
    inotify: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Watches what `files` depend on, as it is now.
    ///
    /// # Errors
    /// A folder cannot be watched, or the kernel gives no inotify.
    pub fn new(files: &Files) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let wanted = folders(files);
            let watch = Self::on(&wanted)?;
            // A link that was turned meanwhile has not been seen to turn.
            if folders(files) == wanted {
                return Ok(watch);
            }
        }
        Err(io::Error::other("their folders do not stop changing"))
    }

    fn on(folders: &BTreeSet<PathBuf>) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let happenings = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        for folder in folders {
            match inotify::add_watch(&fd, folder, happenings) {
                // It is gone, and the next look at the folders tells.
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => {
                    let error = io::Error::from(error);
                    return Err(io::Error::new(
                        error.kind(),
                        format!("{}: {error}", Untrusted::path(folder)),
                    ));
                }
            }
        }
        Self::of(fd)
    }

    #[allow(
        deprecated,
        reason = "the successor is unsafe to call; an OwnedFd stays open as long as it is owned"
    )]
    fn of(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            inotify: AsyncFd::with_interest(fd, Interest::READABLE)?,
        })
    }

    /// Resolves when something happened in a folder, and takes all of it. May be dropped at any time.
    ///
    /// # Errors
    /// inotify cannot be read any more.
    pub async fn happened(&self) -> io::Result<()> {
        loop {
            let mut guard = self.inotify.readable().await?;
            // What happened does not matter, nor whether the queue has overflowed: all files are read again.
            let mut events = [0u8; 4096];
            let mut any = false;
            let drained = guard.try_io(|fd| {
                loop {
                    rustix::io::read(fd.get_ref(), &mut events[..])?;
                    any = true;
                }
            });
            match drained {
                Ok(Err(error)) => return Err(error),
                Ok(Ok(())) | Err(_) if any => return Ok(()),
                Ok(Ok(())) | Err(_) => {}
            }
        }
    }
}

/// The folders in which something must happen if what the files hold is to change.
fn folders(files: &Files) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let (first, folder) = files.places();
    for path in first {
        follow(&path, &mut folders);
    }
    if let Some(folder) = folder {
        follow(&folder, &mut folders);
        if let Ok(inside) = folder.canonicalize() {
            folders.insert(inside);
        }
        for path in dropped_in(&folder).unwrap_or_default() {
            follow(&path, &mut folders);
        }
    }
    folders
}

/// Adds the folder that `path` lies in; those of each link on the way; and where the way ends early, the folder in
/// which its next part would appear.
fn follow(path: &Path, folders: &mut BTreeSet<PathBuf>) {
    // A relative path means another place when the working directory is gone; nothing can be watched then.
    let Ok(path) = std::path::absolute(path) else {
        return;
    };
    let mut parts: Vec<PathBuf> = reversed(&path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = parts.pop() {
        let next = at.join(&part);
        match std::fs::read_link(&next) {
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                folders.insert(at.clone());
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                parts.extend(reversed(&target));
            }
            _ if parts.is_empty() || !next.is_dir() => {
                folders.insert(at);
                return;
            }
            _ => at = next,
        }
    }
}

/// The parts of a path, the last first. `..` goes up from where it stands, as in the kernel.
fn reversed(path: &Path) -> Vec<PathBuf> {
    let parts = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()));
    let mut parts: Vec<PathBuf> = parts.collect();
    parts.reverse();
    parts
}
