//! A file system in userspace (FUSE) with one program on it, whose server stops answering on request: a stand-in for a
//! dead NFS server or a hostile user's own file system.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request,
};
use tempfile::TempDir;

/// How long the kernel may cache an answer.
const VALID: Duration = Duration::from_millis(1);
const PROGRAM: INodeNo = INodeNo(2);
const NAME: &str = "server";

/// The mounted file system. On drop it answers again and is unmounted.
#[derive(Debug)]
pub struct Mounted {
    gate: Arc<Gate>,
    /// Serves requests until it is dropped.
    session: Option<BackgroundSession>,
    dir: TempDir,
}

/// Holds requests while nobody answers.
#[derive(Debug, Default)]
struct Gate {
    is_silent: Mutex<bool>,
    changed: Condvar,
}

struct Files {
    gate: Arc<Gate>,
    bytes: Vec<u8>,
    made: SystemTime,
}

impl Mounted {
    /// Mounts a file system with a copy of this program.
    pub fn with(program: &Path) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let gate = Arc::new(Gate::default());
        let files = Files {
            gate: Arc::clone(&gate),
            bytes: fs::read(program).with_context(|| format!("reading {}", program.display()))?,
            made: SystemTime::now(),
        };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::RO, MountOption::FSName("gmpscope-tests".to_owned())];
        let session = fuser::spawn_mount(files, dir.path(), &config)
            .context("mounting a file system (FUSE): this test needs root and /dev/fuse (modprobe fuse)")?;
        Ok(Self {
            gate,
            session: Some(session),
            dir,
        })
    }

    /// The path of its program.
    pub fn program(&self) -> PathBuf {
        self.dir.path().join(NAME)
    }

    /// Stops answering until [`Self::answer`].
    pub fn fall_silent(&self) {
        *self.gate.lock() = true;
    }

    /// Answers again, including requests that came meanwhile.
    pub fn answer(&self) {
        *self.gate.lock() = false;
        self.gate.changed.notify_all();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.answer();
        drop(self.session.take());
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self) {
        drop(self.changed.wait_while(self.lock(), |is_silent| *is_silent));
    }
}

impl Files {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let (kind, perm, size) = match inode {
            PROGRAM => (FileType::RegularFile, 0o755, self.bytes.len() as u64),
            _ => (FileType::Directory, 0o755, 0),
        };
        FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: self.made,
            mtime: self.made,
            ctime: self.made,
            crtime: self.made,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.gate.pass();
        match name == NAME {
            true => reply.entry(&VALID, &self.attributes(PROGRAM), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.gate.pass();
        reply.attr(&VALID, &self.attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.gate.pass();
        // Pages that a process has already read stay in its page cache.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.gate.pass();
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.bytes.get(offset..));
        let rest = rest.unwrap_or_default();
        reply.data(rest.get(..size as usize).unwrap_or(rest));
    }
}

/// A file system in memory that has almost no space; unmounted on drop.
#[derive(Debug)]
pub struct Small(TempDir);

impl Small {
    /// Mounts it.
    ///
    /// # Errors
    /// Without root.
    pub fn mount() -> Result<Self> {
        let small = Self(tempfile::tempdir()?);
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "gmpscope-tests"])
            .arg(small.path())
            .status()?;
        anyhow::ensure!(status.success(), "mounting a tmpfs: run the tests as root");
        Ok(small)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it up.
    pub fn fill(&self) -> Result<()> {
        use std::io::Write as _;
        let mut file = fs::File::create(self.path().join("filler"))?;
        while file.write_all(&[0; 4096]).is_ok() {}
        Ok(())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.path())
            .status();
    }
}
