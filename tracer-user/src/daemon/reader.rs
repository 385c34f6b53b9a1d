//! Reads the memory of targets on another thread than the loop: a page of a hostile process may lie on a file system that
//! never answers, and a thread that reads it sleeps. Such a reader is given up with its target, and another continues.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    job::{Done, Job, What},
    message::Message,
};
use crate::{clock::now_ns, sources::passive::ObserveError, stream::Observation};

/// A reading takes some hundred microseconds; one that takes this long is stuck.
const STUCK_NS: u64 = 5_000_000_000;
/// How many readers are given up at most: each is a thread that sleeps until its target ends.
const MAX_STUCK: usize = 8;

/// What the loop and the readers share.
#[derive(Debug, Default)]
struct Shared {
    queue: VecDeque<Job>,
    /// The number of the reader at work; 0 if there is none.
    worker: u64,
    /// What it is reading: PID, target, since when.
    at: Option<(u32, u64, u64)>,
    /// How many readers were given up and have not returned.
    stuck: usize,
}

/// Makes readings, one after the other.
pub struct Reader {
    shared: Arc<Mutex<Shared>>,
    /// How many readers were started so far.
    workers: u64,
    messages: UnboundedSender<Message>,
}

impl Reader {
    /// Creates a reader that sends what it has read to `messages`.
    pub fn new(messages: UnboundedSender<Message>) -> Self {
        Self {
            shared: Arc::default(),
            workers: 0,
            messages,
        }
    }

    /// Queues readings; each is reported as [`Message::Read`].
    pub fn read(&mut self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        lock(&self.shared).queue.extend(jobs);
        self.start_worker();
    }

    /// Gives up the reader if it is stuck, and lets another continue. Returns the (PID, target) that it was reading.
    pub fn give_up(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        let mut shared = lock(&self.shared);
        let (pid, target, since_ns) = shared.at?;
        if now_ns.saturating_sub(since_ns) < STUCK_NS || shared.stuck >= MAX_STUCK {
            return None;
        }
        shared.stuck += 1;
        (shared.worker, shared.at) = (0, None);
        drop(shared);
        self.start_worker();
        Some((pid, target))
    }

    /// Starts a reader if readings are queued and none is at work.
    fn start_worker(&mut self) {
        let mut shared = lock(&self.shared);
        if shared.worker != 0 || shared.queue.is_empty() {
            return;
        }
        self.workers += 1;
        shared.worker = self.workers;
        drop(shared);
        let (number, shared, messages) = (self.workers, Arc::clone(&self.shared), self.messages.clone());
        tokio::task::spawn_blocking(move || {
            while let Some(job) = next(&shared, number) {
                let done = make(job);
                let is_given_up = end(&shared, number);
                // There is no receiver any more when the daemon ends.
                if messages.send(Message::Read(Box::new(done))).is_err() || is_given_up {
                    return;
                }
            }
        });
    }
}

/// Takes the next job of a reader; if there is none, the reader ends.
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

/// Ends a job. True if the reader was given up meanwhile.
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
    std::thread::sleep(job.delay);
    let at_ns = now_ns();
    let seen = match (job.what, &mut job.passive) {
        (What::All, Some(passive)) => {
            passive.allow_walk(job.walk);
            passive.observe(at_ns)
        }
        (What::Waits, Some(passive)) => passive.observe_waits(at_ns),
        (What::Causes, _) | (_, None) => Ok(Vec::new()),
    };
    let before = own_cpu_time();
    let seen = seen.and_then(|seen| with_sample(&mut job, seen));
    let cost = own_cpu_time().saturating_sub(before);
    Done {
        job,
        at_ns,
        cost,
        seen,
    }
}

/// Takes a sample of why goroutines wait, where that is wanted.
fn with_sample(job: &mut Job, mut seen: Vec<Observation>) -> Result<Vec<Observation>, ObserveError> {
    if let Some(causes) = &mut job.causes {
        causes.sample(now_ns())?;
        seen.extend(causes.finish());
    }
    Ok(seen)
}

fn own_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::{binary::Globals, process::memory::ProcessMemory, sources::passive::PassiveSource};

    /// A job in our own memory, in which there is nothing to read.
    fn job(target: u64) -> Job {
        let memory = ProcessMemory::new(std::process::id());
        Job {
            pid: std::process::id(),
            target,
            passive: Some(PassiveSource::new(memory, &Globals::default(), 0, None, 27)),
            causes: None,
            what: What::All,
            walk: Duration::ZERO,
            delay: Duration::ZERO,
        }
    }

    async fn read(inbox: &mut UnboundedReceiver<Message>) -> u64 {
        match inbox.recv().await {
            Some(Message::Read(done)) => {
                done.seen.unwrap();
                done.job.target
            }
            _ => panic!("a reading"),
        }
    }

    #[tokio::test]
    async fn readings_are_made_in_order_and_none_waits_for_one_that_never_ends() {
        let (messages, mut inbox) = unbounded_channel();
        let mut reader = Reader::new(messages);
        reader.read(vec![job(1), job(2)]);
        reader.read(vec![job(3)]);
        for target in 1..=3 {
            assert_eq!(read(&mut inbox).await, target);
        }
        // A reader sleeps in the memory of target 4.
        let began = now_ns();
        let sleeper = reader.workers + 1;
        {
            let mut shared = lock(&reader.shared);
            (shared.worker, shared.at) = (sleeper, Some((7, 4, began)));
        }
        reader.workers = sleeper;
        reader.read(vec![job(5)]);
        assert_eq!(reader.give_up(began + STUCK_NS - 1), None);
        assert!(inbox.try_recv().is_err());
        assert_eq!(reader.give_up(began + STUCK_NS), Some((7, 4)));
        assert_eq!(read(&mut inbox).await, 5);
        assert_eq!(reader.give_up(began + STUCK_NS), None, "reported once");
        // It wakes up after all, and ends.
        assert_eq!(lock(&reader.shared).stuck, 1);
        assert!(end(&reader.shared, sleeper));
        assert_eq!(lock(&reader.shared).stuck, 0);
    }
}
