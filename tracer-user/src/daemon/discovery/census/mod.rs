//! Which processes there are, and what is known of each: a pure state machine. Events about execs and exits arrive in
//! any order, twice, late or not at all, and PIDs are reused; a scan of /proc corrects what is wrong.

use std::collections::{BTreeSet, HashMap};

/// A process that a scan of /proc has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Its PID.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
    /// How long ago that was, in nanoseconds.
    pub age_ns: u64,
    /// Device and inode of its program; `None` if it has none, or it may not be read.
    pub exe: Option<(u64, u64)>,
}

/// The result of an inspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It has no program.
    Nothing,
    /// It is not Go.
    NotGo,
    /// A rule excludes it.
    Excluded,
    /// There are as many targets as are allowed.
    BeyondLimit,
    /// It is watched, or at least shown.
    Watched,
    /// It could not be inspected; the next scans try again.
    Failed,
    /// Its file system does not answer; each scan tries again.
    Silent,
}

/// An inspection that is to be made. Its number is unique, also among inspections of the same PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Which process is to be inspected.
    pub pid: u32,
    /// Which inspection this is.
    pub number: u64,
}

/// What is known of all processes.
#[derive(Debug)]
pub struct Census {
    processes: HashMap<u32, Entry>,
    /// (when, PID) of the inspections to come.
    queue: BTreeSet<(u64, u32)>,
    /// How many inspections are under way.
    inspecting: usize,
    /// How many may be under way at once.
    at_once: usize,
    settle_ns: u64,
    /// Number of the next ticket.
    next: u64,
}

#[derive(Debug)]
struct Entry {
    /// Events from before this time are out of date.
    fresh_ns: u64,
    start_time: Option<u64>,
    exe: Option<(u64, u64)>,
    state: State,
    /// Inspections that failed.
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is not inspected until then.
    Settling(u64),
    /// The inspection of this number is under way.
    Inspecting(u64),
    /// It was inspected.
    Done(Outcome),
}

/// How many inspections of one process may fail until it is given up.
const MAX_FAILURES: u32 = 5;

impl Census {
    /// Creates a census that knows no process. Processes are left alone for `settle_ns` after they start, and at most
    /// `at_once` are inspected at once.
    pub fn new(settle_ns: u64, at_once: usize) -> Self {
        Self {
            processes: HashMap::new(),
            queue: BTreeSet::new(),
            inspecting: 0,
            at_once,
            settle_ns,
            next: 0,
        }
    }

    /// Changes how long processes are left alone; holds for those that start from now on.
    pub fn set_settle(&mut self, settle_ns: u64) {
        self.settle_ns = settle_ns;
    }

    /// Applies an exec at `at_ns`. True if the process was watched: what is known of it no longer holds.
    pub fn exec(&mut self, pid: u32, at_ns: u64) -> bool {
        // The event came late: the process was inspected since.
        if self.is_known_since(pid, at_ns) {
            return false;
        }
        let was_watched = self.forget(pid);
        self.insert(pid, at_ns, at_ns.saturating_add(self.settle_ns), None);
        was_watched
    }

    /// Applies an exit at `at_ns`. True if the process was watched.
    pub fn exit(&mut self, pid: u32, at_ns: u64) -> bool {
        // A late event is about the process that had this PID before.
        !self.is_known_since(pid, at_ns) && self.forget(pid)
    }

    fn is_known_since(&self, pid: u32, at_ns: u64) -> bool {
        let known = self.processes.get(&pid);
        known.is_some_and(|known| at_ns < known.fresh_ns)
    }

    /// Removes a process. True if it was watched.
    fn forget(&mut self, pid: u32) -> bool {
        let Some(known) = self.processes.remove(&pid) else {
            return false;
        };
        match known.state {
            State::Settling(due) => {
                self.queue.remove(&(due, pid));
                false
            }
            // The inspection continues, and its result will be ignored.
            State::Inspecting(_) => false,
            State::Done(outcome) => outcome == Outcome::Watched,
        }
    }

    /// Applies a scan: all processes that there were at some time between `began_ns` and `now_ns`. Returns those that
    /// were watched and no longer exist.
    pub fn apply_scan(&mut self, all: &[Scanned], began_ns: u64, now_ns: u64) -> Vec<u32> {
        let mut gone = Vec::new();
        let there: HashMap<u32, &Scanned> = all.iter().map(|scanned| (scanned.pid, scanned)).collect();
        let ended: Vec<u32> = self
            .processes
            .iter()
            // A process that was reported during the scan may have started after the scan passed its PID.
            .filter(|(pid, known)| !there.contains_key(pid) && known.fresh_ns < began_ns)
            .map(|(pid, _)| *pid)
            .collect();
        for pid in ended {
            if self.forget(pid) {
                gone.push(pid);
            }
        }
        for scanned in all {
            let changed = self.processes.get_mut(&scanned.pid).map(|known| {
                let another = |then: Option<u64>, now: u64| then.is_some_and(|then| then != now);
                let is_another = another(known.start_time, scanned.start_time);
                // Before it was inspected, it is not known what it runs.
                let is_done = matches!(known.state, State::Done(_));
                let is_execed = is_done && scanned.exe.is_some() && known.exe != scanned.exe;
                // An event since the scan began is newer than what the scan saw.
                let is_older = known.fresh_ns >= began_ns;
                if !is_older && !is_another && !is_execed {
                    known.start_time = Some(scanned.start_time);
                }
                !is_older && (is_another || is_execed)
            });
            match changed {
                Some(false) => self.retry(scanned.pid, now_ns),
                Some(true) | None => {
                    if self.forget(scanned.pid) {
                        gone.push(scanned.pid);
                    }
                    let left = self.settle_ns.saturating_sub(scanned.age_ns);
                    let start_time = Some(scanned.start_time);
                    self.insert(scanned.pid, began_ns, now_ns.saturating_add(left), start_time);
                }
            }
        }
        gone
    }

