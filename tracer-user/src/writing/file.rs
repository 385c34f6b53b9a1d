//! A file that somebody has named to be written.
//!
//! The name itself is opened, as by a shell's redirection, and the kernel decides about links and about files of
//! others in directories such as /tmp (`fs.protected_symlinks`, `fs.protected_regular`): to resolve the name before
//! would take these protections away. A file that was there is written in place, so that it keeps its mode, owner and
//! links, and is not touched before there is something to write. One that was not there is for its owner alone, and
//! has no name before it has contents (`O_TMPFILE`): however gmpscope ends, nothing is left that has to be removed.
//! A temporary file that takes the place of the old one was the alternative; it leaves litter when we are killed,
//! changes mode and owner, and needs the right to write the directory.

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

use super::{write_all, writer::Target};

/// Who may read what was not there before: paths and names of functions are nobody else's business.
const MODE: u32 = 0o600;

/// An open file, of which nothing was changed before [`begin`](Self::begin) or [`replace`](Self::replace).
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A device or a pipe: written as it comes.
    Stream,
    /// A regular file that was there before, or that holds something by now.
    Kept,
    /// A regular file without a name.
    Nameless,
    /// A regular file that we have made and that holds nothing: removed when dropped.
    Made,
}

impl OutputFile {
    /// Opens the file of this name, or prepares one where there is none.
    ///
    /// # Errors
    /// It cannot be written, or made.
    pub fn open(path: &Path) -> io::Result<Self> {
        let is_missing =
            fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        // A link to nowhere is there, and the kernel says whether it may be followed.
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
        // A file system without O_TMPFILE, or a reason that is told by trying.
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
        // With O_CREAT as a shell has it: only then does `fs.protected_regular` look at the file.
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

    /// A file that was not there when the path was chosen: only one of our own, since anybody may have made it meanwhile.
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

    /// What is in `file`, which nobody else writes: a standard stream.
    pub fn stream(file: File, name: &str) -> Self {
        Self {
            file,
            path: PathBuf::from(name),
            kind: Kind::Stream,
        }
    }

    /// Whether it is a file on a disk: neither a device nor a pipe.
    pub fn is_regular(&self) -> bool {
        self.kind != Kind::Stream
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Empties the file, which is written as it comes from now on.
    ///
    /// # Errors
    /// It cannot be made, or another gmpscope writes into it.
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

    /// Puts `bytes` into the file in place of what is there. It then holds all of them, or what it held before, or,
    /// where the disk itself fails, nothing.
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
            // Somebody else has made one meanwhile.
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
            // Half of the one and half of the other would be worse than nothing.
            Err(_) => drop(self.file.set_len(0)),
        }
        written
    }

    /// Makes sure that so many bytes find room before what is there goes.
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        use rustix::io::Errno;
        let before = self.file.metadata()?.len();
        if bytes == 0 {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, bytes) {
            Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                // What was reserved behind the end goes again.
                self.file.set_len(before)?;
                Err(e.into())
            }
            // Not every file system can.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Gives a nameless file the name that was asked for. If there is one of that name by now, it is opened instead.
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

    /// Keeps other captures from writing into it.
    fn lock(&self) -> io::Result<()> {
        if !self.is_regular() {
            return Ok(());
        }
        match self.file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another capture writes into it",
            )),
            // Not every file system can.
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
            // Nobody asked for an empty file, and nothing can be done about a failure.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A file without a name, on the file system on which it is to have one.
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

/// Writes chunks into a file as they come, and keeps only whole ones. What was there goes with the first.
pub struct Streamed {
    file: OutputFile,
    begun: bool,
    good: u64,
}

impl Streamed {
    /// Into this file.
    pub fn new(file: OutputFile) -> Self {
        Self {
            file,
            begun: false,
            good: 0,
        }
    }
}

