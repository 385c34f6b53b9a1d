//! Reads the memory of targets, on a thread beside the loop: a page of a hostile process may lie on a file system that
//! never answers, and whoever reads it sleeps. Such a reader is given up with its target, and another goes on.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::mpsc::UnboundedSender;

use super::host::Word;
use crate::{
    clock::now_ns,
    process::memory::ProcessMemory,
    sources::passive::{ObserveError, PassiveSource},
    stream::Observation,
};

/// A reading takes some hundred microseconds; one that takes so long does not end.
const STUCK_NS: u64 = 5_000_000_000;
/// Readers that are given up at most: each is a thread that sleeps until its target ends.
const MOST_STUCK: usize = 8;

/// A reading that is to be made.
#[derive(Debug)]
pub struct Job {
    /// Whose memory.
    pub pid: u32,
    /// Which target that was.
    pub target: u64,
    /// How it is read.
    pub passive: PassiveSource<ProcessMemory>,
    /// The waits alone, or everything.
    pub all: bool,
    /// Our CPU time per second that walking over goroutines may take.
    pub walk: Duration,
}

/// A reading that was made.
#[derive(Debug)]
pub struct Done {
    /// What was to be done.
    pub job: Job,
    /// When.
    pub at_ns: u64,
    /// What was seen.
    pub seen: Result<Vec<Observation>, ObserveError>,
}

/// What is shared with whoever reads.
#[derive(Debug, Default)]
struct Shared {
    queue: VecDeque<Job>,
    /// Number of the reader at work; 0: there is none.
    worker: u64,
    /// What it is at: PID, target, since when.
    at: Option<(u32, u64, u64)>,
    /// Readers that were given up and have not come back.
    stuck: usize,
}

/// The readings that are waited for.
pub struct Reader {
    shared: Arc<Mutex<Shared>>,
    workers: u64,
    words: UnboundedSender<Word>,
}

impl Reader {
    /// Reports to `words`.
    pub fn new(words: UnboundedSender<Word>) -> Self {
        Self {
            shared: Arc::default(),
            workers: 0,
            words,
        }
    }

    /// Has readings made, one after the other; each is reported as [`Word::Read`].
    pub fn read(&mut self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        lock(&self.shared).queue.extend(jobs);
        self.employ();
    }

    /// The process (PID, target) at which the reader is stuck, if it is. It is given up, and another goes on.
    pub fn stuck(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        let mut shared = lock(&self.shared);
        let (pid, target, since_ns) = shared.at?;
        if now_ns.saturating_sub(since_ns) < STUCK_NS || shared.stuck >= MOST_STUCK {
            return None;
        }
        shared.stuck += 1;
        (shared.worker, shared.at) = (0, None);
        drop(shared);
        self.employ();
        Some((pid, target))
    }

    /// Has somebody read, if there is something to be read and nobody does.
    fn employ(&mut self) {
        let mut shared = lock(&self.shared);
        if shared.worker != 0 || shared.queue.is_empty() {
            return;
        }
        self.workers += 1;
        shared.worker = self.workers;
        drop(shared);
        let (number, shared, words) = (self.workers, Arc::clone(&self.shared), self.words.clone());
        tokio::task::spawn_blocking(move || {
            while let Some(job) = next(&shared, number) {
                let done = make(job);
                let is_given_up = end(&shared, number);
                // Nobody listens any more when the daemon ends.
                if words.send(Word::Read(Box::new(done))).is_err() || is_given_up {
                    return;
                }
            }
        });
    }
}

/// The next job of a reader; without one, it is at work no longer.
fn next(shared: &Mutex<Shared>, number: u64) -> Option<Job> {
    let mut shared = lock(shared);
    if shared.worker != number {
        return None;
    }
    let job = shared.queue.pop_front();
    match &job {
        Some(job) => shared.at = Some((job.pid, job.target, now_ns())),
        None => shared.worker = 0,
    }
    job
}

/// A job is done. True if the reader was given up meanwhile.
fn end(shared: &Mutex<Shared>, number: u64) -> bool {
    let mut shared = lock(shared);
    if shared.worker == number {
        shared.at = None;
        return false;
    }
    shared.stuck = shared.stuck.saturating_sub(1);
    true
}

fn make(mut job: Job) -> Done {
    let at_ns = now_ns();
    job.passive.allow_walk(job.walk);
    let seen = match job.all {
        true => job.passive.observe(at_ns),
        false => job.passive.observe_waits(at_ns),
    };
    Done { job, at_ns, seen }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::binary::Globals;

    /// Of our own memory, in which nothing is to be read.
    fn job(target: u64) -> Job {
        let memory = ProcessMemory::new(std::process::id());
        Job {
            pid: std::process::id(),
            target,
            passive: PassiveSource::new(memory, &Globals::default(), 0, None, 27),
            all: true,
            walk: Duration::ZERO,
        }
    }

    async fn read(heard: &mut UnboundedReceiver<Word>) -> u64 {
        match heard.recv().await {
            Some(Word::Read(done)) => {
                done.seen.unwrap();
                done.job.target
            }
            _ => panic!("a reading"),
        }
    }

    #[tokio::test]
    async fn readings_come_in_their_order_and_nobody_waits_for_one_that_never_ends() {
        let (words, mut heard) = unbounded_channel();
        let mut reader = Reader::new(words);
        reader.read(vec![job(1), job(2)]);
        reader.read(vec![job(3)]);
        for target in 1..=3 {
            assert_eq!(read(&mut heard).await, target);
        }
        // Somebody sleeps in a reading of target 4.
        let began = now_ns();
        let sleeper = reader.workers + 1;
        {
            let mut shared = lock(&reader.shared);
            (shared.worker, shared.at) = (sleeper, Some((7, 4, began)));
        }
        reader.workers = sleeper;
        reader.read(vec![job(5)]);
        assert_eq!(reader.stuck(began + STUCK_NS - 1), None);
        assert!(heard.try_recv().is_err());
        assert_eq!(reader.stuck(began + STUCK_NS), Some((7, 4)));
        assert_eq!(read(&mut heard).await, 5);
        assert_eq!(reader.stuck(began + STUCK_NS), None, "told once");
        // It wakes up after all, and goes home.
        assert_eq!(lock(&reader.shared).stuck, 1);
        assert!(end(&reader.shared, sleeper));
        assert_eq!(lock(&reader.shared).stuck, 0);
    }
}
