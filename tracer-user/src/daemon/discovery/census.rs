//! Which processes there are and how far each was looked into: a pure state machine. Word of starts, execs and ends
//! comes in any order, twice, late or not at all, and PIDs are used again; a scan of /proc sets right what is wrong.

use std::collections::{BTreeSet, HashMap};

/// A process in a scan of /proc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Its PID.
    pub pid: u32,
    /// When it was started, in clock ticks since boot.
    pub start_time: u64,
    /// How long ago that was, in nanoseconds.
    pub age_ns: u64,
    /// Device and inode of its program; `None` where it has none or it may not be seen.
    pub exe: Option<(u64, u64)>,
}

/// What came of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It has no program.
    Nothing,
    /// It is not Go.
    NotGo,
    /// A rule leaves it alone.
    Excluded,
    /// There are as many targets as are allowed.
    BeyondLimit,
    /// It is watched, or at least shown.
    Watched,
    /// It could not be looked at; a scan will try again.
    Failed,
    /// Its file system does not answer; each scan will try again.
    Silent,
}

/// A look that is to be made. The ticket tells it from every other look, also at the same PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// At which process.
    pub pid: u32,
    /// Which look.
    pub number: u64,
}

/// What is known of all processes.
#[derive(Debug)]
pub struct Census {
    processes: HashMap<u32, Known>,
    /// Looks that are due, by time.
    queue: BTreeSet<(u64, u32)>,
    /// Looks that are being made.
    looking: usize,
    /// As many at once.
    at_once: usize,
    settle_ns: u64,
    next: u64,
}

#[derive(Debug)]
struct Known {
    /// What happened before this is known already.
    fresh_ns: u64,
    start_time: Option<u64>,
    exe: Option<(u64, u64)>,
    state: State,
    /// Looks that failed.
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is left to settle until then.
    Settling(u64),
    /// It is looked at.
    Looking(u64),
    Done(Outcome),
}

/// Looks at one process that fail until it is given up.
const MAX_FAILURES: u32 = 5;

impl Census {
    /// Nothing is known. Processes are left alone for `settle_ns` from their start on, and as many as `at_once` are
    /// looked at together.
    pub fn new(settle_ns: u64, at_once: usize) -> Self {
        Self {
            processes: HashMap::new(),
            queue: BTreeSet::new(),
            looking: 0,
            at_once,
            settle_ns,
            next: 0,
        }
    }

    /// Changes how long processes are left alone, from the next one on.
    pub fn set_settle(&mut self, settle_ns: u64) {
        self.settle_ns = settle_ns;
    }

    /// A process has started another program at `at_ns`. True if it was watched: what is known of it is no longer true.
    pub fn exec(&mut self, pid: u32, at_ns: u64) -> bool {
        // Word of it came late: it was looked at since.
        if self.is_known_since(pid, at_ns) {
            return false;
        }
        let was_watched = self.forget(pid);
        self.begin(pid, at_ns, at_ns.saturating_add(self.settle_ns), None);
        was_watched
    }

    /// A process has ended at `at_ns`. True if it was watched.
    pub fn exit(&mut self, pid: u32, at_ns: u64) -> bool {
        // That was another one, which had the PID before.
        !self.is_known_since(pid, at_ns) && self.forget(pid)
    }

    fn is_known_since(&self, pid: u32, at_ns: u64) -> bool {
        let known = self.processes.get(&pid);
        known.is_some_and(|known| at_ns < known.fresh_ns)
    }

    /// True if it was watched.
    fn forget(&mut self, pid: u32) -> bool {
        let Some(known) = self.processes.remove(&pid) else {
            return false;
        };
        match known.state {
            State::Settling(due) => {
                self.queue.remove(&(due, pid));
                false
            }
            // The look goes on, and what comes of it will be of no interest.
            State::Looking(_) => false,
            State::Done(outcome) => outcome == Outcome::Watched,
        }
    }

