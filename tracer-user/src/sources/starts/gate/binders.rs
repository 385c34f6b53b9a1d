//! Threads that bind probes to processes that wait at the gate: each link may take the kernel some 10 ms, in which
//! the gate's thread must answer others.
//!
//! They share the descriptor table of the rest of gmpscope. A link is sent to the owner of the gate; the gate's thread
//! only learns that it exists.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
    time::Instant,
};

use super::{
    borrowed::is_read_by_others,
    keeper::PRIORITY,
    message::{Mailbox, Message},
    pending_links::Job,
};
use crate::{
    bpf::linker::Linker,
    clock::now_ns,
    error::{Error, Result},
    sources::starts::links::{DescriptorBudget, Linked, ProcessProbes},
};

/// Links that are made at once: the kernel lets them wait together.
const THREADS: usize = 4;

/// What attaches to the processes of each binary, by slot. Weak: a linker keeps the binary's file open.
type Linkers = Arc<Mutex<HashMap<u32, Weak<Linker>>>>;

/// The threads.
pub struct Binders {
    jobs: Option<Sender<Job>>,
    linkers: Linkers,
    threads: Vec<JoinHandle<()>>,
}

impl Binders {
    /// Starts the threads. The second value receives their links.
    ///
    /// # Errors
    /// No thread can be created.
    pub fn start(mailbox: &Mailbox) -> Result<(Self, Receiver<Linked>)> {
        let (jobs, received) = mpsc::channel();
        let (links, linked) = mpsc::channel();
        let mut binders = Self {
            jobs: Some(jobs),
            linkers: Linkers::default(),
            threads: Vec::new(),
        };
        let received = Arc::new(Mutex::new(received));
        let budget = DescriptorBudget::new();
        for _ in 0..THREADS {
            let binder = Binder {
                jobs: Arc::clone(&received),
                linkers: Arc::clone(&binders.linkers),
                budget: budget.clone(),
                links: links.clone(),
                mailbox: mailbox.clone(),
            };
            let thread = std::thread::Builder::new()
                .name("link".to_owned())
                .spawn(move || binder.run());
            match thread {
                Ok(thread) => binders.threads.push(thread),
                Err(e) if binders.threads.is_empty() => {
                    return Err(Error::failed(format!("no thread could be made to link in: {e}")));
                }
                Err(e) => log::info!("fewer threads than {THREADS} make links: {e}"),
            }
        }
        Ok((binders, linked))
    }

    /// Sends jobs to the threads.
    pub fn jobs(&self) -> Option<Sender<Job>> {
        self.jobs.clone()
    }

    /// Registers what attaches to processes of the binary in this slot.
    pub fn register(&self, slot: u32, linker: &Arc<Linker>) {
        let mut linkers = self.linkers.lock().unwrap_or_else(PoisonError::into_inner);
        linkers.insert(slot, Arc::downgrade(linker));
    }
}

impl Drop for Binders {
    /// Waits for the threads, which end once the gate's thread, which sends jobs, has ended.
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The state of one thread.
struct Binder {
    jobs: Arc<Mutex<Receiver<Job>>>,
    linkers: Linkers,
    budget: DescriptorBudget,
    links: Sender<Linked>,
    mailbox: Mailbox,
}

impl Binder {
    fn run(self) {
        // Of this thread alone: an execve waits for it. Without the privilege it has the usual priority.
        let _ = rustix::process::setpriority_process(None, PRIORITY);
        loop {
            let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            let result = self.link(job).map_err(|e| e.to_string());
            self.mailbox.send(Message::JobDone { id: job.id, result });
        }
    }

    /// Links a process, and sends the link to the owner of the gate before the gate's thread learns of it.
    fn link(&self, job: Job) -> Result<()> {
        let in_time = || match Instant::now() < job.until {
            true => Ok(()),
            false => Err(Error::failed("it was not waited for")),
        };
        // A job that is late already would only make the next ones late.
        in_time()?;
        let linkers = self.linkers.lock().unwrap_or_else(PoisonError::into_inner);
        let linker = linkers.get(&job.slot).and_then(Weak::upgrade);
        drop(linkers);
        let linker = linker.ok_or_else(|| Error::failed("its binary is not probed any more"))?;
        if is_read_by_others(job.task.tid, linker.file_id()) {
            return Err(Error::failed(
                "the process that started it reads the program in memory that both share until the program runs, and \
                 would have seen the probes",
            ));
        }
        let ticket = self
            .budget
            .take(linker.descriptors(job.task), job.until)
            .ok_or_else(|| Error::failed("too many starts are traced at once: descriptors run short"))?;
        in_time()?;
        let bound = ProcessProbes {
            probes: linker.link(job.task)?,
            ticket: Some(ticket),
        };
        let linked = Linked {
            job: job.id,
            pid: job.pid,
            slot: job.slot,
            file: linker.file_id(),
            since_ns: now_ns(),
            bound,
        };
        // If the gate is open, the unsent link is dropped, and the probes with it.
        self.links
            .send(linked)
            .map_err(|_| Error::failed("the gate is open"))
    }
}
