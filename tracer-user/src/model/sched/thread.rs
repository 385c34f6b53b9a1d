//! Ms, by their threads, and Ps, by their addresses: who holds which P, and which goroutine runs where.

use super::change::Change;
use super::class::Class;
use super::explained::Who;
use super::goroutine::{ByAddress, ByThread};
use super::search::{Search, Searches};
use super::state::State;

/// An M: a thread that runs goroutines.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Address of its m; 0 while it is not known.
    pub m: u64,
    /// `m.id`, once a snapshot has given it.
    pub id: Option<u64>,
    /// Slot of the goroutine that it runs, or that is in a system call on it.
    pub running: Option<u32>,
    /// Address of its P, or 0.
    pub p: u64,
    /// Whether it sleeps for want of work.
    pub parked: bool,
    /// When an event of it was last seen, CLOCK_MONOTONIC.
    pub seen_ns: u64,
    /// Whether its start was seen.
    pub started: bool,
    /// Why the last M was wanted on this thread (`startm`): 1 to look for work, 0 for a P that was handed off.
    pub wanted: Option<u8>,
    /// What Linux's scheduler does with it.
    pub thread: Thread,
    /// The running stretch of its goroutine.
    pub stretch: Stretch,
    /// Its search for a goroutine, while it has a P and runs none.
    pub search: Option<Search>,
    /// Whether it is about to hand its P to the thread of a locked goroutine (`startlockedm`).
    pub hands_over: bool,
}

/// A stretch in which a goroutine runs on a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// [`Causes::held`](super::causes::Causes::held) when it began.
    pub held: u128,
    /// Nanoseconds of it in which the thread had no CPU.
    pub off_cpu_ns: u64,
}

/// What Linux's scheduler does with a thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thread {
    /// What it does.
    pub state: ThreadState,
    /// Since when.
    pub since_ns: u64,
    /// Whether it sleeps so that no signal can wake it.
    pub uninterruptible: bool,
    /// Whether it has hit a probe while `state` was not known: it had a CPU then, and nothing was seen of it that takes
    /// the CPU away.
    pub ran: bool,
}

impl Thread {
    /// Whether it has a CPU, as far as it is known.
    #[inline]
    pub fn is_on_cpu(&self) -> bool {
        self.state == ThreadState::OnCpu || self.ran
    }

    /// Whether it may be anywhere: nothing was seen of it yet.
    #[inline]
    pub fn is_unknown(&self) -> bool {
        self.state == ThreadState::Unknown && !self.ran
    }
}

/// What a thread does, as Linux's scheduler has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThreadState {
    /// Not known yet.
    #[default]
    Unknown,
    /// It has a CPU.
    OnCpu,
    /// It could run, and waits for a CPU.
    Waiting,
    /// It waits for something else.
    Asleep,
}

/// A P.
#[derive(Clone, Debug, Default)]
pub struct Processor {
    /// `p.id`, once a snapshot has given it.
    pub id: Option<u32>,
    /// The thread whose M has it; 0: none.
    pub tid: u32,
    /// Since when an M has it; 0 while none has.
    pub held_since_ns: u64,
    /// Since when it runs a goroutine; 0 while it does not.
    pub busy_since_ns: u64,
    /// Nanoseconds with an M, those up to `held_since_ns`.
    pub held_ns: u64,
    /// Nanoseconds with a running goroutine, those up to `busy_since_ns`.
    pub busy_ns: u64,
    /// Times that an M took it.
    pub acquired: u64,
    /// Times that it was taken away from a blocked M.
    pub handed_off: u64,
    /// When an event of it was last seen.
    pub seen_ns: u64,
    /// Sum, number and largest of the lengths of its run queue in the snapshots.
    pub queued: (u64, u64, u32),
    /// Whether GOMAXPROCS has become too small for it.
    pub gone: bool,
    /// Whether an M was promised it (`startm`), and has not taken it yet.
    pub promised: bool,
    /// Whether its M has not run a goroutine with it yet.
    pub fresh: bool,
    /// Who ran on it last, and until when.
    pub last: Option<(Who, u64)>,
    /// What it does, as it was counted last.
    pub class: Class,
}

impl Processor {
    /// Begins to run a goroutine.
    pub fn begin_running(&mut self, at_ns: u64) {
        self.fresh = false;
        if self.busy_since_ns == 0 {
            self.busy_since_ns = at_ns;
        }
    }

    /// Ceases to run a goroutine.
    pub fn end_running(&mut self, at_ns: u64) {
        if self.busy_since_ns != 0 {
            self.busy_ns += at_ns.saturating_sub(self.busy_since_ns);
            self.busy_since_ns = 0;
        }
    }

    /// Gives it to the M of a thread.
    pub fn give_to(&mut self, tid: u32, at_ns: u64) {
        if self.held_since_ns == 0 {
            self.held_since_ns = at_ns;
        }
        (self.tid, self.gone, self.promised, self.fresh) = (tid, false, false, true);
    }

    /// Takes it from its M.
    pub fn take_back(&mut self, at_ns: u64) {
        self.end_running(at_ns);
        if self.held_since_ns != 0 {
            self.held_ns += at_ns.saturating_sub(self.held_since_ns);
            self.held_since_ns = 0;
        }
        (self.tid, self.promised) = (0, false);
    }
}

