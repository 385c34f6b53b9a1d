//! The gate before each `execve`: a program that a followed process is about to execute waits until its probes are
//! there, bound to that process. What is held is every program of the host, of which others than followed processes go
//! on at once, or single files.
//!
//! A thread of its own answers the kernel ([`keeper`]), whatever else we are at: opens by other processes at once, those
//! of programs that are known when the process is linked, by threads beside ([`binders`]), and every other after
//! [`PATIENCE`] at the latest. No open is ever denied: [`descriptors`] says how
//! the kernel is kept from doing so by itself. Where the thread cannot answer, a process beside it does ([`watchdog`]).

mod asker;
mod binders;
mod binding;
mod borrowed;
mod descriptors;
mod group;
mod keeper;
mod known;
mod mounts;
mod questions;
mod watchdog;
mod who;

use std::{
    collections::HashMap,
    fs::File,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::event::EventfdFlags;

pub use self::{
    asker::{Asker, Missed},
    descriptors::enough as enough_descriptors,
    group::trial,
    questions::Questions,
};
use self::{
    binders::Binders,
    group::Watched,
    keeper::{Keeper, Parts},
};
use super::links::Linked;
use crate::{
    bpf::linker::Linker,
    error::{Error, Result},
    escape::Untrusted,
    process::file::{FileId, FileState},
};

/// No program waits for its probes longer than this.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long a pause may take to be confirmed.
const PAUSED: Duration = Duration::from_secs(1);
/// The descriptors of the thread that opens it.
const OWN_DESCRIPTORS: &str = "/proc/thread-self";

/// A file that a process is about to execute, of which nothing is known.
#[derive(Debug)]
pub struct Question {
    /// To be named in the answer.
    pub id: u64,
    /// Which file.
    pub id_of_file: FileId,
    /// The file, open.
    pub file: File,
    /// Whether the process is followed. If not, the file had probes and was changed since: they must go.
    pub followed: bool,
}

/// What the gate has seen pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Openings by processes of the tree.
    pub followed: u64,
    /// Of them, those that were let go before their program was known.
    pub unready: u64,
    /// Openings by others.
    pub others: u64,
    /// How often gmpscope did not move, so that the watchdog opened the gate.
    pub standstills: u64,
    /// Openings, by whomever, that the watchdog let go.
    pub let_go: u64,
    /// How often there was no room for another open file.
    pub shortages: u64,
    /// Why, the last time.
    pub why_short: Option<String>,
    /// Programs that the kernel has refused to execute, since it could not open them for us.
    pub refused: u64,
    /// Why the gate has opened for good, if it has.
    pub over: Option<String>,
}

impl Passed {
    /// What a reader of the capture has to know of it.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let times = |n: u64| match n {
            1 => "once".to_owned(),
            n => format!("{n} times"),
        };
        if self.standstills > 0 {
            notes.push(format!(
                "gmpscope was stopped or got no CPU {}: {} that waited for it went on unasked, and later ones did not \
                 wait: starts may be missing",
                times(self.standstills),
                match self.let_go {
                    1 => "1 program".to_owned(),
                    n => format!("{n} programs"),
                }
            ));
        }
        if self.shortages > 0 {
            let why = self.why_short.as_deref().unwrap_or("no room");
            notes.push(format!(
                "programs were not held for a while, {}: {why}",
                times(self.shortages)
            ));
        }
        if self.refused > 0 {
            notes.push(format!(
                "the kernel refused to execute {} of whichever process, which it could not open for gmpscope",
                match self.refused {
                    1 => "1 program".to_owned(),
                    n => format!("{n} programs"),
                }
            ));
        }
        notes.extend(self.over.clone());
        notes
    }
}

/// A followed process was held.
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    /// It, in our PID namespace.
    pub pid: u32,
    /// Until when, CLOCK_MONOTONIC.
    pub until_ns: u64,
    /// How long.
    pub held_ns: u64,
}

/// A file whose `execve` waits, whoever makes it, until the process has its probes.
pub struct WatchedFile {
    /// The file.
    pub file: File,
    /// In which state it was analysed: in any other its probes would lie anywhere.
    pub state: FileState,
    /// The slot of the binary.
    pub slot: u32,
    /// What attaches to its processes.
    pub linker: Arc<Linker>,
    /// Where starts are counted that went on without.
    pub missed: Arc<Missed>,
}

/// The same as the thread has it, without descriptors.
struct Watch {
    /// Leads to the file, open in the table that the rest of gmpscope has.
    path: PathBuf,
    state: FileState,
    slot: u32,
    missed: Arc<Missed>,
}

