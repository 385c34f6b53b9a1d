//! The thread that answers the kernel.
//!
//! It reads no more than it has a descriptor for, waits for nobody but the kernel, and writes to no log: whoever reads
//! that might have stopped. What it has to say goes to the thread that owns the [`Gate`](super::Gate).
//!
//! It has a table of descriptors of its own: nothing that owns a descriptor may come to it from another thread or leave
//! it, nor anything that writes to one behind the scenes, such as what wakes a task of tokio's.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
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

use super::{
    Asker, Hold, Missed, PATIENCE, Passed, Watch, Word,
    binding::{Binding, Job},
    descriptors::{self, Reserve},
    group::{Group, Opening, Version, Watched},
    known::{Decision, Known},
    mounts,
    questions::Asked,
    watchdog::{self, Watchdog},
    who::Who,
};
use crate::{
    clock::now_ns,
    error::{Error, Result},
    process::file::FileId,
};

/// The nice value of the thread, and of those that make links for it.
pub const PRIORITY: i32 = -19;
/// Why a start went on without its probes.
const LATE: &str = "it went on after 2 s, before its probes were there";
/// Events that are taken before anything else is looked at.
const AT_ONCE: usize = 64;
/// How long nothing is held after there was no room for it.
const SHORT: Duration = Duration::from_secs(1);
/// A watchdog that was killed is replaced so often, one soon after the other.
const MOST_REPLACED: u32 = 3;
/// One that lived so long counts for nothing when it is killed.
const LIVED: Duration = Duration::from_secs(60);

/// What the thread is given. Descriptors are numbers: they become its own when it has a table of its own.
pub struct Parts {
    /// The kernel side's table of processes that are followed.
    pub held: RawFd,
    /// Readable when there is a word.
    pub wake: RawFd,
    /// Written to behind each question.
    pub arrivals: RawFd,
    /// For whom programs are held, and which.
    pub asker: Asker,
    pub heard: Receiver<Word>,
    pub questions: Sender<Asked>,
    pub holds: Sender<Hold>,
    /// Where processes are linked.
    pub jobs: Sender<Job>,
    /// Where the numbers of jobs go that were done too late.
    pub late: Sender<u64>,
    pub missed: Arc<Missed>,
    pub complaints: Sender<String>,
}

/// Whether programs are held, and if not, until when.
enum State {
    Closed(Closed),
    /// We are about to be stopped.
    Paused,
    /// There is no room for another open file.
    Short {
        until: Instant,
    },
    /// For good.
    Open,
}

/// What holds them. The watchdog goes first: it has the group, too, which lets go whoever waits when the last of it goes.
struct Closed {
    watchdog: Watchdog,
    group: Group,
}

/// What woke the thread.
#[derive(Default)]
struct Woken {
    mounts_changed: bool,
    watchdog_ended: bool,
}

/// The thread's own: all of it goes with the thread, and what is held with it.
pub struct Keeper {
    state: State,
    asker: Asker,
    mounts: File,
    held: BpfMap<MapData, u32, u32>,
    wake: OwnedFd,
    arrivals: OwnedFd,
    reserve: Reserve,
    heard: Receiver<Word>,
    questions: Sender<Asked>,
    holds: Sender<Hold>,
    complaints: Sender<String>,
    known: Known,
    /// Openings by the question that they wait for, with whoever makes them, and whether that is followed.
    waiting: HashMap<u64, Vec<(Opening, Who, bool)>>,
    /// Those that wait until their process is linked.
    binding: Binding,
    late: Sender<u64>,
    /// Single files that are watched.
    files: HashMap<FileId, Watch>,
    missed: Arc<Missed>,
    /// Files by the question about them.
    asked: HashMap<u64, OwnedFd>,
    passed: Passed,
    /// Watchdogs that were killed one soon after the other, and when the last one was made.
    replaced: u32,
    watchdog_since: Instant,
}

