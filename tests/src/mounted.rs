//! A file system in userspace (FUSE) with one program on it, whose server stops answering on request: a stand-in for a
//! dead NFS server or a hostile user's own file system.
//!
//! The kernel lets no signal, not even SIGKILL, end a thread that waits for an answer to a request that the server has
//! already read (`request_wait_answer` in fs/fuse/dev.c); those whose requests are still queued can be killed. A server
//! reads one request before it falls silent. So that this one is never a request of gmpscope or of a program that a
//! test waits for, a process made for that purpose asks, and all other requests are answered until its own has come.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request,
};
use tempfile::TempDir;

/// How long the kernel may cache an answer.
const VALID: Duration = Duration::from_millis(1);
const PROGRAM: INodeNo = INodeNo(2);
const NAME: &str = "server";
/// How long it may take until the server has been asked, on a busy machine.
const ASKED: Duration = Duration::from_secs(20);
/// Asks for the attributes of `$1` from the first line on its standard input until it is killed.
const ASK: &str = "read -r line; while [ -e \"$1\" ]; do :; done";

/// The mounted file system. On drop it answers again and is unmounted.
#[derive(Debug)]
pub struct Mounted {
    gate: Arc<Gate>,
    /// The process whose request is not answered.
    asking: Option<Child>,
    /// Serves requests until it is dropped.
    session: Option<BackgroundSession>,
    dir: TempDir,
}

/// Holds requests while nobody answers.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

/// Which requests are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    All,
    /// All until this process asks.
    UntilAskedBy(u32),
    None,
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
        let mounted = Self {
            gate,
            asking: None,
            session: Some(session),
            dir,
        };
        // The server does not know the request of a close (FLUSH). The kernel learns that here, and does not send it
        // again: a thread that waits for its answer cannot be killed even while it is queued.
        drop(fs::File::open(mounted.program()).context("opening a file of the mounted file system")?);
        Ok(mounted)
    }

    /// The path of its program.
    pub fn program(&self) -> PathBuf {
        self.dir.path().join(NAME)
    }

    /// Stops answering until [`Self::answer`]. Whoever waits for an answer from then on can be killed.
    ///
    /// # Errors
    /// The process that is to ask did not.
    pub fn fall_silent(&mut self) -> Result<()> {
        self.answer();
        let mut asking = Command::new("sh")
            .args(["-c", ASK, "sh"])
            .arg(self.program())
            .stdin(Stdio::piped())
            .spawn()
            .context("starting sh")?;
        self.gate.set(State::UntilAskedBy(asking.id()));
        let begun = asking.stdin.take().context("no pipe")?.write_all(b"\n");
        self.asking = Some(asking);
        begun.context("having sh ask for a file")?;
        ensure!(
            self.gate.wait_for(State::None),
            "the server was not asked within {ASKED:?}"
        );
        Ok(())
    }

    /// Answers again, including requests that came meanwhile.
    pub fn answer(&mut self) {
        self.gate.set(State::All);
        if let Some(mut asking) = self.asking.take() {
            _ = asking.kill();
            _ = asking.wait();
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.answer();
        drop(self.session.take());
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.lock() = state;
        self.changed.notify_all();
    }

    /// Waits for a state for a limited time, and returns whether it was reached.
    fn wait_for(&self, wanted: State) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), ASKED, |state| *state != wanted);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == wanted
    }

    /// Returns when this request may be answered.
    fn pass(&self, request: &Request) {
        let mut state = self.lock();
        if *state == State::UntilAskedBy(request.pid()) {
            *state = State::None;
            self.changed.notify_all();
        }
        drop(self.changed.wait_while(state, |state| *state == State::None));
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
    fn lookup(&self, request: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.gate.pass(request);
        match name == NAME {
            true => reply.entry(&VALID, &self.attributes(PROGRAM), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, request: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.gate.pass(request);
        reply.attr(&VALID, &self.attributes(inode));
    }

    fn open(&self, request: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.gate.pass(request);
        // Pages that a process has already read stay in its page cache.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        request: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.gate.pass(request);
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
