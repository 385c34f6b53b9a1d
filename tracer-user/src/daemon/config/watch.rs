//! Watches the files of a configuration, by inotify on their folders rather than on the files: so a file that is
//! replaced by rename, a link that is redirected (as Kubernetes does with a ConfigMap) and a file that appears later
//! are seen.

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

/// How many links are followed in one path, as in the kernel (`MAXSYMLINKS` of include/linux/namei.h).
const MAX_LINKS: usize = 40;

/// How often the folders are collected again if they change meanwhile.
const ATTEMPTS: usize = 8;

/// An inotify instance on some folders.
#[derive(Debug)]
pub struct Watch {
    inotify: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Watches every folder on which the content of `files` depends now.
    ///
    /// # Errors
    /// A folder cannot be watched, or the kernel refuses inotify.
    pub fn new(files: &Files) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let wanted = folders(files);
            let watch = Self::on(&wanted)?;
            // A link may have been redirected before it was watched.
            if folders(files) == wanted {
                return Ok(watch);
            }
        }
        Err(io::Error::other("their folders do not stop changing"))
    }

    fn on(folders: &BTreeSet<PathBuf>) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let changes = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        for folder in folders {
            match inotify::add_watch(&fd, folder, changes) {
                // The folder is gone, which the caller sees when it collects the folders again.
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

    /// Waits for a change in a folder, and reads all events. The future may be dropped at any time.
    ///
    /// # Errors
    /// inotify cannot be read any more.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut guard = self.inotify.readable().await?;
            // It does not matter what has changed, or whether the queue has overflowed: all files are read again.
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

/// The folders in which something must change if the content of the files changes.
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

/// Adds the folder of `path`, and the folder of each link on the way. If a part of the path does not exist, it adds the
/// folder in which that part would appear.
fn follow(path: &Path, folders: &mut BTreeSet<PathBuf>) {
    // This fails if the path is relative and the working directory is gone; then nothing can be watched.
    let Ok(path) = std::path::absolute(path) else {
        return;
    };
    let mut parts: Vec<PathBuf> = reversed(&path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = parts.pop() {
        let next = at.join(&part);
        match std::fs::read_link(&next) {
            Ok(target) if links < MAX_LINKS => {
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
