//! The gate before each `execve`: a program that a followed process is about to execute waits until its probes are
//! there.
//!
//! A thread of its own answers the kernel, whatever else we are at: opens by other processes at once, those that are
//! known too, and every other after [`PATIENCE`] at the latest. No open is ever denied.

mod group;
mod known;
mod mounts;

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use aya::maps::{HashMap as BpfMap, MapData};
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracer_ebpf::start::binary;

use self::{
    group::{Group, Opening},
    known::{Decision, Known},
};
use crate::{
    error::{Error, Result},
    target::file::FileId,
};

/// No program waits for its probes longer than this.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long a pause may take to be confirmed.
const PAUSED: Duration = Duration::from_secs(1);
/// The nice value of the thread.
const PRIORITY: i32 = -19;
/// No more programs are held at once than this: each takes a descriptor.
const MOST_HELD: usize = 256;

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Openings by processes of the tree.
    pub followed: u64,
    /// Of them, those that were let go before their program was known.
    pub unready: u64,
    /// Openings by others.
    pub others: u64,
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

/// The gate. Dropped, it is open for everybody.
pub struct Gate {
    thread: Option<JoinHandle<()>>,
    words: Sender<Word>,
    wake: Arc<OwnedFd>,
    holds: Receiver<Hold>,
    descriptor: RawFd,
    /// File systems that are watched.
    pub watches: usize,
    /// Those that are not, and why.
    pub left: Vec<String>,
}

