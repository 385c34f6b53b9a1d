//! Processes that wait at the gate until probes are bound to them. All here is the gate's thread's own, and goes by
//! numbers: what attaches is [`super::binders`], in the other table of descriptors.

use std::{
    collections::HashMap,
    sync::mpsc::Sender,
    time::{Duration, Instant},
};

use super::{group::Opening, who::Who};
use crate::bpf::linker::Task;

/// A process to be linked.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// To be named in the answer.
    pub id: u64,
    /// The process, in our PID namespace.
    pub pid: u32,
    /// Its thread that is in `execve`.
    pub task: Task,
    /// The slot of the binary that it executes.
    pub slot: u32,
    /// When it is waited for no longer.
    pub until: Instant,
}

/// A process that waits for its probes.
pub struct Waiting {
    /// What it waits with.
    pub opening: Opening,
    /// It.
    pub who: Who,
    /// The slot of the binary that it executes.
    pub slot: u32,
    until: Instant,
}

/// Those that wait, by the number of their job.
pub struct Binding {
    jobs: Sender<Job>,
    waiting: HashMap<u64, Waiting>,
    next: u64,
}

impl Binding {
    /// Nobody waits. Jobs go to `jobs`.
    pub fn new(jobs: Sender<Job>) -> Self {
        Self {
            jobs,
            waiting: HashMap::new(),
            next: 0,
        }
    }

    /// Has a process linked, which waits until then at most; given back if that cannot be.
    pub fn begin(&mut self, opening: Opening, who: Who, slot: u32, until: Instant) -> Option<Opening> {
        let Some(task) = who.task() else {
            return Some(opening);
        };
        let id = self.next;
        self.next += 1;
        let job = Job {
            id,
            pid: who.pid,
            task,
            slot,
            until,
        };
        if self.jobs.send(job).is_err() {
            return Some(opening);
        }
        let waiting = Waiting {
            opening,
            who,
            slot,
            until,
        };
        self.waiting.insert(id, waiting);
        None
    }

    /// Who waits for this job; `None` if it went on before.
    pub fn made(&mut self, id: u64) -> Option<Waiting> {
        self.waiting.remove(&id)
    }

    /// Those that wait no longer.
    pub fn overdue(&mut self, now: Instant) -> Vec<Waiting> {
        let over = self.waiting.extract_if(|_, waiting| waiting.until <= now);
        over.map(|(_, waiting)| waiting).collect()
    }

    /// All that wait.
    pub fn all(&mut self) -> Vec<Waiting> {
        self.waiting.drain().map(|(_, waiting)| waiting).collect()
    }

    /// How long until somebody has waited for long enough.
    pub fn next_deadline(&self, now: Instant) -> Option<Duration> {
        let waiting = self.waiting.values();
        waiting
            .map(|waiting| waiting.until.saturating_duration_since(now))
            .min()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}
