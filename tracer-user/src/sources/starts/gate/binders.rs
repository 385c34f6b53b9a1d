//! Threads that bind probes to processes that wait at the gate: each link may take the kernel some 10 ms, in which
//! others must pass.
//!
//! They have the table of descriptors that the rest of gmpscope has. A link goes to whoever owns the gate, and only the
//! word that it is there to the gate's thread.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
    time::Instant,
};

use super::{Caller, Word, binding::Job, borrowed::is_read_by_others, keeper::PRIORITY};
use crate::{
    bpf::linker::Linker,
    clock::now_ns,
    error::{Error, Result},
    sources::starts::links::{Bound, Linked, Room},
};

/// Links that are made at once. They wait for the kernel together.
const THREADS: usize = 4;

/// What attaches to processes of a binary, by slot, as long as that is probed: it has the binary's file open.
type Linkers = Arc<Mutex<HashMap<u32, Weak<Linker>>>>;

/// The threads.
pub struct Binders {
    jobs: Option<Sender<Job>>,
    linkers: Linkers,
    threads: Vec<JoinHandle<()>>,
}

impl Binders {
    /// Starts the threads. What they have made comes out of the second value.
    ///
    /// # Errors
    /// There can be none.
    pub fn start(caller: &Caller) -> Result<(Self, Receiver<Linked>)> {
        let (jobs, come) = mpsc::channel();
        let (links, linked) = mpsc::channel();
        let mut binders = Self {
            jobs: Some(jobs),
            linkers: Linkers::default(),
            threads: Vec::new(),
        };
        let come = Arc::new(Mutex::new(come));
        let room = Room::new();
        for _ in 0..THREADS {
            let binder = Binder {
                come: Arc::clone(&come),
                linkers: Arc::clone(&binders.linkers),
                room: room.clone(),
                links: links.clone(),
                caller: caller.clone(),
            };
            let thread = std::thread::Builder::new()
                .name("link".to_owned())
                .spawn(move || binder.work());
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

    /// Where jobs go.
    pub fn jobs(&self) -> Option<Sender<Job>> {
        self.jobs.clone()
    }

    /// What attaches to processes of the binary in this slot.
    pub fn know(&self, slot: u32, linker: &Arc<Linker>) {
        let mut linkers = self.linkers.lock().unwrap_or_else(PoisonError::into_inner);
        linkers.insert(slot, Arc::downgrade(linker));
    }
}

impl Drop for Binders {
    /// They end when the gate's thread has ended, too, which sends jobs.
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One thread's.
struct Binder {
    come: Arc<Mutex<Receiver<Job>>>,
    linkers: Linkers,
    room: Room,
    links: Sender<Linked>,
    caller: Caller,
}

impl Binder {
    fn work(self) {
        // Of this thread alone: an execve waits for it. Without the privilege it does without.
        let _ = rustix::process::setpriority_process(None, PRIORITY);
        loop {
            let job = self.come.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            let made = self.link(job).map_err(|e| e.to_string());
            self.caller.say(Word::Made { id: job.id, made });
        }
    }

    /// Links a process, and hands the link over before anybody knows of it.
    fn link(&self, job: Job) -> Result<()> {
        let in_time = || match Instant::now() < job.until {
            true => Ok(()),
            false => Err(Error::failed("it was not waited for")),
        };
        // Whoever is late already would only make the next ones late.
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
            .room
            .take(linker.descriptors(job.task), job.until)
            .ok_or_else(|| Error::failed("too many starts are traced at once: descriptors run short"))?;
        in_time()?;
        let bound = Bound {
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
        // Without a gate they go with what is not sent.
        self.links
            .send(linked)
            .map_err(|_| Error::failed("the gate is open"))
    }
}
