//! Standard error, which never holds up a loop: once [`start`] was called, lines are written by a thread, and where
//! nobody reads them (a pipe that is full, a terminal that was stopped) the newest are dropped and counted.

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

/// Bytes that wait at most.
const MOST_BYTES: usize = 256 << 10;
/// How long what waits may hold up our end.
const LAST_LINES: Duration = Duration::from_millis(500);
/// How long a line may be waited for that has to come before what somebody else writes.
const IN_ORDER: Duration = Duration::from_millis(100);

static IS_STARTED: AtomicBool = AtomicBool::new(false);
static LINES: Queue = Queue::new();

/// Something to be given to a logger. Before [`start`] it writes by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

impl Write for Stderr {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        write(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the thread that writes from now on.
///
/// # Errors
/// There can be no thread.
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
            // A log that takes nothing any more changes nothing. The lock of `io::stderr` is not taken: whoever
            // wanted it would wait for this write.
            if let Err(e) = write_all(io::stderr().as_fd(), &line) {
                LINES.trouble(&e);
            }
        }
    })?;
    IS_STARTED.store(true, Ordering::Release);
    Ok(())
}

fn is_started() -> bool {
    IS_STARTED.load(Ordering::Acquire)
}

/// Writes a line, or has it written, or drops it.
pub fn write(line: &[u8]) {
    let _ = offer(line);
}

/// As [`write`]; whether it is not dropped.
pub fn offer(line: &[u8]) -> bool {
    if is_started() {
        return LINES.offer(line.to_owned(), MOST_BYTES);
    }
    if let Err(e) = write_all(io::stderr().as_fd(), line) {
        LINES.trouble(&e);
    }
    true
}

/// Writes something that is never dropped: a result.
pub fn push(text: &[u8]) {
    match is_started() {
        true => LINES.push_in_pieces(text),
        false => write(text),
    }
}

/// Writes a line unless others wait: one that the next will take the place of.
pub fn write_if_idle(line: &[u8]) -> bool {
    let may = !is_started() || LINES.is_idle();
    if may {
        write(line);
    }
    may
}

/// Waits a moment for what was written before, so that it comes before what others write to the same terminal.
pub fn settle() {
    if is_started() {
        LINES.wait_until_idle(IN_ORDER);
    }
}

/// Lines that were dropped so far.
pub fn lost() -> u64 {
    LINES.lost()
}

/// Whether all is written.
pub fn is_idle() -> bool {
    !is_started() || LINES.is_idle()
}

/// Something was written.
pub async fn progress() {
    LINES.progress().await;
}

/// Why something could not be written.
pub fn failure() -> Option<Trouble> {
    LINES.failure()
}

/// Waits until all is written, but not for long.
pub fn finish() {
    if is_started() {
        LINES.wait_until_idle(LAST_LINES);
    }
}
