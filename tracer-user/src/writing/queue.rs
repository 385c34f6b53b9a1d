//! A queue of bytes between a loop that never waits and a thread that writes them.

use std::{
    collections::VecDeque,
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

/// Bytes of a piece: what an empty pipe takes at once.
const PIECE: usize = 64 << 10;

/// Chunks of bytes in the order in which they came.
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// For the one event loop that waits for the end.
    progress: Notify,
}

struct State {
    chunks: VecDeque<Vec<u8>>,
    /// Sum of the lengths of `chunks`.
    bytes: usize,
    /// Chunks dropped since [`Next::Lost`] last reported any.
    unreported: u64,
    /// Chunks dropped since the beginning.
    lost: u64,
    /// Chunks written since the beginning.
    written: u64,
    is_writing: bool,
    closed: bool,
    ended: bool,
    trouble: Option<Trouble>,
}

/// Why nothing more can be written.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// The system's error.
    pub kind: io::ErrorKind,
    /// The error's text.
    pub message: String,
}

/// What the thread is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Write this.
    Chunk(Vec<u8>),
    /// So many chunks were dropped here.
    Lost(u64),
    /// End: the queue was closed, and all of it is written.
    Closed,
}

impl Queue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                chunks: VecDeque::new(),
                bytes: 0,
                unreported: 0,
                lost: 0,
                written: 0,
                is_writing: false,
                closed: false,
                ended: false,
                trouble: None,
            }),
            changed: Condvar::new(),
            progress: Notify::const_new(),
        }
    }

    /// Appends a chunk, or drops and counts it if more than `most` bytes would then wait. Returns whether it was
    /// appended.
    pub fn offer(&self, chunk: Vec<u8>, most: usize) -> bool {
        let mut state = self.lock();
        if state.bytes.saturating_add(chunk.len()) > most {
            state.unreported += 1;
            state.lost += 1;
            return false;
        }
        state.append(chunk);
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Blocks until no more than `most` bytes would wait with the chunk, or the thread has ended, and appends it.
    pub fn offer_in_time(&self, chunk: Vec<u8>, most: usize) {
        let is_full = |state: &mut State| {
            !state.ended && !state.chunks.is_empty() && state.bytes.saturating_add(chunk.len()) > most
        };
        let state = self.changed.wait_while(self.lock(), is_full);
        state.unwrap_or_else(PoisonError::into_inner).append(chunk);
        self.changed.notify_all();
    }

    /// Appends a chunk, however much waits.
    pub fn push(&self, chunk: Vec<u8>) {
        self.lock().append(chunk);
        self.changed.notify_all();
    }

    /// Appends bytes in pieces, each of which is progress when it is written; nothing comes between them.
    pub fn push_in_pieces(&self, bytes: &[u8]) {
        let mut state = self.lock();
        bytes.chunks(PIECE).for_each(|piece| state.append(piece.to_vec()));
        drop(state);
        self.changed.notify_all();
    }

    /// Ends the queue: nothing more will be appended.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits for what is to be done next. The chunk returned before counts as written.
    pub fn next(&self) -> Next {
        let mut state = self.lock();
        if state.is_writing {
            state.is_writing = false;
            state.written += 1;
        }
        self.changed.notify_all();
        self.progress.notify_one();
        loop {
            if let Some(chunk) = state.chunks.pop_front() {
                state.bytes = state.bytes.saturating_sub(chunk.len());
                state.is_writing = true;
                return Next::Chunk(chunk);
            }
            // After the chunks that were kept, which are older.
            match std::mem::take(&mut state.unreported) {
                0 if state.closed => return Next::Closed,
                0 => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                lost => {
                    state.is_writing = true;
                    return Next::Lost(lost);
                }
            }
        }
    }

    /// Records a failed write, if it is the first. The thread may continue.
    pub fn set_failure(&self, e: &io::Error) {
        let trouble = Trouble {
            kind: e.kind(),
            message: e.to_string(),
        };
        self.lock().trouble.get_or_insert(trouble);
    }

    /// Records that the thread has ended: what waits is dropped.
    pub fn end(&self) {
        let mut state = self.lock();
        state.is_writing = false;
        state.ended = true;
        state.chunks.clear();
        state.bytes = 0;
        drop(state);
        self.changed.notify_all();
        self.progress.notify_one();
    }

    /// The first failed write.
    pub fn failure(&self) -> Option<Trouble> {
        self.lock().trouble.clone()
    }

    /// Number of chunks dropped so far.
    pub fn lost(&self) -> u64 {
        self.lock().lost
    }

    /// Number of chunks written so far.
    pub fn written(&self) -> u64 {
        self.lock().written
    }

    /// Whether the queue is closed and all of it written without failure; the thread may still have to finish.
    pub fn is_drained(&self) -> bool {
        let state = self.lock();
        state.closed && state.trouble.is_none() && state.is_idle()
    }

    /// Whether the thread has ended.
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Whether nothing waits, and nothing is being written.
    pub fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }

    /// Waits until the queue is idle, for `at_most`.
    pub fn wait_until_idle(&self, at_most: Duration) {
        let is_busy = |state: &mut State| !state.is_idle();
        drop(self.changed.wait_timeout_while(self.lock(), at_most, is_busy));
    }

    /// Waits until the thread has ended, for `at_most` or without limit. Returns whether it has.
    pub fn wait_until_ended(&self, at_most: Option<Duration>) -> bool {
        let runs = |state: &mut State| !state.ended;
        match at_most {
            Some(at_most) => drop(self.changed.wait_timeout_while(self.lock(), at_most, runs)),
            None => drop(self.changed.wait_while(self.lock(), runs)),
        }
        self.has_ended()
    }

    /// Waits until the thread has written something, or has ended. For one loop at a time.
    pub async fn progress(&self) {
        self.progress.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, chunk: Vec<u8>) {
        if !self.ended {
            self.bytes = self.bytes.saturating_add(chunk.len());
            self.chunks.push_back(chunk);
        }
    }

    fn is_idle(&self) -> bool {
        self.ended || (!self.is_writing && self.chunks.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_counted_and_reported_behind_what_was_kept() {
        let queue = Queue::new();
        let line = vec![b'x'; 1 << 10];
        for n in 0..300 {
            assert_eq!(queue.offer(line.clone(), 256 << 10), n < 256);
        }
        assert_eq!(queue.lost(), 44);
        for _ in 0..256 {
            assert_eq!(queue.next(), Next::Chunk(line.clone()));
        }
        assert_eq!(queue.next(), Next::Lost(44));
        // There is room again.
        assert!(queue.offer(b"y".to_vec(), 256 << 10));
        assert_eq!(queue.next(), Next::Chunk(b"y".to_vec()));
        // It is still being written, and the waits are bounded.
        queue.wait_until_idle(Duration::from_millis(1));
        assert!(!queue.is_idle());
        assert!(!queue.wait_until_ended(Some(Duration::from_millis(1))));
        queue.close();
        assert_eq!(queue.next(), Next::Closed);
        queue.end();
        assert!(queue.is_idle() && queue.wait_until_ended(None));
    }

    #[test]
    fn a_result_is_never_dropped() {
        let queue = Queue::new();
        queue.push(vec![0; 1 << 20]);
        assert!(!queue.offer(vec![1], 1 << 10));
        queue.push(vec![2]);
        assert!(matches!(queue.next(), Next::Chunk(chunk) if chunk.len() == 1 << 20));
        assert_eq!(queue.next(), Next::Chunk(vec![2]));
    }
}
