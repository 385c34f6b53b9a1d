//! A file that the user has named for output.
//!
//! The name itself is opened, as by a shell's redirection, and the kernel decides about links and about files of
//! others in directories such as /tmp (`fs.protected_symlinks`, `fs.protected_regular`): resolving the name first
//! would defeat these protections. An existing file is written in place, so that it keeps its mode, owner and links,
//! and is not touched before there is something to write. A new one is for its owner alone, and has no name before it
//! has contents (`O_TMPFILE`): however gmpscope ends, nothing is left to be removed. A temporary file that replaces
//! the old one was the alternative; it leaves litter when we are killed, changes mode and owner, and needs write
//! permission on the directory.

mod target;

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Seek as _, SeekFrom},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::{
            ffi::OsStrExt as _,
            fs::{MetadataExt as _, OpenOptionsExt as _},
        },
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, fallocate, linkat, openat};

pub use self::target::{Replaced, Streamed};
use super::write_all;

/// Mode of new files, which hold paths and names of functions.
const MODE: u32 = 0o600;

/// An open file, which is unchanged until [`begin`](Self::begin) or [`replace`](Self::replace).
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A device or a pipe: cannot be replaced.
    Stream,
    /// A regular file that existed before, or that holds something by now.
    Kept,
    /// A regular file without a name.
    Nameless,
    /// A regular file that we have made and that is still empty: removed when dropped.
    Made,
}

impl OutputFile {
    /// Opens the file of this name, or prepares a new one.
    ///
    /// # Errors
    /// The file cannot be written, or created.
    pub fn open(path: &Path) -> io::Result<Self> {
        let is_missing =
            fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        // A dangling link exists, and the kernel says whether it may be followed.
        if !is_missing || path.as_os_str().as_bytes().ends_with(b"/") {
            return Self::existing(path);
        }
        if let Some(file) = nameless(path) {
            return Ok(Self {
                file,
                path: path.to_owned(),
                kind: Kind::Nameless,
            });
        }
        // A file system without O_TMPFILE, or a failure that the next call reports.
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(path);
        match made {
            Ok(file) => Ok(Self {
                file,
                path: path.to_owned(),
                kind: Kind::Made,
            }),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Self::existing(path),
            Err(e) => Err(e),
        }
    }

    fn existing(path: &Path) -> io::Result<Self> {
        // With O_CREAT, as a shell does: only then does `fs.protected_regular` look at the file.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .custom_flags(libc::O_NOCTTY)
            .open(path)?;
        let kind = match file.metadata()?.is_file() {
            true => Kind::Kept,
            false => Kind::Stream,
        };
        let opened = Self {
            file,
            path: path.to_owned(),
            kind,
        };
        opened.lock()?;
        Ok(opened)
    }

    /// Opens a file that did not exist when the path was chosen: only one of our own, since anybody may have made it.
    fn appeared(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "somebody else has made a file of that name meanwhile",
            ));
        }
        let opened = Self {
            file,
            path: path.to_owned(),
            kind: Kind::Kept,
        };
        opened.lock()?;
        Ok(opened)
    }

    /// Wraps a standard stream.
    pub fn stream(file: File, name: &str) -> Self {
        Self {
            file,
            path: PathBuf::from(name),
            kind: Kind::Stream,
        }
    }

    /// Whether this is a regular file: neither a device nor a pipe.
    pub fn is_regular(&self) -> bool {
        self.kind != Kind::Stream
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Empties the file, to be written piece by piece.
    ///
    /// # Errors
    /// The file cannot be created, or another gmpscope writes into it.
    pub fn begin(&mut self) -> io::Result<()> {
        if self.kind == Kind::Nameless {
            self.give_name()?;
        }
        if self.is_regular() {
            self.lock()?;
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
        }
        Ok(())
    }

    /// Replaces the contents by `bytes`. Afterwards the file holds all of them, or what it held before, or, where the
    /// disk itself fails, nothing.
    ///
    /// # Errors
    /// No space, or an error of the disk.
    pub fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.kind == Kind::Nameless {
            write_all(self.file.as_fd(), bytes)?;
            self.file.sync_all()?;
            self.give_name()?;
            if self.kind == Kind::Made {
                self.kind = Kind::Kept;
                return Ok(());
            }
            // Somebody else has made a file of that name meanwhile.
        }
        self.lock()?;
        self.reserve(bytes.len() as u64)?;
        let written = self.file.seek(SeekFrom::Start(0)).and_then(|_| {
            write_all(self.file.as_fd(), bytes)?;
            self.file.set_len(bytes.len() as u64)?;
            self.file.sync_all()
        });
        match written {
            Ok(()) => self.kind = Kind::Kept,
            // A mixture of old and new would be worse than nothing.
            Err(_) => drop(self.file.set_len(0)),
        }
        written
    }

    /// Makes sure that there is room for so many bytes before the old contents are lost.
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        use rustix::io::Errno;
        let before = self.file.metadata()?.len();
        if bytes == 0 {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, bytes) {
            Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                // Releases what was reserved past the end.
                self.file.set_len(before)?;
                Err(e.into())
            }
            // Not every file system supports it.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Gives a nameless file its name. If a file of that name exists by now, that one is opened instead.
    fn give_name(&mut self) -> io::Result<()> {
        let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        match linkat(CWD, &*open, CWD, &self.path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => {
                self.kind = Kind::Made;
                Ok(())
            }
            Err(rustix::io::Errno::EXIST) => {
                *self = Self::appeared(&self.path)?;
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Keeps other captures from writing into the file.
    fn lock(&self) -> io::Result<()> {
        if !self.is_regular() {
            return Ok(());
        }
        match self.file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another capture writes into it",
            )),
            // Not every file system supports it.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        }
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if self.kind != Kind::Made {
            return;
        }
        let id = |file: io::Result<fs::Metadata>| file.map(|file| (file.dev(), file.ino())).ok();
        let ours = id(self.file.metadata());
        if ours.is_some() && ours == id(fs::symlink_metadata(&self.path)) {
            // An empty file is of no use, and a failure to remove it has no consequence.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Creates a file without a name, on the file system of `path`.
fn nameless(path: &Path) -> Option<File> {
    path.file_name()?;
    let folder = match path.parent()? {
        parent if parent.as_os_str().is_empty() => Path::new(OsStr::new(".")),
        parent => parent,
    };
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(CWD, folder, flags, Mode::from_raw_mode(MODE)).ok()?;
    Some(File::from(file))
}

#[cfg(test)]
mod tests;
