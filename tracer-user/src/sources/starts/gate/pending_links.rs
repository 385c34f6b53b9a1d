//! Processes that wait at the gate until probes are bound to them. This is the gate thread's side, which knows them by
//! ids; [`super::binders`] attaches, with the other table of descriptors.

use std::{
    collections::HashMap,
    sync::mpsc::Sender,
    time::{Duration, Instant},
};

use super::{caller::ExecCaller, group::Opening};
use crate::bpf::linker::Task;

/// A process to be linked.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Id to answer with.
    pub id: u64,
    /// The process, in our PID namespace.
    pub pid: u32,
    /// The thread of it that is in `execve`.
    pub task: Task,
    /// The slot of the binary that it executes.
    pub slot: u32,
    /// When the process stops waiting.
    pub until: Instant,
}

/// A process that waits for its probes.
pub struct Waiting {
    /// Its opening, which holds it.
    pub opening: Opening,
    /// The process and its thread.
    pub caller: ExecCaller,
    /// The slot of the binary that it executes.
    pub slot: u32,
    until: Instant,
}

/// Processes that wait, by the id of their job.
pub struct PendingLinks {
    jobs: Sender<Job>,
    waiting: HashMap<u64, Waiting>,
    next: u64,
}

impl PendingLinks {
    /// Creates an empty set. Jobs are sent to `jobs`.
    pub fn new(jobs: Sender<Job>) -> Self {
        Self {
            jobs,
            waiting: HashMap::new(),
            next: 0,
        }
    }

    /// Sends a job for a process, which waits until then at most. Returns the opening if there can be no job.
    pub fn begin(
        &mut self,
        opening: Opening,
        caller: ExecCaller,
        slot: u32,
        until: Instant,
    ) -> Option<Opening> {
        let Some(task) = caller.task() else {
            return Some(opening);
        };
        let id = self.next;
        self.next += 1;
        let job = Job {
            id,
            pid: caller.pid,
            task,
            slot,
            until,
        };
        if self.jobs.send(job).is_err() {
            return Some(opening);
        }
        let waiting = Waiting {
            opening,
            caller,
            slot,
            until,
        };
        self.waiting.insert(id, waiting);
        None
    }

    /// Takes the process that waits for this job; `None` if it has continued already.
    pub fn take(&mut self, id: u64) -> Option<Waiting> {
        self.waiting.remove(&id)
    }

    /// Takes the processes that have waited long enough.
    pub fn overdue(&mut self, now: Instant) -> Vec<Waiting> {
        let over = self.waiting.extract_if(|_, waiting| waiting.until <= now);
        over.map(|(_, waiting)| waiting).collect()
    }

    /// Takes all processes that wait.
    pub fn take_all(&mut self) -> Vec<Waiting> {
        self.waiting.drain().map(|(_, waiting)| waiting).collect()
    }

    /// How long until the next one has waited long enough.
    pub fn next_deadline(&self, now: Instant) -> Option<Duration> {
        let waiting = self.waiting.values();
        waiting
            .map(|waiting| waiting.until.saturating_duration_since(now))
            .min()
    }

    /// How many processes wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}
