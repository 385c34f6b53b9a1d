//! The gate before each `execve`: a program that a followed process is about to execute waits until its probes are
//! there.
//!
//! A thread of its own answers the kernel ([`keeper`]), whatever else we are at: opens by other processes at once, those
//! that are known too, and every other after [`PATIENCE`] at the latest. No open is ever denied: [`descriptors`] says how
//! the kernel is kept from doing so by itself. Where the thread cannot answer, a process beside it does ([`watchdog`]).

mod descriptors;
mod group;
mod keeper;
mod known;
mod mounts;
mod questions;
mod watchdog;

use std::{
    fs::File,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::event::EventfdFlags;

pub use self::{descriptors::enough as enough_descriptors, group::Marks, questions::Questions};
use self::{
    group::Watched,
    keeper::{Keeper, Parts},
};
use crate::{
    error::{Error, Result},
    escape::Untrusted,
    target::file::FileId,
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

/// What the thread is told.
enum Word {
    Answer { id: u64, binary: u32 },
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
    /// File systems that are watched.
    pub watches: usize,
    /// Those that are not, and why.
    pub left: Vec<Untrusted>,
}

impl Gate {
    /// Closes the gate: from here on programs wait. `held` is the kernel side's table of processes that are followed.
    /// The questions come from the second value.
    ///
    /// The group that holds them is open in the thread's table of descriptors alone: what we fork and execute does not
    /// have it.
    ///
    /// # Errors
    /// The privilege or the kernel's feature is missing, or there are too few descriptors.
    pub fn close(held: OwnedFd, marks: Marks) -> Result<(Self, Questions)> {
        let failed = |what: &str, e: &dyn std::fmt::Display| Error::failed(format!("--follow: {what}: {e}"));
        enough_descriptors()?;
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
        let parts = Parts {
            held: held.as_raw_fd(),
            wake: caller.wake.as_raw_fd(),
            arrivals: arrivals.as_raw_fd(),
            marks,
            heard,
            questions,
            holds: held_ones,
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
            watches: watched.watches,
            left: watched.left,
        };
        let questions = Questions::new(asked, arrivals, descriptors, caller)
            .map_err(|e| failed("questions cannot be waited for", &e))?;
        Ok((gate, questions))
    }

    /// The answer to a question: the number of the binary, or one of [`tracer_ebpf::start::binary`].
    pub fn answer(&self, id: u64, binary: u32) {
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
        self.caller.say(Word::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread does first.
fn begin_in_thread(parts: Parts) -> Result<(Keeper, Watched, PathBuf)> {
    let own = std::fs::read_link(OWN_DESCRIPTORS)
        .map_err(|e| Error::failed(format!("{OWN_DESCRIPTORS} cannot be read: {e}")))?;
    let (keeper, watched) = Keeper::close(parts)?;
    Ok((keeper, watched, Path::new("/proc").join(own).join("fd")))
}

/// CLOCK_MONOTONIC.
fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or(0)
}