impl Keeper {
    /// Closes the gate, from the thread that is to keep it.
    ///
    /// # Errors
    /// Privilege or a feature of the kernel is missing, or descriptors are.
    pub fn close(parts: Parts) -> Result<(Self, Watched)> {
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
            heard: parts.heard,
            questions: parts.questions,
            holds: parts.holds,
            complaints: parts.complaints,
            known: Known::new(PATIENCE),
            waiting: HashMap::new(),
            binding: Binding::new(parts.jobs),
            late: parts.late,
            files: HashMap::new(),
            missed: parts.missed,
            asked: HashMap::new(),
            passed: Passed::default(),
            replaced: 0,
            watchdog_since: Instant::now(),
        };
        // Of this thread alone, and of the watchdog: every execve of the host waits for it. Without the privilege it
        // does without.
        if let Err(e) = rustix::process::setpriority_process(None, PRIORITY) {
            keeper.complain(format!("the gate has no priority: {e}"));
        }
        let watched = keeper.hold()?;
        Ok((keeper, watched))
    }

    /// Holds programs from here on.
    fn hold(&mut self) -> Result<Watched> {
        let group = Group::new(self.asker)?;
        // First: nothing is held without one.
        let watchdog = Watchdog::start(group.as_fd(), self.wake.as_fd()).map_err(|e| {
            Error::failed(format!(
                "{}: no process could be made that lets programs go if gmpscope is stopped, and without it they \
                 would wait for ever: {e}",
                self.asker
            ))
        })?;
        let watched = match self.asker.watches_all() {
            true => group.watch_mounted()?,
            false => Watched::default(),
        };
        for file in self.files.values() {
            group.watch_file(&file.path)?;
        }
        self.watchdog_since = Instant::now();
        self.state = State::Closed(Closed { watchdog, group });
        Ok(watched)
    }

    /// Lets all that is held go, and holds nothing from here on. `why` is kept for those that count what they miss.
    fn open(&mut self, state: State, why: &str) {
        let before = std::mem::replace(&mut self.state, state);
        if matches!(before, State::Closed(_)) {
            self.files.values().for_each(|file| file.missed.gap(why));
        }
        let ids: Vec<u64> = self.waiting.keys().copied().collect();
        ids.into_iter().for_each(|id| self.let_go(id, binary::UNREADY));
        for waiting in self.binding.all() {
            self.miss(waiting.opening, waiting.who, "programs were not held for a while");
        }
        // Nobody comes to wait while the watchdog ends, which may take a moment.
        if let State::Closed(Closed { group, .. }) = &before {
            group.watch_nothing();
        }
        // What has come and was not taken goes on when the group is gone.
        drop(before);
    }

    /// Holds programs again.
    fn hold_again(&mut self) {
        if let Err(e) = self.hold() {
            self.run_short(&e.message);
        }
    }

    /// Holds nothing for a while.
    fn run_short(&mut self, why: &str) {
        self.passed.shortages += 1;
        if self.passed.why_short.as_deref() != Some(why) {
            self.complain(format!("programs are not held for the time being: {why}"));
            self.passed.why_short = Some(why.to_owned());
        }
        let until = Instant::now() + SHORT;
        self.open(State::Short { until }, why);
    }

    /// Holds nothing any more.
    fn end(&mut self, why: String) {
        self.complain(why.clone());
        self.open(State::Open, &why);
        self.passed.over = Some(why);
    }

    fn complain(&self, what: String) {
        // Nobody listens at the end.
        let _ = self.complaints.send(what);
    }

    /// The thread.
    pub fn keep(mut self) {
        loop {
            let woken = match self.wait() {
                Ok(woken) => woken,
                Err(e) => return self.complain(format!("no more starts are held: poll: {e}")),
            };
            self.look_after_watchdog(&woken);
            if woken.mounts_changed && self.asker.watches_all() {
                self.watch();
            }
            let now = Instant::now();
            for id in self.known.overdue(now) {
                self.let_go(id, binary::UNREADY);
            }
            for waiting in self.binding.overdue(now) {
                self.miss(waiting.opening, waiting.who, LATE);
            }
            self.take();
            while let Ok(word) = self.heard.try_recv() {
                match word {
                    Word::Answer { id, binary } => {
                        self.known.answered(id, binary);
                        self.asked.remove(&id);
                        self.let_go(id, binary);
                    }
                    Word::Made { id, made } => self.made(id, made),
                    Word::Watch(file, done) => {
                        let _ = done.send(self.watch_file(*file));
                    }
                    Word::Unwatch(file, done) => {
                        self.unwatch_file(file);
                        let _ = done.send(());
                    }
                    Word::Forget(file) => self.known.forget(file),
                    Word::Pause(done) => {
                        if !matches!(self.state, State::Open) {
                            self.open(State::Paused, "gmpscope was stopped by its terminal");
                        }
                        let _ = done.send(());
                    }
                    Word::Resume if matches!(self.state, State::Paused) => self.hold_again(),
                    Word::Resume => {}
                    Word::Count(to) => {
                        let _ = to.send(self.passed.clone());
                    }
                    Word::End => return self.open(State::Open, "gmpscope has ended"),
                }
            }
            if matches!(self.state, State::Short { until } if until <= Instant::now()) {
                self.hold_again();
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&self) -> io::Result<Woken> {
        let now = Instant::now();
        let deadlines = [self.known.next_deadline(now), self.binding.next_deadline(now)];
        let mut timeout = deadlines.into_iter().flatten().min();
        let owes = !self.waiting.is_empty() || self.binding.len() > 0;
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

    /// Whether the watchdog has let everything go since we did not move, or is gone itself. Both have the group, whose
    /// events nobody can tell apart any more: another one takes its place.
    fn look_after_watchdog(&mut self, woken: &Woken) {
        let State::Closed(Closed { watchdog, .. }) = &self.state else {
            return;
        };
        let why = if watchdog.has_opened() {
            self.passed.standstills += 1;
            self.passed.let_go += watchdog.let_go().max(1);
            let why = "gmpscope was stopped, or got no CPU: programs were not held meanwhile";
            self.complain(why.to_owned());
            why
        } else if woken.watchdog_ended {
            if self.watchdog_since.elapsed() > LIVED {
                self.replaced = 0;
            }
            self.replaced += 1;
            if self.replaced > MOST_REPLACED {
                return self
                    .end("programs are held no longer: the watchdog is killed again and again".to_owned());
            }
            "the watchdog was killed: programs were not held until there was another"
        } else {
            return;
        };
        self.open(State::Paused, why);
        self.hold_again();
    }

    /// Watches what has come to be mounted.
    fn watch(&self) {
        if let State::Closed(Closed { group, .. }) = &self.state
            && let Err(e) = group.watch_mounted()
        {
            self.complain(e.message);
        }
    }

    /// Takes what has come.
    fn take(&mut self) {
        for _ in 0..AT_ONCE {
            let State::Closed(Closed { watchdog, group }) = &self.state else {
                return;
            };
            if let Err(e) = self.reserve.fill() {
                return self.run_short(&format!("no file can be opened: {e}"));
            }
            watchdog.beat();
            watchdog.owe(true);
            self.reserve.spend();
            match group.next() {
                Ok(Some(opening)) => self.opened(opening),
                Ok(None) => return,
                Err(e) => return self.refused(e),
            }
        }
    }

    /// The kernel has refused to execute a program, since it could not open it for us.
    fn refused(&mut self, errno: Errno) {
        self.passed.refused += 1;
        let why =
            format!("the kernel could not open a program for gmpscope, and refused to execute it: {errno}");
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => self.run_short(&why),
            _ => self.end(format!("programs are held no longer: {why}")),
        }
    }

    /// Has each `execve` of a file wait.
    fn watch_file(&mut self, file: Watch) -> Result<()> {
        match &self.state {
            State::Closed(Closed { group, .. }) => group.watch_file(&file.path)?,
            // It is watched when programs are held again.
            State::Paused | State::Short { .. } => {}
            State::Open => {
                return Err(Error::failed(format!(
                    "{}: {}",
                    self.asker,
                    self.passed
                        .over
                        .as_deref()
                        .unwrap_or("programs are held no longer")
                )));
            }
        }
        self.files.insert(file.state.id, file);
        Ok(())
    }

    fn unwatch_file(&mut self, file: FileId) {
        if let Some(watched) = self.files.remove(&file)
            && let State::Closed(Closed { group, .. }) = &self.state
            && let Err(e) = group.unwatch_file(&watched.path)
        {
            self.complain(format!("a file is still watched: {e}"));
        }
    }

    /// A process is about to execute a file. The opening that is not kept goes on.
    fn opened(&mut self, opening: Opening) {
        let who = Who::of(opening.tid());
        let all = self.asker.watches_all();
        let followed = !all || self.held.get(&who.pid, 0).is_ok();
        match followed {
            true => self.passed.followed += 1,
            false => self.passed.others += 1,
        }
        let Some((file, version)) = opening.file() else {
            return self.note(opening, who, binary::UNREADY, followed);
        };
        if !all {
            return self.opened_watched(opening, who, file, version);
        }
        match self.known.decide(file, version, followed, Instant::now()) {
            Decision::Allow(binary) => self.go_on(opening, who, binary, followed),
            Decision::Wait(id) if self.has_room() => {
                self.waiting.entry(id).or_default().push((opening, who, followed));
            }
            Decision::Wait(_) => self.note(opening, who, binary::UNREADY, followed),
            Decision::Ask(id) => {
                // It stays open until there is an answer, even if nobody waits for that so long.
                let kept = opening.duplicate().filter(|_| self.has_room());
                let asked = kept.as_ref().map(|kept| Asked {
                    id,
                    id_of_file: file,
                    number: kept.as_raw_fd(),
                    followed,
                });
                let is_asked = asked.is_some_and(|asked| self.questions.send(asked).is_ok());
                // Fails only where it is readable already.
                let _ = rustix::io::write(&self.arrivals, &1u64.to_ne_bytes());
                if !is_asked {
                    self.known.withdraw(id);
                    return self.note(opening, who, binary::UNREADY, followed);
                }
                self.asked.extend(kept.map(|kept| (id, kept)));
                match self.known.is_late(id) {
                    true => self.note(opening, who, binary::UNREADY, followed),
                    false => self.waiting.entry(id).or_default().push((opening, who, followed)),
                }
            }
        }
    }

    /// The same, where single files are watched.
    fn opened_watched(&mut self, opening: Opening, who: Who, file: FileId, version: Version) {
        let slot = match self.files.get(&file) {
            Some(watched) if Version::of(&watched.state) == version => watched.slot,
            Some(_) => return self.miss(opening, who, "the file was changed since it was looked at"),
            // It was let go while this came.
            None => return,
        };
        self.go_on(opening, who, slot, true);
    }

    fn has_room(&self) -> bool {
        let held = self.waiting.values().map(Vec::len).sum::<usize>() + self.binding.len();
        held + self.asked.len() < descriptors::most_held()
    }

    fn let_go(&mut self, id: u64, binary: u32) {
        for (opening, who, followed) in self.waiting.remove(&id).unwrap_or_default() {
            self.go_on(opening, who, binary, followed);
        }
    }

    /// What the process executes is known: it goes on, one that is followed when it has its probes.
    fn go_on(&mut self, opening: Opening, who: Who, binary: u32, followed: bool) {
        if !followed || !binary::is_traced(binary) {
            return self.note(opening, who, binary, followed);
        }
        if !self.has_room() {
            return self.miss(opening, who, "too many starts wait at once");
        }
        let waited = Duration::from_nanos(now_ns().saturating_sub(opening.came_ns()));
        let until = Instant::now() + PATIENCE.saturating_sub(waited);
        if let Some(opening) = self.binding.begin(opening, who, binary, until) {
            self.miss(opening, who, "its process has no id where gmpscope runs");
        }
    }

    /// Probes are there, or will not be.
    fn made(&mut self, id: u64, made: std::result::Result<(), String>) {
        match (self.binding.made(id), made) {
            (Some(waiting), Ok(())) => self.note(waiting.opening, waiting.who, waiting.slot, true),
            (Some(waiting), Err(why)) => self.miss(waiting.opening, waiting.who, &why),
            // It went on without.
            (None, Ok(())) => {
                let _ = self.late.send(id);
            }
            (None, Err(_)) => {}
        }
    }

    /// A start goes on without its probes.
    fn miss(&mut self, opening: Opening, who: Who, why: &str) {
        let watched = opening.file().and_then(|(file, _)| self.files.get(&file));
        watched.map_or(&self.missed, |watched| &watched.missed).add(why);
        self.note(opening, who, binary::UNREADY, true);
    }

    /// Tells the kernel side what the process is about to run, and lets it go.
    fn note(&mut self, opening: Opening, who: Who, binary: u32, followed: bool) {
        if !followed {
            opening.let_go();
            return;
        }
        // One execve opens several files: first a script, then what interprets it; behind the program its loader.
        let pid = who.pid;
        let before = self.held.get(&pid, 0).unwrap_or(binary::UNKNOWN);
        let says_more = match binary {
            binary::NOT_TRACED => before == binary::UNKNOWN,
            binary::UNREADY => !binary::is_traced(before),
            _ => true,
        };
        const ANY: u64 = 0; // BPF_ANY
        const THERE: u64 = 2; // BPF_EXIST: it may have been killed meanwhile.
        let (says_more, flags) = match self.asker.watches_all() {
            true => (says_more, THERE),
            // From here on it is followed.
            false => (binary::is_traced(binary), ANY),
        };
        if says_more {
            let _ = self.held.insert(pid, binary, flags);
        }
        let (came_ns, until_ns) = (opening.came_ns(), now_ns());
        let waited = opening.let_go();
        self.passed.unready += u64::from(binary == binary::UNREADY || !waited);
        if waited {
            // Nobody listens at the end.
            let _ = self.holds.send(Hold {
                pid,
                until_ns,
                held_ns: until_ns.saturating_sub(came_ns),
            });
        }
    }
}