impl Target for Streamed {
    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            self.file.begin()?;
        }
        let written = write_all(self.file.file.as_fd(), chunk);
        if self.file.is_regular() {
            match written {
                Ok(()) => {
                    self.good += chunk.len() as u64;
                    self.file.kind = Kind::Kept;
                }
                Err(_) => drop(self.file.file.set_len(self.good)),
            }
        }
        written
    }

    fn finish(&mut self) -> io::Result<()> {
        match self.file.is_regular() {
            true => self.file.file.sync_data(),
            false => Ok(()),
        }
    }
}

/// Puts all chunks into a file at the end.
pub struct Replaced {
    file: OutputFile,
    bytes: Vec<u8>,
}

impl Replaced {
    /// Into this file.
    pub fn new(file: OutputFile) -> Self {
        Self {
            file,
            bytes: Vec::new(),
        }
    }
}

impl Target for Replaced {
    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.file.replace(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_is_its_owners_and_has_no_name_before_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let mut file = OutputFile::open(&path).unwrap();
        assert_eq!(names(folder.path()), Vec::<String>::new());
        file.replace(b"text").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"text");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(names(folder.path()), ["new"]);
    }

    #[test]
    fn a_file_that_was_there_keeps_its_mode_owner_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other, link) = (
            folder.path().join("old"),
            folder.path().join("hard"),
            folder.path().join("soft"),
        );
        for named in [&path, &link] {
            let _ = fs::remove_file(&path);
            let _ = fs::remove_file(&other);
            fs::write(&path, "a longer text than the new one").unwrap();
            fs::hard_link(&path, &other).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            // Only root may; for others it is theirs anyway.
            let _ = chown(&path, Some(65_534), Some(1));
            let _ = symlink("old", &link);
            let before = fs::metadata(&path).unwrap();
            let mut file = OutputFile::open(named).unwrap();
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                "a longer text than the new one"
            );
            file.replace(b"short").unwrap();
            let after = fs::metadata(&path).unwrap();
            assert_eq!(fs::read(&other).unwrap(), b"short");
            assert_eq!(
                (before.mode(), before.uid(), before.gid(), before.ino()),
                (after.mode(), after.uid(), after.gid(), after.ino())
            );
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }
    }

    #[test]
    fn nothing_is_left_of_what_was_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        drop(OutputFile::open(&path).unwrap());
        let mut begun = OutputFile::open(&path).unwrap();
        begun.begin().unwrap();
        assert_eq!(names(folder.path()), ["new"]);
        drop(begun);
        assert_eq!(names(folder.path()), Vec::<String>::new());
        // What somebody else has put there meanwhile stays.
        let mut begun = OutputFile::open(&path).unwrap();
        begun.begin().unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "other").unwrap();
        drop(begun);
        assert_eq!(fs::read(&path).unwrap(), b"other");
    }

    #[test]
    fn what_comes_meanwhile_under_the_same_name_is_written_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut file = OutputFile::open(&path).unwrap();
        fs::write(&path, "from somebody else, and longer").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        file.replace(b"ours").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
    }

    #[test]
    fn two_captures_do_not_write_into_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let (mut one, mut other) = (OutputFile::open(&path).unwrap(), OutputFile::open(&path).unwrap());
        one.begin().unwrap();
        assert!(other.begin().unwrap_err().to_string().contains("another capture"));
        assert!(
            OutputFile::open(&path)
                .unwrap_err()
                .to_string()
                .contains("another capture")
        );
    }

    #[test]
    fn only_whole_lines_are_kept_where_the_disk_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut streamed = Streamed::new(OutputFile::open(&path).unwrap());
        streamed.write(b"one line\n").unwrap();
        // As if a write had come half through.
        write_all(streamed.file.file.as_fd(), b"half a l").unwrap();
        streamed.file.file = File::open(&path).unwrap();
        assert!(streamed.write(b"ine").is_err(), "a file that is open for reading");
        drop(streamed);
        assert!(fs::read_to_string(&path).unwrap().starts_with("one line\n"));
    }

    #[test]
    fn names_that_cannot_be_files_are_refused() {
        for path in ["/nonexistent/out", "/tmp/no-such-folder/", "/tmp", ""] {
            assert!(OutputFile::open(Path::new(path)).is_err(), "{path:?}");
        }
    }
}