impl Gate {
    /// Closes the gate: from here on programs wait. `held` is the kernel side's table of processes that are followed.
    /// The questions come from the second value.
    ///
    /// # Errors
    /// The privilege or the kernel's feature is missing.
    pub fn close(held: OwnedFd) -> Result<(Self, UnboundedReceiver<Question>)> {
        let failed = |what: &str, e: &dyn std::fmt::Display| Error::failed(format!("--follow: {what}: {e}"));
        let held = MapData::from_fd(held)
            .and_then(|data| BpfMap::try_from(aya::maps::Map::HashMap(data)))
            .map_err(|e| failed("the BPF map `HELD` cannot be opened", &e))?;
        let mounts = File::open(mounts::MOUNTS).map_err(|e| failed(mounts::MOUNTS, &e))?;
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| failed("eventfd", &e))?;
        let wake = Arc::new(wake);
        let mut group = Group::new()?;
        let (words, heard) = mpsc::channel();
        let (questions, asked) = unbounded_channel();
        let (held_ones, holds) = mpsc::channel();
        let descriptor = group.as_fd().as_raw_fd();
        let left = group.watch_mounted()?;
        let watches = group.watches();
        let keeper = Keeper {
            group,
            mounts,
            held,
            heard,
            wake: Arc::clone(&wake),
            questions,
            holds: held_ones,
            known: Known::new(PATIENCE),
            waiting: HashMap::new(),
            passed: Passed::default(),
        };
        let thread = std::thread::Builder::new()
            .name("gate".to_owned())
            .spawn(move || keeper.keep())
            .map_err(|e| failed("no thread could be made", &e))?;
        let gate = Self {
            thread: Some(thread),
            words,
            wake,
            holds,
            descriptor,
            watches,
            left,
        };
        Ok((gate, asked))
    }

    /// The group's descriptor: a process that is forked from ours must close it before it executes anything, or it
    /// would wait for itself if we died.
    pub fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    /// The answer to a question: the number of the binary, or one of [`binary`].
    pub fn answer(&self, id: u64, binary: u32) {
        self.say(Word::Answer { id, binary });
    }

    /// The probes of this file are gone: it is to be asked about again.
    pub fn forget(&self, file: FileId) {
        self.say(Word::Forget(file));
    }

    /// Lets everything pass: before we are stopped, when nobody would answer.
    pub fn pause(&self) {
        let (done, wait) = mpsc::channel();
        self.say(Word::Pause(done));
        // If it has ended, it holds nothing either.
        let _ = wait.recv_timeout(PAUSED);
    }

    /// Processes that were held since this was last asked.
    pub fn holds(&self) -> impl Iterator<Item = Hold> {
        self.holds.try_iter()
    }

    /// Watches again.
    pub fn resume(&self) {
        self.say(Word::Resume);
    }

    /// What has passed so far; `None` if the thread has ended.
    pub fn passed(&self) -> Option<Passed> {
        let (send, receive) = mpsc::channel();
        self.say(Word::Count(send));
        receive.recv_timeout(PAUSED).ok()
    }

    fn say(&self, word: Word) {
        // It ends only when it is told to, or cannot go on: then nothing waits.
        let _ = self.words.send(word);
        wake(&self.wake);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.say(Word::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn wake(eventfd: &OwnedFd) {
    // Fails only where it is awake already.
    let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
}

/// The thread's own: all of it goes with the thread, and what is held with it.
struct Keeper {
    group: Group,
    mounts: File,
    held: BpfMap<MapData, u32, u32>,
    heard: Receiver<Word>,
    wake: Arc<OwnedFd>,
    questions: UnboundedSender<Question>,
    holds: Sender<Hold>,
    known: Known,
    /// Openings by the question that they wait for, and whether their process is followed.
    waiting: HashMap<u64, Vec<(Opening, bool)>>,
    passed: Passed,
}

impl Keeper {
    fn keep(mut self) {
        // Of this thread alone: every execve of the host waits for it. Without the privilege it does without.
        if let Err(e) = rustix::process::setpriority_process(None, PRIORITY) {
            log::info!("the gate has no priority: {e}");
        }
        loop {
            match self.wait() {
                Ok(true) => match self.group.watch_mounted() {
                    Ok(left) => log::debug!("mounts have changed; not watched: {left:?}"),
                    Err(e) => log::warn!("{e}"),
                },
                Ok(false) => {}
                Err(e) => {
                    log::warn!("no more starts are held: poll: {e}");
                    return;
                }
            }
            for id in self.known.overdue(Instant::now()) {
                self.let_go(id, binary::UNREADY);
            }
            match self.group.openings() {
                Ok(openings) => openings.into_iter().for_each(|opening| self.opened(opening)),
                Err(e) => log::warn!("an execve could not be looked at: {e}"),
            }
            while let Ok(word) = self.heard.try_recv() {
                match word {
                    Word::Answer { id, binary } => {
                        self.known.answered(id, binary);
                        self.let_go(id, binary);
                    }
                    Word::Forget(file) => self.known.forget(file),
                    Word::Pause(done) => {
                        self.group.unwatch();
                        let ids: Vec<u64> = self.waiting.keys().copied().collect();
                        ids.into_iter().for_each(|id| self.let_go(id, binary::UNREADY));
                        // What came before the marks were gone.
                        drop(self.group.openings());
                        let _ = done.send(());
                    }
                    Word::Resume => {
                        if let Err(e) = self.group.watch_mounted() {
                            log::warn!("{e}");
                        }
                    }
                    Word::Count(to) => {
                        let _ = to.send(self.passed);
                    }
                    Word::End => return,
                }
            }
        }
    }

    /// Waits until there is something to do; whether the list of mounts has changed.
    fn wait(&self) -> io::Result<bool> {
        let deadline = self.known.next_deadline(Instant::now());
        let timeout = deadline.and_then(|left| rustix::event::Timespec::try_from(left).ok());
        let mut fds = [
            PollFd::new(&self.group, PollFlags::IN),
            PollFd::new(&*self.wake, PollFlags::IN),
            PollFd::new(&self.mounts, PollFlags::PRI),
        ];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.wake, &mut count);
        let changed = fds.get(2).is_some_and(|mounts| !mounts.revents().is_empty());
        Ok(changed)
    }

    /// A process is about to execute a file. The opening that is not kept goes on.
    fn opened(&mut self, opening: Opening) {
        let followed = self.held.get(&opening.pid(), 0).is_ok();
        match followed {
            true => self.passed.followed += 1,
            false => self.passed.others += 1,
        }
        let Some((file, version)) = opening.file() else {
            return self.note(&opening, binary::UNREADY, followed);
        };
        match self.known.decide(file, version, followed, Instant::now()) {
            Decision::Allow(binary) => self.note(&opening, binary, followed),
            Decision::Wait(id) if self.holds() < MOST_HELD => {
                self.waiting.entry(id).or_default().push((opening, followed));
            }
            Decision::Wait(_) => self.note(&opening, binary::UNREADY, followed),
            Decision::Ask(id) => {
                let asked = opening.descriptor().map(|descriptor| Question {
                    id,
                    id_of_file: file,
                    file: descriptor.into(),
                    followed,
                });
                let sent = asked.is_some_and(|question| self.questions.send(question).is_ok());
                if sent && !self.known.is_late(id) && self.holds() < MOST_HELD {
                    self.waiting.entry(id).or_default().push((opening, followed));
                } else {
                    self.note(&opening, binary::UNREADY, followed);
                }
            }
        }
    }

    fn holds(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    fn let_go(&mut self, id: u64, binary: u32) {
        for (opening, followed) in self.waiting.remove(&id).unwrap_or_default() {
            self.note(&opening, binary, followed);
        }
    }

    /// Tells the kernel side what the process is about to run.
    fn note(&mut self, opening: &Opening, binary: u32, followed: bool) {
        if !followed {
            return;
        }
        self.passed.unready += u64::from(binary == binary::UNREADY);
        // One execve opens several files: first a script, then what interprets it; behind the program its loader.
        let before = self.held.get(&opening.pid(), 0).unwrap_or(binary::UNKNOWN);
        let says_more = match binary {
            binary::NOT_TRACED => before == binary::UNKNOWN,
            binary::UNREADY => !binary::is_traced(before),
            _ => true,
        };
        const THERE: u64 = 2; // BPF_EXIST: it may have been killed meanwhile.
        if says_more && self.held.insert(opening.pid(), binary, THERE).is_err() {
            log::debug!("process {} has ended in execve", opening.pid());
        }
        let until_ns = now_ns();
        // Nobody listens at the end.
        let _ = self.holds.send(Hold {
            pid: opening.pid(),
            until_ns,
            held_ns: until_ns.saturating_sub(opening.came_ns()),
        });
    }
}

/// CLOCK_MONOTONIC.
fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or(0)
}