/// All Ms and Ps.
#[derive(Clone, Debug, Default)]
pub struct Machines {
    /// Ms, by thread.
    pub by_tid: ByThread<Machine>,
    /// Ps, by address.
    pub processors: ByAddress<Processor>,
    /// Searches of Ms for goroutines.
    pub searches: Searches,
    /// Ps that may do something else since [`Self::take_touched`] was called last.
    touched: Vec<u64>,
}

impl Machines {
    /// The M of this thread, which may be new.
    pub fn of(&mut self, tid: u32, at_ns: u64) -> &mut Machine {
        let machine = self.by_tid.entry(tid).or_default();
        machine.seen_ns = machine.seen_ns.max(at_ns);
        machine
    }

    /// Records that a P may do something else from now on.
    #[inline]
    pub fn touch(&mut self, p: u64) {
        if p != 0 && self.touched.last() != Some(&p) {
            self.touched.push(p);
        }
    }

    /// Removes and returns one of the Ps that may do something else since.
    #[inline]
    pub fn take_touched(&mut self) -> Option<u64> {
        self.touched.pop()
    }

    /// Takes a goroutine off the thread that it leaves, and puts it on the one that it takes. Returns the slot of
    /// another goroutine that was believed to be there. `held` is [`Causes::held`](super::causes::Causes::held).
    #[inline(always)]
    pub fn follow(&mut self, change: &Change, held: u128) -> Option<u32> {
        let Change {
            at_ns,
            slot,
            tid,
            from_tid,
            from,
            to,
            ..
        } = *change;
        if from.has_thread() && (to != State::Running || from_tid != tid) {
            let keeps_thread = to == State::Syscall && from_tid == tid;
            self.stop(change, keeps_thread);
        }
        let displaced = match to {
            State::Running => self.run(tid, slot, at_ns, held),
            State::Syscall if from != State::Running => {
                let machine = self.of(tid, at_ns);
                machine.search = None;
                let (p, other) = (machine.p, machine.running.replace(slot));
                self.touch(p);
                other
            }
            _ => None,
        };
        displaced.filter(|other| *other != slot)
    }

    /// Puts a goroutine on a thread, where it runs. Returns the slot of the one that was there.
    fn run(&mut self, tid: u32, slot: u32, at_ns: u64, held: u128) -> Option<u32> {
        let machine = self.of(tid, at_ns);
        let other = machine.running.replace(slot);
        machine.parked = false;
        machine.stretch = Stretch { held, off_cpu_ns: 0 };
        let (p, searched) = (machine.p, machine.search.take().is_some());
        self.searches.found += u64::from(searched);
        self.touch(p);
        if let Some(processor) = self.processor_of(tid) {
            processor.begin_running(at_ns);
        }
        other
    }

    /// Ends the running of a goroutine on a thread, which it keeps in a system call.
    fn stop(&mut self, change: &Change, keeps_thread: bool) {
        let Change {
            at_ns,
            slot,
            from_tid: tid,
            ..
        } = *change;
        let Some(machine) = self.by_tid.get_mut(&tid) else {
            return;
        };
        if machine.running != Some(slot) {
            return;
        }
        machine.seen_ns = machine.seen_ns.max(at_ns);
        if !keeps_thread {
            machine.running = None;
            machine.search = (machine.p != 0).then(|| Search::begin(at_ns));
        }
        let p = machine.p;
        self.touch(p);
        if let Some(processor) = self.processor_of(tid) {
            processor.last = Some((change.who(), at_ns));
            processor.end_running(at_ns);
        }
    }

    /// Applies that the M of a thread does not look for a goroutine: it hands its P to another thread.
    pub fn cancel_search(&mut self, tid: u32) {
        if let Some(machine) = self.by_tid.get_mut(&tid) {
            machine.search = None;
        }
    }

    fn processor_of(&mut self, tid: u32) -> Option<&mut Processor> {
        let p = self.by_tid.get(&tid)?.p;
        self.processors.get_mut(&p)
    }

    /// Gives a P to the M of a thread. Returns the slot of the goroutine that the P was taken away from, if one ran
    /// with it.
    pub fn acquire(&mut self, tid: u32, p: u64, at_ns: u64) -> Option<u32> {
        let before = self.of(tid, at_ns).p;
        if before != 0 && before != p {
            self.release(before, at_ns);
        }
        let without_p = match self.processors.get(&p) {
            Some(processor) if processor.tid != 0 && processor.tid != tid => self.release(p, at_ns),
            _ => None,
        };
        self.touch(p);
        let machine = self.of(tid, at_ns);
        machine.p = p;
        machine.parked = false;
        let running = machine.running.is_some();
        if !running {
            machine.search.get_or_insert(Search::begin(at_ns));
        }
        let processor = self.processors.entry(p).or_default();
        processor.give_to(tid, at_ns);
        processor.acquired += 1;
        processor.seen_ns = at_ns;
        if running {
            processor.begin_running(at_ns);
        }
        without_p
    }

    /// Takes a P from its M. Returns the slot of the goroutine that the M still has, without the P.
    pub fn release(&mut self, p: u64, at_ns: u64) -> Option<u32> {
        self.touch(p);
        let processor = self.processors.entry(p).or_default();
        let tid = processor.tid;
        processor.take_back(at_ns);
        processor.seen_ns = at_ns;
        let machine = self.by_tid.get_mut(&tid).filter(|machine| machine.p == p)?;
        machine.p = 0;
        machine.running
    }
}