    /// Repeats an inspection that failed: a few times, or, if the file system does not answer, until it does.
    fn retry(&mut self, pid: u32, now_ns: u64) {
        if let Some(known) = self.processes.get_mut(&pid)
            && (known.state == State::Done(Outcome::Silent)
                || known.state == State::Done(Outcome::Failed) && known.failures < MAX_FAILURES)
        {
            known.state = State::Settling(now_ns);
            self.queue.insert((now_ns, pid));
        }
    }

    /// Inspects again every process for whose outcome `which` is true, for instance because rules have changed.
    pub fn inspect_again(&mut self, now_ns: u64, which: impl Fn(Outcome) -> bool) {
        for (pid, known) in &mut self.processes {
            if matches!(known.state, State::Done(outcome) if which(outcome)) {
                known.state = State::Settling(now_ns);
                self.queue.insert((now_ns, *pid));
            }
        }
    }

    /// Returns the inspections that are to be made now. Each must be answered by [`Self::inspected`].
    pub fn due(&mut self, now_ns: u64) -> Vec<Ticket> {
        let mut due = Vec::new();
        while self.inspecting < self.at_once
            && let Some((at, pid)) = self.queue.first().copied()
            && at <= now_ns
        {
            self.queue.pop_first();
            let Some(known) = self.processes.get_mut(&pid) else {
                continue;
            };
            let number = self.next;
            self.next += 1;
            known.state = State::Inspecting(number);
            known.fresh_ns = known.fresh_ns.max(now_ns);
            self.inspecting += 1;
            due.push(Ticket { pid, number });
        }
        due
    }

    /// When the next inspection is due; `None` if none is, or too many are under way.
    pub fn next_due(&self) -> Option<u64> {
        let (at, _) = self.queue.first()?;
        (self.inspecting < self.at_once).then_some(*at)
    }

    /// Applies the result of an inspection; `exe` is what the process ran. False if the process has ended or started
    /// another program meanwhile: then the result is to be ignored.
    pub fn inspected(&mut self, ticket: Ticket, outcome: Outcome, exe: Option<(u64, u64)>) -> bool {
        self.inspecting = self.inspecting.saturating_sub(1);
        match self.processes.get_mut(&ticket.pid) {
            Some(known) if known.state == State::Inspecting(ticket.number) => {
                known.failures += u32::from(outcome == Outcome::Failed);
                known.state = State::Done(outcome);
                known.exe = exe;
                true
            }
            _ => false,
        }
    }

    /// Changes the outcome of a process without an inspection, for instance because rules have changed.
    pub fn set_outcome(&mut self, pid: u32, outcome: Outcome) {
        if let Some(known) = self.processes.get_mut(&pid)
            && matches!(known.state, State::Done(_))
        {
            known.state = State::Done(outcome);
        }
    }

    /// How many processes have this outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        let states = self.processes.values().map(|known| known.state);
        states.filter(|state| *state == State::Done(outcome)).count() as u64
    }

    /// How many processes wait to be inspected, or are being inspected.
    pub fn pending(&self) -> usize {
        self.queue.len() + self.inspecting
    }

    /// Whether there is a process of this PID of which it is not known what it is.
    pub fn is_unexamined(&self, pid: u32) -> bool {
        let known = self.processes.get(&pid);
        known.is_some_and(|known| match known.state {
            State::Settling(_) | State::Inspecting(_) => true,
            State::Done(outcome) => matches!(outcome, Outcome::Failed | Outcome::Silent),
        })
    }

    /// Whether there is a process of this PID, whatever it is.
    pub fn knows(&self, pid: u32) -> bool {
        self.processes.contains_key(&pid)
    }

    fn insert(&mut self, pid: u32, fresh_ns: u64, due_ns: u64, start_time: Option<u64>) {
        let known = Entry {
            fresh_ns,
            start_time,
            exe: None,
            state: State::Settling(due_ns),
            failures: 0,
        };
        self.processes.insert(pid, known);
        self.queue.insert((due_ns, pid));
    }
}

#[cfg(test)]
mod tests;
