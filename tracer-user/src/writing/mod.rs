//! Output of bytes to files, pipes and terminals that never blocks the code that produces them.
//!
//! A loop that has probes in another program must not wait in write(2): a stopped terminal, a pipe that nobody reads
//! or a disk that hangs would keep the probes there. So a thread writes ([`writer`]), what waits for it is bounded
//! ([`queue`]), and what does not fit is dropped and counted by whoever offered it. Non-blocking descriptors were the
//! alternative: regular files do not have them, and on a terminal the flag is shared with the shell.

pub mod file;
mod queue;
pub mod stderr;
pub mod writer;

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};

/// Starts a thread that gets no signals: they are for the thread that waits for them. Threads and processes that it
/// starts in turn get none either.
///
/// # Errors
/// The thread cannot be created.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<std::thread::JoinHandle<T>> {
    use nix::sys::signal::SigSet;
    // The mask is inherited, so that there is no moment at which the thread could get one.
    let before = SigSet::all().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK);
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    if let Ok(before) = before {
        before.thread_set_mask()?;
    }
    thread
}

/// Writes all of `bytes`, also where somebody else has made the descriptor non-blocking.
///
/// # Errors
/// Those of write(2).
pub(crate) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let mut ready = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
                match poll(&mut ready, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
