//! Standard error, which never holds up the loop: lines are written by a thread of their own, and where nobody reads
//! them (a pipe that is full, a terminal that was stopped) the newest are dropped and counted.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Bytes that wait at most.
const MOST_BYTES: usize = 256 << 10;
/// How long what waits may hold up our end.
const LAST_LINES: Duration = Duration::from_millis(300);

static LINES: Lines = Lines::new();

/// Lines that wait to be written.
struct Lines {
    is_started: AtomicBool,
    waiting: Mutex<Waiting>,
    changed: Condvar,
    lost: AtomicU64,
}

struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Dropped, and not told yet.
    untold: u64,
    is_writing: bool,
}

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

/// Has a thread of its own write from now on.
///
/// # Errors
/// There can be no thread.
pub fn start() -> io::Result<()> {
    std::thread::Builder::new().name("stderr".to_owned()).spawn(|| {
        loop {
            let line = LINES.next();
            // A log that takes nothing any more changes nothing.
            let _ = io::stderr().write_all(&line);
        }
    })?;
    LINES.is_started.store(true, Ordering::Release);
    Ok(())
}

/// Writes a line, or has it written.
pub fn write(line: &[u8]) {
    match LINES.is_started.load(Ordering::Acquire) {
        true => LINES.push(line),
        false => _ = io::stderr().write_all(line),
    }
}

/// Lines that were dropped so far.
pub fn lost() -> u64 {
    LINES.lost.load(Ordering::Relaxed)
}

/// Waits until all is written, but not for long.
pub fn finish() {
    if LINES.is_started.load(Ordering::Acquire) {
        LINES.wait_until_written(LAST_LINES);
    }
}

impl Lines {
    const fn new() -> Self {
        Self {
            is_started: AtomicBool::new(false),
            waiting: Mutex::new(Waiting {
                lines: VecDeque::new(),
                bytes: 0,
                untold: 0,
                is_writing: false,
            }),
            changed: Condvar::new(),
            lost: AtomicU64::new(0),
        }
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes.saturating_add(line.len()) > MOST_BYTES {
            waiting.untold += 1;
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line.to_owned());
        drop(waiting);
        self.changed.notify_all();
    }

    /// Waits for the next to be written; whoever asks has done with the one before.
    fn next(&self) -> Vec<u8> {
        let mut waiting = self.lock();
        waiting.is_writing = false;
        self.changed.notify_all();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes = waiting.bytes.saturating_sub(line.len());
                waiting.is_writing = true;
                return line;
            }
            // Behind those that were kept, which are older.
            match std::mem::take(&mut waiting.untold) {
                0 => waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                lost => {
                    waiting.is_writing = true;
                    let text =
                        format!("gmpscope: warning: {lost} lines of this log were dropped: nobody read it\n");
                    return text.into_bytes();
                }
            }
        }
    }

    fn wait_until_written(&self, limit: Duration) {
        let is_busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        let _ = self
            .changed
            .wait_timeout_while(self.lock(), limit, is_busy)
            .unwrap_or_else(PoisonError::into_inner);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_is_dropped_counted_and_told_behind_what_was_kept() {
        let lines = Lines::new();
        let line = vec![b'x'; 1 << 10];
        for _ in 0..300 {
            lines.push(&line);
        }
        assert_eq!(lines.lost.load(Ordering::Relaxed), 300 - 256);
        for _ in 0..256 {
            assert_eq!(lines.next(), line);
        }
        let told = String::from_utf8(lines.next()).unwrap();
        assert!(told.contains("44 lines"), "{told}");
        // There is room again.
        lines.push(b"y\n");
        assert_eq!(lines.next(), b"y\n");
        // It is still being written: the end does not wait for ever.
        lines.wait_until_written(Duration::from_millis(1));
        assert!(lines.lock().is_writing);
    }
}
