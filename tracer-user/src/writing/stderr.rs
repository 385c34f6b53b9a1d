//! Standard error, which never blocks a loop: after [`start`], a thread writes the lines, and where nobody reads them
//! (a full pipe, a stopped terminal) the newest are dropped and counted.

use std::{
    io::{self, Write},
    os::fd::AsFd as _,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::{
    queue::{Next, Queue, Trouble},
    spawn, write_all,
};

/// Most bytes that wait.
const MOST_BYTES: usize = 256 << 10;
/// How long the last lines may delay our exit.
const LAST_LINES: Duration = Duration::from_millis(500);
/// How long to wait for lines that must come before what somebody else writes.
const IN_ORDER: Duration = Duration::from_millis(100);

static IS_STARTED: AtomicBool = AtomicBool::new(false);
static LINES: Queue = Queue::new();

/// Standard error for a logger. Before [`start`] it writes directly.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

impl Write for Stderr {
    /// Writes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        write(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the writer thread.
///
/// # Errors
/// The thread cannot be created.
pub fn start() -> io::Result<()> {
    spawn("stderr", || {
        loop {
            let line = match LINES.next() {
                Next::Chunk(line) => line,
                Next::Lost(lost) => {
                    format!("gmpscope: warning: {lost} lines of this log were dropped: nobody read it\n")
                        .into_bytes()
                }
                Next::Closed => return,
            };
            // gmpscope continues without its log. The lock of `io::stderr` is not taken: whoever
            // wanted it would wait for this write.
            if let Err(e) = write_all(io::stderr().as_fd(), &line) {
                LINES.set_failure(&e);
            }
        }
    })?;
    IS_STARTED.store(true, Ordering::Release);
    Ok(())
}

fn is_started() -> bool {
    IS_STARTED.load(Ordering::Acquire)
}

/// Writes a line, or queues it, or drops it.
pub fn write(line: &[u8]) {
    let _ = offer(line);
}

/// Like [`write()`]; returns whether the line was kept.
pub fn offer(line: &[u8]) -> bool {
    if is_started() {
        return LINES.offer(line.to_owned(), MOST_BYTES);
    }
    if let Err(e) = write_all(io::stderr().as_fd(), line) {
        LINES.set_failure(&e);
    }
    true
}

/// Writes a result, which is never dropped.
pub fn push(text: &[u8]) {
    match is_started() {
        true => LINES.push_in_pieces(text),
        false => write(text),
    }
}

/// Writes a line unless others wait: for a status line, which the next one replaces.
pub fn write_if_idle(line: &[u8]) -> bool {
    let may = !is_started() || LINES.is_idle();
    if may {
        write(line);
    }
    may
}

/// Waits a moment for earlier lines, so that they precede what others write to the same terminal.
pub fn settle() {
    if is_started() {
        LINES.wait_until_idle(IN_ORDER);
    }
}

/// Number of lines dropped so far.
pub fn lost() -> u64 {
    LINES.lost()
}

/// Whether everything is written.
pub fn is_idle() -> bool {
    !is_started() || LINES.is_idle()
}

/// Waits until something was written.
pub async fn progress() {
    LINES.progress().await;
}

/// The first failed write.
pub fn failure() -> Option<Trouble> {
    LINES.failure()
}

/// Waits until everything is written, but not for long.
pub fn finish() {
    if is_started() {
        LINES.wait_until_idle(LAST_LINES);
    }
}