    /// All processes that there were, at some moment between `began_ns` and `now_ns`. Returns those that were watched
    /// and are no more.
    pub fn scanned(&mut self, all: &[Scanned], began_ns: u64, now_ns: u64) -> Vec<u32> {
        let mut gone = Vec::new();
        let there: HashMap<u32, &Scanned> = all.iter().map(|scanned| (scanned.pid, scanned)).collect();
        let ended: Vec<u32> = self
            .processes
            .iter()
            // What we heard of while the scan was under way may have come behind it.
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
                // Before it was looked at, nobody has said what it runs.
                let is_done = matches!(known.state, State::Done(_));
                let is_execed = is_done && scanned.exe.is_some() && known.exe != scanned.exe;
                // What we heard since the scan began is newer than what it saw.
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
                    self.begin(scanned.pid, began_ns, now_ns.saturating_add(left), start_time);
                }
            }
        }
        gone
    }

    /// Looks again at what could not be looked at: some times, or for as long as nobody answers.
    fn retry(&mut self, pid: u32, now_ns: u64) {
        if let Some(known) = self.processes.get_mut(&pid)
            && (known.state == State::Done(Outcome::Silent)
                || known.state == State::Done(Outcome::Failed) && known.failures < MAX_FAILURES)
        {
            known.state = State::Settling(now_ns);
            self.queue.insert((now_ns, pid));
        }
    }

    /// Looks again at every process of which `which` says so: rules may have changed.
    pub fn look_again(&mut self, now_ns: u64, which: impl Fn(Outcome) -> bool) {
        for (pid, known) in &mut self.processes {
            if matches!(known.state, State::Done(outcome) if which(outcome)) {
                known.state = State::Settling(now_ns);
                self.queue.insert((now_ns, *pid));
            }
        }
    }

    /// The looks that are to be made now. Each must be answered by [`Self::looked`].
    pub fn due(&mut self, now_ns: u64) -> Vec<Ticket> {
        let mut due = Vec::new();
        while self.looking < self.at_once
            && let Some((at, pid)) = self.queue.first().copied()
            && at <= now_ns
        {
            self.queue.pop_first();
            let Some(known) = self.processes.get_mut(&pid) else {
                continue;
            };
            let number = self.next;
            self.next += 1;
            known.state = State::Looking(number);
            known.fresh_ns = known.fresh_ns.max(now_ns);
            self.looking += 1;
            due.push(Ticket { pid, number });
        }
        due
    }

    /// When the next look is due; `None` where none is, or as many are being made as may be.
    pub fn next_due(&self) -> Option<u64> {
        let (at, _) = self.queue.first()?;
        (self.looking < self.at_once).then_some(*at)
    }

    /// A look was made, and this is what the process ran. False if the process has ended or started another program meanwhile: then nothing of what
    /// was seen counts.
    pub fn looked(&mut self, ticket: Ticket, outcome: Outcome, exe: Option<(u64, u64)>) -> bool {
        self.looking = self.looking.saturating_sub(1);
        match self.processes.get_mut(&ticket.pid) {
            Some(known) if known.state == State::Looking(ticket.number) => {
                known.failures += u32::from(outcome == Outcome::Failed);
                known.state = State::Done(outcome);
                known.exe = exe;
                true
            }
            _ => false,
        }
    }

    /// What is known of a process has changed without a look: a rule says something else.
    pub fn settle(&mut self, pid: u32, outcome: Outcome) {
        if let Some(known) = self.processes.get_mut(&pid)
            && matches!(known.state, State::Done(_))
        {
            known.state = State::Done(outcome);
        }
    }

    /// How many processes were found to be of a kind.
    pub fn count(&self, outcome: Outcome) -> u64 {
        let states = self.processes.values().map(|known| known.state);
        states.filter(|state| *state == State::Done(outcome)).count() as u64
    }

    /// How many processes wait for their first look, or are being looked at.
    pub fn pending(&self) -> usize {
        self.queue.len() + self.looking
    }

    /// Whether a process is known, whatever it is.
    pub fn knows(&self, pid: u32) -> bool {
        self.processes.contains_key(&pid)
    }

    fn begin(&mut self, pid: u32, fresh_ns: u64, due_ns: u64, start_time: Option<u64>) {
        let known = Known {
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
