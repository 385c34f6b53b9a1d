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
    /// It cannot be written. The thread then ends.
    fn write(&mut self, chunk: &[u8]) -> io::Result<()>;

    /// Ends what was written.
    ///
    /// # Errors
    /// It is not safely there.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target for OwnedFd {
    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        write_all(self.as_fd(), chunk)
    }
}

/// The writing end of a thread. Clones are the same; the thread ends when all that came before
/// [`close`](Self::close) is written, or cannot be.
#[derive(Clone)]
pub struct Writer(Arc<Queue>);

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(name: &str, mut target: impl Target) -> io::Result<Self> {
        let queue = Arc::new(Queue::new());
        let waiting = Arc::clone(&queue);
        spawn(name, move || {
            if let Err(e) = write(&waiting, &mut target) {
                waiting.trouble(&e);
            }
            drop(target);
            waiting.end();
        })?;
        Ok(Self(queue))
    }

    /// Has a chunk written, unless more than `most` bytes would then wait. Whether it will be.
    pub fn offer(&self, chunk: Vec<u8>, most: usize) -> bool {
        self.0.offer(chunk, most)
    }

    /// Has a chunk written, and waits while more than `most` bytes would wait with it.
    pub fn offer_in_time(&self, chunk: Vec<u8>, most: usize) {
        self.0.offer_in_time(chunk, most);
    }

    /// Has a chunk written, however much waits.
    pub fn push(&self, chunk: Vec<u8>) {
        self.0.push(chunk);
    }

    /// The same in pieces, each of which is progress when it is written; nothing comes between them.
    pub fn push_in_pieces(&self, bytes: &[u8]) {
        self.0.push_in_pieces(bytes);
    }

    /// Nothing more will come.
    pub fn close(&self) {
        self.0.close();
    }

    /// Why writing has ended early.
    pub fn failure(&self) -> Option<Trouble> {
        self.0.failure()
    }

    /// Chunks that were dropped so far.
    pub fn lost(&self) -> u64 {
        self.0.lost()
    }

    /// Chunks that were written so far.
    pub fn written(&self) -> u64 {
        self.0.written()
    }

    /// Whether all was handed to the system; a disk may still take its time with it.
    pub fn is_drained(&self) -> bool {
        self.0.is_drained()
    }

    /// Whether all is written that will be.
    pub fn has_ended(&self) -> bool {
        self.0.has_ended()
    }

    /// Waits until all is written that will be, for so long at most, or for ever. Whether it is.
    pub fn wait(&self, at_most: Option<Duration>) -> bool {
        self.0.wait_until_ended(at_most)
    }

    /// Something was written, or all is. For one loop at a time.
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
            // Whoever offered it knows.
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
        // Whatever comes now is nobody's business.
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
