//! A thread that writes, and the queue before it.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use super::{
    queue::{Next, Queue},
    spawn, write_all,
};

pub use super::queue::Trouble;

/// What a [`Writer`] writes into.
pub trait Target: Send + 'static {
    /// Writes a chunk.
    ///
    /// # Errors
    /// The chunk cannot be written. The thread then ends.
    fn write(&mut self, chunk: &[u8]) -> io::Result<()>;

    /// Completes the output after the last chunk.
    ///
    /// # Errors
    /// The output may not be on the disk.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for OwnedFd {
    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        write_all(self.as_fd(), chunk)
    }
}

/// A handle to a thread that writes. Clones share the thread, which ends when all that was queued before
/// [`close`](Self::close) is written, or cannot be.
#[derive(Clone)]
pub struct Writer(Arc<Queue>);

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The thread cannot be created.
    pub fn start(name: &str, mut target: impl Target) -> io::Result<Self> {
        let queue = Arc::new(Queue::new());
        let waiting = Arc::clone(&queue);
        spawn(name, move || {
            if let Err(e) = write(&waiting, &mut target) {
                waiting.set_failure(&e);
            }
            drop(target);
            waiting.end();
        })?;
        Ok(Self(queue))
    }

    /// Queues a chunk, unless more than `most` bytes would then wait. Returns whether it was queued.
    pub fn offer(&self, chunk: Vec<u8>, most: usize) -> bool {
        self.0.offer(chunk, most)
    }

    /// Queues a chunk, and blocks while more than `most` bytes would wait with it.
    pub fn offer_in_time(&self, chunk: Vec<u8>, most: usize) {
        self.0.offer_in_time(chunk, most);
    }

    /// Queues a chunk, however much waits.
    pub fn push(&self, chunk: Vec<u8>) {
        self.0.push(chunk);
    }

    /// Queues bytes in pieces, each of which is progress when it is written; nothing comes between them.
    pub fn push_in_pieces(&self, bytes: &[u8]) {
        self.0.push_in_pieces(bytes);
    }

    /// Ends the queue: nothing more will be queued.
    pub fn close(&self) {
        self.0.close();
    }

    /// Why writing ended early.
    pub fn failure(&self) -> Option<Trouble> {
        self.0.failure()
    }

    /// Number of chunks dropped so far.
    pub fn lost(&self) -> u64 {
        self.0.lost()
    }

    /// Number of chunks written so far.
    pub fn written(&self) -> u64 {
        self.0.written()
    }

    /// Whether everything was handed to the system; it may not be on the disk yet.
    pub fn is_drained(&self) -> bool {
        self.0.is_drained()
    }

    /// Whether the thread has ended: nothing more will be written.
    pub fn has_ended(&self) -> bool {
        self.0.has_ended()
    }

    /// Waits until the thread has ended, for `at_most` or without limit. Returns whether it has.
    pub fn wait(&self, at_most: Option<Duration>) -> bool {
        self.0.wait_until_ended(at_most)
    }

    /// Waits until something was written, or the thread has ended. For one loop at a time.
    pub async fn progress(&self) {
        self.0.progress().await;
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("written", &self.written())
            .finish()
    }
}

fn write(queue: &Queue, target: &mut impl Target) -> io::Result<()> {
    loop {
        match queue.next() {
            Next::Chunk(chunk) => target.write(&chunk)?,
            // Whoever offered the chunks counts them.
            Next::Lost(_) => {}
            Next::Closed => return target.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_up() {
        let (reader, pipe) = io::pipe().unwrap();
        let writer = Writer::start("test", OwnedFd::from(pipe)).unwrap();
        let line = vec![b'x'; 4 << 10];
        let taken = (0..1_000)
            .filter(|_| writer.offer(line.clone(), 64 << 10))
            .count();
        assert!((16..64).contains(&taken), "{taken}");
        assert_eq!(writer.lost(), 1_000 - taken as u64);
        writer.push(b"the result".to_vec());
        writer.close();
        assert!(!writer.wait(Some(Duration::from_millis(10))));
        // Somebody reads after all: what was kept is whole and in order.
        let text = io::read_to_string(reader).unwrap();
        assert!(writer.wait(None));
        assert_eq!(text.len(), taken * line.len() + 10);
        assert!(text.ends_with("xthe result"));
        assert!(writer.failure().is_none());
    }

    #[test]
    fn a_large_result_is_progress_piece_by_piece() {
        let (reader, pipe) = io::pipe().unwrap();
        let writer = Writer::start("test", OwnedFd::from(pipe)).unwrap();
        writer.push_in_pieces(&vec![b'x'; 1 << 20]);
        writer.close();
        let mut reader = io::BufReader::with_capacity(256 << 10, reader);
        let mut some = vec![0; 512 << 10];
        io::Read::read_exact(&mut reader, &mut some).unwrap();
        let written = writer.written();
        assert!((5..16).contains(&written), "{written}");
        assert_eq!(io::read_to_string(reader).unwrap().len(), 512 << 10);
        assert!(writer.wait(None));
    }

    #[test]
    fn a_reader_that_is_gone_ends_the_thread() {
        let (reader, pipe) = io::pipe().unwrap();
        drop(reader);
        let writer = Writer::start("test", OwnedFd::from(pipe)).unwrap();
        writer.push(vec![0]);
        assert!(writer.wait(None));
        assert_eq!(writer.failure().unwrap().kind, io::ErrorKind::BrokenPipe);
        // What is queued now is dropped.
        writer.offer_in_time(vec![0; 1 << 20], 1);
    }

    #[test]
    fn the_threads_get_no_signals() {
        let mask = spawn("test", || nix::sys::signal::SigSet::thread_get_mask().unwrap());
        let mask = mask.unwrap().join().unwrap();
        assert!(mask.contains(nix::sys::signal::Signal::SIGTERM));
        let ours = nix::sys::signal::SigSet::thread_get_mask().unwrap();
        assert!(!ours.contains(nix::sys::signal::Signal::SIGTERM));
    }
}
