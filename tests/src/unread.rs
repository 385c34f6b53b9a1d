//! Readers that do not read: a full pipe, and a stopped terminal.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The writing end of something that nobody reads.
#[derive(Debug)]
pub struct Unread {
    /// Kept open, so that writers block instead of getting an error.
    reader: OwnedFd,
    writer: File,
}

impl Unread {
    /// A full pipe.
    pub fn pipe() -> Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        let unread = Self {
            reader: OwnedFd::from(reader),
            writer: File::from(OwnedFd::from(writer)),
        };
        fill(&unread.writer)?;
        Ok(unread)
    }

    /// A full named pipe.
    pub fn named(path: &Path) -> Result<Self> {
        let status = std::process::Command::new("mkfifo").arg(path).status()?;
        ensure!(status.success(), "mkfifo: {status}");
        let both = File::options().read(true).write(true).open(path)?;
        fill(&both)?;
        Ok(Self {
            reader: OwnedFd::from(both.try_clone()?),
            writer: both,
        })
    }

    /// A terminal on which Ctrl-S was pressed.
    pub fn terminal() -> Result<Self> {
        let (mut master, mut slave) = (-1, -1);
        let null = std::ptr::null_mut();
        // SAFETY: the two descriptors are valid places, and no name or settings are asked for.
        let made = unsafe { libc::openpty(&mut master, &mut slave, null, null.cast(), null.cast()) };
        ensure!(made == 0, "openpty: {}", std::io::Error::last_os_error());
        // SAFETY: the call made these descriptors, and nothing else owns them.
        let (reader, writer) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        // SAFETY: takes two numbers.
        let stopped = unsafe { libc::tcflow(writer.as_raw_fd(), libc::TCOOFF) };
        ensure!(stopped == 0, "tcflow: {}", std::io::Error::last_os_error());
        Ok(Self {
            reader,
            writer: File::from(writer),
        })
    }

    /// Returns the writing end for a child.
    pub fn stdio(&self) -> Result<Stdio> {
        Ok(Stdio::from(self.writer.try_clone()?))
    }

    /// The end that nobody reads.
    pub fn reader(&self) -> &OwnedFd {
        &self.reader
    }
}

/// Makes a pipe as small as possible, and fills it.
fn fill(mut pipe: &File) -> Result<()> {
    let set = |command, value: i32| {
        // SAFETY: takes numbers.
        match unsafe { libc::fcntl(pipe.as_raw_fd(), command, value) } {
            -1 => Err(std::io::Error::last_os_error()),
            got => Ok(got),
        }
    };
    set(libc::F_SETPIPE_SZ, 4096).context("F_SETPIPE_SZ")?;
    let flags = set(libc::F_GETFL, 0)?;
    set(libc::F_SETFL, flags | libc::O_NONBLOCK)?;
    let full = loop {
        if let Err(e) = pipe.write_all(&[b'.'; 4096]) {
            break e;
        }
    };
    set(libc::F_SETFL, flags)?;
    ensure!(full.kind() == std::io::ErrorKind::WouldBlock, "{full}");
    Ok(())
}

/// A child that is killed when the test ends.
#[derive(Debug)]
pub struct Guarded(pub Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Guarded {
    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes two numbers; the child is not yet waited for, so the pid is its own.
        unsafe { libc::kill(self.0.id() as i32, signal) };
    }

    /// Whether it is still running.
    pub fn alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn ends_within(&mut self, at_most: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + at_most;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("gmpscope did not end within {at_most:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Waits until `is_so` holds; `what` names the condition in the error.
///
/// # Errors
/// The condition does not become true in time.
pub fn until(what: &str, at_most: Duration, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + at_most;
    while !is_so()? {
        if Instant::now() > end {
            bail!("not within {at_most:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
