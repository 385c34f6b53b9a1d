//! The thread that answers the kernel.
//!
//! It reads no more events than it has descriptors for, waits for nothing but the kernel, and writes to no log, whose
//! reader might have stopped. Its complaints go to the thread that owns the [`Gate`](super::Gate).
//!
//! It has its own table of descriptors: nothing that owns a descriptor may be sent to or from another thread, nor
//! anything that writes to one behind the scenes, such as what wakes a task of tokio's.

mod holding;
mod openings;
mod state;

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::{OwnedFd, RawFd},
    sync::{
        Arc,
        mpsc::{Receiver, Sender},
    },
    time::{Duration, Instant},
};

use aya::maps::{HashMap as BpfMap, MapData};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};
use tracer_ebpf::start::binary;

use self::state::{Closed, State};
use super::{
    asker::{Asker, Missed},
    caller::ExecCaller,
    counts::{GateCounts, Hold},
    descriptors::{self, Reserve},
    group::{Opening, WatchedMounts},
    known::KnownFiles,
    message::{Message, Watch},
    mounts,
    pending_links::{Job, PendingLinks},
    questions::SentQuestion,
    watchdog,
};
use crate::{
    error::{Error, Result},
    process::file::FileId,
};

/// No program waits for its probes longer than this.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// The nice value of the thread, and of those that link processes for it.
pub const PRIORITY: i32 = -19;
/// Why a start continued without its probes.
const LATE: &str = "it went on after 2 s, before its probes were there";

/// What the thread is created with. Descriptors are passed as numbers: the thread owns them once it has its own table.
pub struct Parts {
    /// The kernel side's table of processes that are followed.
    pub held: RawFd,
    /// Readable when there is a message.
    pub wake: RawFd,
    /// Written to after each question.
    pub arrivals: RawFd,
    /// For whom programs are held, and which.
    pub asker: Asker,
    pub messages: Receiver<Message>,
    pub questions: Sender<SentQuestion>,
    pub holds: Sender<Hold>,
    /// Processes to be linked.
    pub jobs: Sender<Job>,
    /// Ids of jobs that were done too late.
    pub late: Sender<u64>,
    pub missed: Arc<Missed>,
    pub complaints: Sender<String>,
}

/// What woke the thread.
#[derive(Default)]
struct Woken {
    mounts_changed: bool,
    watchdog_ended: bool,
}

/// The state of the thread. Dropping it releases all programs that are held.
pub struct Keeper {
    state: State,
    asker: Asker,
    mounts: File,
    held: BpfMap<MapData, u32, u32>,
    wake: OwnedFd,
    arrivals: OwnedFd,
    reserve: Reserve,
    messages: Receiver<Message>,
    questions: Sender<SentQuestion>,
    holds: Sender<Hold>,
    complaints: Sender<String>,
    known: KnownFiles,
    /// Openings by the question that they wait for, with the process that makes each, and whether it is followed.
    waiting: HashMap<u64, Vec<(Opening, ExecCaller, bool)>>,
    /// Openings that wait until their process is linked.
    pending_links: PendingLinks,
    late: Sender<u64>,
    /// Single files that are watched, where not all programs are.
    files: HashMap<FileId, Watch>,
    missed: Arc<Missed>,
    /// Open files, by the question about each.
    asked: HashMap<u64, OwnedFd>,
    counts: GateCounts,
    /// How many watchdogs were killed in a row, and when the last one was started.
    replaced: u32,
    watchdog_since: Instant,
}

