//! Ms, by their threads, and Ps, by their addresses.

use std::collections::HashMap;

use super::goroutine::ByAddress;

/// An M: a thread that runs goroutines.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Address of its m; 0 while it is not known.
    pub m: u64,
    /// `m.id`, once a snapshot has told it.
    pub id: Option<u64>,
    /// Slot of the goroutine that it runs, or that is in a system call on it.
    pub running: Option<u32>,
    /// Address of its P, or 0.
    pub p: u64,
    /// It sleeps, since it had nothing to do.
    pub parked: bool,
    /// When it was last heard of, CLOCK_MONOTONIC.
    pub seen_ns: u64,
    /// Whether its start was seen.
    pub started: bool,
    /// Why the last M was wanted on this thread (`startm`): 1 to look for work, 0 for a P that was handed off.
    pub wanted: Option<u8>,
    /// Linux's view of it.
    pub thread: Thread,
}

/// What Linux's scheduler did with a thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thread {
    /// What it does.
    pub state: ThreadState,
    /// Since when.
    pub since_ns: u64,
}

/// What a thread does, as Linux has it.
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
    /// `p.id`, once a snapshot has told it.
    pub id: Option<u32>,
    /// The thread whose M has it; 0: none.
    pub tid: u32,
    /// Since when an M has it; 0: none has.
    pub held_since_ns: u64,
    /// Since when it runs a goroutine; 0: it does not.
    pub busy_since_ns: u64,
    /// Nanoseconds with an M, those up to `held_since_ns`.
    pub held_ns: u64,
    /// Nanoseconds with a running goroutine, those up to `busy_since_ns`.
    pub busy_ns: u64,
    /// Times that it was taken.
    pub acquired: u64,
    /// Times that it was taken away from a blocked M.
    pub handed_off: u64,
    /// When it was last heard of.
    pub seen_ns: u64,
    /// Sum, number and largest of the lengths of its run queue in the snapshots.
    pub queued: (u64, u64, u32),
    /// GOMAXPROCS has become too small for it.
    pub gone: bool,
}

impl Processor {
    /// A goroutine runs on it from here on.
    pub fn begin(&mut self, at_ns: u64) {
        if self.busy_since_ns == 0 {
            self.busy_since_ns = at_ns;
        }
    }

    /// None runs on it from here on.
    pub fn end(&mut self, at_ns: u64) {
        if self.busy_since_ns != 0 {
            self.busy_ns += at_ns.saturating_sub(self.busy_since_ns);
            self.busy_since_ns = 0;
        }
    }

    /// An M has it from here on.
    pub fn take(&mut self, tid: u32, at_ns: u64) {
        if self.held_since_ns == 0 {
            self.held_since_ns = at_ns;
        }
        (self.tid, self.gone) = (tid, false);
    }

    /// No M has it from here on.
    pub fn give_back(&mut self, at_ns: u64) {
        self.end(at_ns);
        if self.held_since_ns != 0 {
            self.held_ns += at_ns.saturating_sub(self.held_since_ns);
            self.held_since_ns = 0;
        }
        self.tid = 0;
    }
}

/// All Ms and Ps.
#[derive(Clone, Debug, Default)]
pub struct Machines {
    /// Ms, by thread.
    pub by_tid: HashMap<u32, Machine>,
    /// Ps, by address.
    pub processors: ByAddress<Processor>,
}

impl Machines {
    /// The M of this thread, which may be new.
    pub fn of(&mut self, tid: u32, at_ns: u64) -> &mut Machine {
        let machine = self.by_tid.entry(tid).or_default();
        machine.seen_ns = machine.seen_ns.max(at_ns);
        machine
    }

    /// A goroutine runs on this thread from here on; the slot of another that ran there until now.
    pub fn run(&mut self, tid: u32, slot: u32, at_ns: u64) -> Option<u32> {
        let machine = self.of(tid, at_ns);
        let other = machine.running.replace(slot).filter(|other| *other != slot);
        machine.parked = false;
        if let Some(processor) = self.processor_of(tid) {
            processor.begin(at_ns);
        }
        other
    }

    /// The goroutine does not run on this thread any more. It keeps the thread if it `stays`, in a system call.
    pub fn stop(&mut self, tid: u32, slot: u32, stays: bool, at_ns: u64) {
        let Some(machine) = self.by_tid.get_mut(&tid) else {
            return;
        };
        if machine.running != Some(slot) {
            return;
        }
        machine.seen_ns = machine.seen_ns.max(at_ns);
        if !stays {
            machine.running = None;
        }
        if let Some(processor) = self.processor_of(tid) {
            processor.end(at_ns);
        }
    }

    fn processor_of(&mut self, tid: u32) -> Option<&mut Processor> {
        let p = self.by_tid.get(&tid)?.p;
        self.processors.get_mut(&p)
    }

    /// This thread's M takes a P. The slot of a goroutine that the P was taken away from, if one ran with it.
    pub fn acquire(&mut self, tid: u32, p: u64, at_ns: u64) -> Option<u32> {
        let before = self.of(tid, at_ns).p;
        if before != 0 && before != p {
            self.release(before, at_ns);
        }
        let robbed = match self.processors.get(&p) {
            Some(processor) if processor.tid != 0 && processor.tid != tid => self.release(p, at_ns),
            _ => None,
        };
        let machine = self.of(tid, at_ns);
        machine.p = p;
        machine.parked = false;
        let running = machine.running.is_some();
        let processor = self.processors.entry(p).or_default();
        processor.take(tid, at_ns);
        processor.acquired += 1;
        processor.seen_ns = at_ns;
        if running {
            processor.begin(at_ns);
        }
        robbed
    }

    /// A P has no M any more. The slot of the goroutine that its M goes on with, without it.
    pub fn release(&mut self, p: u64, at_ns: u64) -> Option<u32> {
        let processor = self.processors.entry(p).or_default();
        let tid = processor.tid;
        processor.give_back(at_ns);
        processor.seen_ns = at_ns;
        let machine = self.by_tid.get_mut(&tid).filter(|machine| machine.p == p)?;
        machine.p = 0;
        machine.running
    }
}
