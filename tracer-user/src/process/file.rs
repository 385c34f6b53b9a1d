//! Opens a program's file, and maps it while it is analysed.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};

use super::mapping::Mapping;
use crate::error::{Error, Result};
use crate::escape::Untrusted;

/// The identity of a file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device number, as in `stat`.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

impl FileId {
    /// The identity in the result of a `stat`.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// The identity and state of a file: as long as this is the same, nobody has written to the file or replaced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileState {
    /// Its identity.
    pub id: FileId,
    /// Size in bytes.
    pub len: u64,
    /// When its content was last changed (seconds, nanoseconds). Its owner can set this.
    pub modified: (i64, i64),
    /// When anything of it was last changed. Nobody can set this.
    pub changed: (i64, i64),
}

impl FileState {
    /// The state in the result of a `stat`.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            id: FileId::of(metadata),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The state of the file at `path` as the kernel has it cached (`AT_STATX_DONT_SYNC`, statx(2)): a network file
    /// system is not asked, since its server may never answer. It may be some seconds old.
    ///
    /// # Errors
    /// There is nothing at `path`, or it may not be examined.
    pub fn known_at(path: &(impl AsRef<Path> + ?Sized)) -> io::Result<Self> {
        let path = path.as_ref();
        let known = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::BASIC_STATS)?;
        Ok(Self {
            id: FileId {
                device: makedev(known.stx_dev_major, known.stx_dev_minor),
                inode: known.stx_ino,
            },
            len: known.stx_size,
            modified: (known.stx_mtime.tv_sec, known.stx_mtime.tv_nsec.into()),
            changed: (known.stx_ctime.tv_sec, known.stx_ctime.tv_nsec.into()),
        })
    }
}

/// A program's open file: it stays readable if it is replaced or deleted, or its process ends.
#[derive(Debug)]
pub struct ProgramFile {
    file: File,
    path: PathBuf,
    name: Untrusted,
    state: FileState,
}

impl ProgramFile {
    /// Opens a file by its path.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_as(path, Untrusted::path(path))
    }

    /// Opens a file by a path such as `/proc/PID/exe`, with another name in messages.
    pub fn open_as(path: &Path, name: Untrusted) -> Result<Self> {
        // A FIFO or a device would block or never end: examine the file before opening it.
        let failed = |e: std::io::Error| match e.kind() {
            ErrorKind::NotFound => Error::not_traceable(format!(
                "{name}: there is no such file: name a Go program, or the PID of one"
            )),
            ErrorKind::PermissionDenied => Error::not_permitted(format!(
                "{name}: may not be read ({e}): run gmpscope as root, or as the file's owner"
            )),
            _ => Error::failed(format!("{name}: cannot be opened: {e}")),
        };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(Error::not_traceable(format!(
                "{name}: is {}, not a program: name a Go program, or the PID of one",
                if metadata.is_dir() {
                    "a directory"
                } else {
                    "no regular file"
                }
            )));
        }
        let file = File::open(path).map_err(failed)?;
        Self::from_file(file, path.to_owned(), name)
    }

    /// Takes an open file; `path` is a path by which it can be opened again.
    pub fn from_file(file: File, path: PathBuf, name: Untrusted) -> Result<Self> {
        let metadata = file
            .metadata()
            .map_err(|e| Error::failed(format!("{name}: cannot be examined (fstat): {e}")))?;
        Ok(Self {
            file,
            path,
            name,
            state: FileState::of(&metadata),
        })
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name in messages.
    pub fn name(&self) -> &Untrusted {
        &self.name
    }

    /// Device and inode.
    pub fn id(&self) -> FileId {
        self.state.id
    }

    /// Its state when it was opened.
    pub fn state(&self) -> FileState {
        self.state
    }

    /// Its size in bytes when it was opened.
    pub fn len(&self) -> u64 {
        self.state.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.state.len == 0
    }

    /// The open file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Maps the file. Pages are read on access.
    pub fn map(&self) -> Result<Mapping> {
        Mapping::of(&self.file)
            .map_err(|e| Error::failed(format!("{}: cannot be mapped into memory: {e}", self.name)))
    }
}