/// What the thread is told. Nothing in it owns a descriptor.
enum Word {
    Answer {
        id: u64,
        binary: u32,
    },
    /// What came of a job.
    Made {
        id: u64,
        made: std::result::Result<(), String>,
    },
    Watch(Box<Watch>, Sender<Result<()>>),
    Unwatch(FileId, Sender<()>),
    Forget(FileId),
    Pause(Sender<()>),
    Resume,
    Count(Sender<Passed>),
    End,
}

/// Tells the thread something.
#[derive(Clone)]
struct Caller {
    words: Sender<Word>,
    wake: Arc<OwnedFd>,
}

impl Caller {
    fn say(&self, word: Word) {
        // It ends only when it is told to, or cannot go on: then nothing waits.
        let _ = self.words.send(word);
        // Fails only where it is awake already.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

/// The gate. Dropped, it is open for everybody.
pub struct Gate {
    thread: Option<JoinHandle<()>>,
    caller: Caller,
    holds: Receiver<Hold>,
    complaints: Receiver<String>,
    asker: Asker,
    binders: Option<Binders>,
    linked: Receiver<Linked>,
    late: Receiver<u64>,
    /// Files that are watched, open as long as they are.
    files: Mutex<HashMap<FileId, File>>,
    /// File systems that are watched.
    pub watches: usize,
    /// Those that are not, and why.
    pub left: Vec<Untrusted>,
}

impl Gate {
    /// Closes the gate: from here on programs wait, all of the host or those that are watched, as `asker` has it. `held`
    /// is the kernel side's table of processes that are followed; `missed` counts starts that went on without their
    /// probes. Where all wait, the questions come from the second value.
    ///
    /// The group that holds them is open in the thread's table of descriptors alone: what we fork and execute does not
    /// have it.
    ///
    /// # Errors
    /// The privilege or the kernel's feature is missing, or there are too few descriptors.
    pub fn close(held: OwnedFd, asker: Asker, missed: Arc<Missed>) -> Result<(Self, Option<Questions>)> {
        let failed = |what: &str, e: &dyn std::fmt::Display| Error::failed(format!("{asker}: {what}: {e}"));
        enough_descriptors(asker)?;
        let eventfd = || {
            rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|e| failed("eventfd", &e))
        };
        let (wake, arrivals) = (eventfd()?, eventfd()?);
        let (words, heard) = mpsc::channel();
        let (questions, asked) = mpsc::channel();
        let (held_ones, holds) = mpsc::channel();
        let (complain, complaints) = mpsc::channel();
        let (begun, begin) = mpsc::channel();
        let caller = Caller {
            words,
            wake: Arc::new(wake),
        };
        let (binders, linked) = Binders::start(&caller)?;
        let jobs = binders
            .jobs()
            .ok_or_else(|| failed("links", &"nobody makes them"))?;
        let (too_late, late) = mpsc::channel();
        let parts = Parts {
            held: held.as_raw_fd(),
            wake: caller.wake.as_raw_fd(),
            arrivals: arrivals.as_raw_fd(),
            asker,
            heard,
            questions,
            holds: held_ones,
            jobs,
            late: too_late,
            missed,
            complaints: complain,
        };
        let thread = std::thread::Builder::new()
            .name("gate".to_owned())
            .spawn(move || match begin_in_thread(parts) {
                Ok((keeper, watched, descriptors)) => {
                    let _ = begun.send(Ok((watched, descriptors)));
                    keeper.keep();
                }
                Err(e) => {
                    let _ = begun.send(Err(e));
                }
            })
            .map_err(|e| failed("no thread could be made", &e))?;
        let began: std::result::Result<Result<(Watched, PathBuf)>, _> = begin.recv();
        let (watched, descriptors) = began.map_err(|_| failed("the gate", &"its thread has ended"))??;
        // Until here the thread needed its number.
        drop(held);
        let gate = Self {
            thread: Some(thread),
            caller: caller.clone(),
            holds,
            complaints,
            asker,
            binders: Some(binders),
            linked,
            late,
            files: Mutex::default(),
            watches: watched.watches,
            left: watched.left,
        };
        let questions = asker
            .watches_all()
            .then(|| Questions::new(asked, arrivals, descriptors, caller))
            .transpose()
            .map_err(|e| failed("questions cannot be waited for", &e))?;
        Ok((gate, questions))
    }

    /// Has each `execve` of a file wait from here on.
    ///
    /// # Errors
    /// The kernel does not tell of it, or might not be able to open it for us.
    pub fn watch(&self, watched: WatchedFile) -> Result<()> {
        let asker = self.asker;
        let kind = rustix::fs::fstatfs(&watched.file)
            .map_err(|e| Error::failed(format!("{asker}: its file system cannot be examined: {e}")))?
            .f_type;
        if !mounts::opens_for_us(kind) {
            return Err(Error::not_permitted(format!(
                "{asker}: the program lies on a file system of which it is not sure that it opens every file for \
                 gmpscope (of type {kind:#x}; FUSE, NFS and the like), and what could not be opened nobody could \
                 execute; {}",
                asker.without()
            )));
        }
        if let Some(binders) = &self.binders {
            binders.know(watched.slot, &watched.linker);
        }
        let id = watched.state.id;
        // The thread has another table of descriptors; that of a process is its first thread's.
        let path = PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            watched.file.as_raw_fd()
        ));
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(id, watched.file);
        drop(files);
        let (done, wait) = mpsc::channel();
        let watch = Watch {
            path,
            state: watched.state,
            slot: watched.slot,
            missed: watched.missed,
        };
        self.caller.say(Word::Watch(Box::new(watch), done));
        let watched = wait.recv_timeout(PAUSED);
        let watched =
            watched.unwrap_or_else(|_| Err(Error::failed("the thread that holds programs does not answer")));
        // Also where it only was late: nobody takes this file off again.
        watched.inspect_err(|_| self.unwatch(id))
    }

    /// None of this file any more.
    pub fn unwatch(&self, file: FileId) {
        let (done, wait) = mpsc::channel();
        self.caller.say(Word::Unwatch(file, done));
        // It is needed until then; if the thread has ended, nothing is watched.
        let _ = wait.recv_timeout(PAUSED);
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.remove(&file);
    }

    /// Processes that were given probes since this was last asked, and the numbers of jobs whose process did not wait for
    /// them.
    pub fn linked(&self) -> (Vec<Linked>, Vec<u64>) {
        // In this order: a link comes before it is found to be late.
        let late = self.late.try_iter().collect();
        (self.linked.try_iter().collect(), late)
    }

    /// Opens the gate: what waits goes on. What was linked and not taken over yet.
    pub fn open(mut self) -> Vec<Linked> {
        self.finish();
        self.linked.try_iter().collect()
    }

    fn finish(&mut self) {
        self.caller.say(Word::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // Behind the thread, which sends them jobs.
        drop(self.binders.take());
    }

    /// The answer to a question: the number of the binary, and what attaches to its processes; or one of
    /// [`tracer_ebpf::start::binary`].
    pub fn answer(&self, id: u64, binary: u32, linker: Option<Arc<Linker>>) {
        if let (Some(binders), Some(linker)) = (&self.binders, linker) {
            binders.know(binary, &linker);
        }
        self.caller.say(Word::Answer { id, binary });
    }

    /// The probes of this file are gone: it is to be asked about again.
    pub fn forget(&self, file: FileId) {
        self.caller.say(Word::Forget(file));
    }

    /// Lets everything pass: before we are stopped, when nobody would answer.
    pub fn pause(&self) {
        let (done, wait) = mpsc::channel();
        self.caller.say(Word::Pause(done));
        // If it has ended, it holds nothing either.
        let _ = wait.recv_timeout(PAUSED);
    }

    /// Processes that were held since this was last asked. Logs what the thread had to say since.
    pub fn holds(&self) -> impl Iterator<Item = Hold> {
        self.complaints.try_iter().for_each(|what| log::warn!("{what}"));
        self.holds.try_iter()
    }

    /// Watches again.
    pub fn resume(&self) {
        self.caller.say(Word::Resume);
    }

    /// What has passed so far; `None` if the thread has ended.
    pub fn passed(&self) -> Option<Passed> {
        let (send, receive) = mpsc::channel();
        self.caller.say(Word::Count(send));
        receive.recv_timeout(PAUSED).ok()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What the thread does first.
fn begin_in_thread(parts: Parts) -> Result<(Keeper, Watched, PathBuf)> {
    let own = std::fs::read_link(OWN_DESCRIPTORS)
        .map_err(|e| Error::failed(format!("{OWN_DESCRIPTORS} cannot be read: {e}")))?;
    let (keeper, watched) = Keeper::close(parts)?;
    Ok((keeper, watched, Path::new("/proc").join(own).join("fd")))
}