impl Keeper {
    /// Closes the gate. To be called on the thread that will run it.
    ///
    /// # Errors
    /// Privilege, a feature of the kernel, or descriptors are missing.
    pub fn close(parts: Parts) -> Result<(Self, WatchedMounts)> {
        let asker = parts.asker;
        let failed = |what: &str, e: &dyn std::fmt::Display| Error::failed(format!("{asker}: {what}: {e}"));
        descriptors::separate(&[parts.held, parts.wake, parts.arrivals])
            .map_err(|e| failed("a thread with descriptors of its own cannot be had", &e))?;
        let [held, wake, arrivals] = [parts.held, parts.wake, parts.arrivals]
            // SAFETY: open in this thread's table, which is its own from here on, and nothing in it owns them yet.
            .map(|number| unsafe { descriptors::owned(number) });
        let held = MapData::from_fd(held)
            .and_then(|data| BpfMap::try_from(aya::maps::Map::HashMap(data)))
            .map_err(|e| failed("the BPF map `HELD` cannot be opened", &e))?;
        let mut keeper = Self {
            state: State::Open,
            asker,
            mounts: File::open(mounts::MOUNTS).map_err(|e| failed(mounts::MOUNTS, &e))?,
            held,
            wake,
            arrivals,
            reserve: Reserve::default(),
            messages: parts.messages,
            questions: parts.questions,
            holds: parts.holds,
            complaints: parts.complaints,
            known: KnownFiles::new(PATIENCE),
            waiting: HashMap::new(),
            pending_links: PendingLinks::new(parts.jobs),
            late: parts.late,
            files: HashMap::new(),
            missed: parts.missed,
            asked: HashMap::new(),
            counts: GateCounts::default(),
            replaced: 0,
            watchdog_since: Instant::now(),
        };
        // Of this thread and the watchdog alone: every execve of the host waits for them. Without the privilege they
        // run at the usual priority.
        if let Err(e) = rustix::process::setpriority_process(None, PRIORITY) {
            keeper.complain(format!("the gate has no priority: {e}"));
        }
        let watched = keeper.hold()?;
        Ok((keeper, watched))
    }

    fn complain(&self, what: String) {
        // Fails at the end, when it is not received any more.
        let _ = self.complaints.send(what);
    }

    /// Runs the thread, until it is asked to end.
    pub fn run(mut self) {
        loop {
            let woken = match self.wait() {
                Ok(woken) => woken,
                Err(e) => return self.complain(format!("no more starts are held: poll: {e}")),
            };
            self.check_watchdog(&woken);
            if woken.mounts_changed && self.asker.watches_all() {
                self.watch_mounts();
            }
            let now = Instant::now();
            for id in self.known.overdue(now) {
                self.release_waiting(id, binary::UNREADY);
            }
            for waiting in self.pending_links.overdue(now) {
                self.release_missed(waiting.opening, waiting.caller, LATE);
            }
            self.take_events();
            while let Ok(message) = self.messages.try_recv() {
                match message {
                    Message::Answer { id, binary } => {
                        self.known.answered(id, binary);
                        self.asked.remove(&id);
                        self.release_waiting(id, binary);
                    }
                    Message::JobDone { id, result } => self.job_done(id, result),
                    Message::Watch(file, done) => {
                        let _ = done.send(self.watch_file(*file));
                    }
                    Message::Unwatch(file, done) => {
                        self.unwatch_file(file);
                        let _ = done.send(());
                    }
                    Message::Forget(file) => self.known.forget(file),
                    Message::Pause(done) => {
                        if !matches!(self.state, State::Open) {
                            self.open(State::Paused, "gmpscope was stopped by its terminal");
                        }
                        let _ = done.send(());
                    }
                    Message::Resume if matches!(self.state, State::Paused) => self.hold_again(),
                    Message::Resume => {}
                    Message::Count(to) => {
                        let _ = to.send(self.counts.clone());
                    }
                    Message::End => return self.open(State::Open, "gmpscope has ended"),
                }
            }
            if matches!(self.state, State::Short { until } if until <= Instant::now()) {
                self.hold_again();
            }
        }
    }

    /// Waits for an event, a message, or the next deadline.
    fn wait(&self) -> io::Result<Woken> {
        let now = Instant::now();
        let deadlines = [
            self.known.next_deadline(now),
            self.pending_links.next_deadline(now),
        ];
        let mut timeout = deadlines.into_iter().flatten().min();
        let owes = !self.waiting.is_empty() || self.pending_links.len() > 0;
        let mut sooner =
            |other: Duration| timeout = Some(timeout.map_or(other, |timeout| timeout.min(other)));
        let mut fds = vec![
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::new(&self.mounts, PollFlags::PRI),
        ];
        match &self.state {
            State::Closed(Closed { watchdog, group }) => {
                watchdog.beat();
                watchdog.owe(owes);
                if owes {
                    sooner(watchdog::BEAT);
                }
                fds.push(PollFd::new(watchdog, PollFlags::IN));
                fds.push(PollFd::new(group, PollFlags::IN));
            }
            State::Short { until } => sooner(until.saturating_duration_since(now)),
            State::Paused | State::Open => {}
        }
        let timeout = timeout.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Woken::default()),
            Err(e) => return Err(e.into()),
        }
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        let is_ready = |n: usize| fds.get(n).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Woken {
            mounts_changed: is_ready(1),
            watchdog_ended: is_ready(2),
        })
    }
}
