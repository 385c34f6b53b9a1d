//! Keeps the causes up to date: what each P does, which threads have a CPU, and what holds for the whole process.

use super::causes::Setting;
use super::class::Class;
use super::goroutine::mark;
use super::thread::{Processor, Thread, ThreadState};
use super::{Sched, State};
use crate::stream::Throttling;

impl Sched {
    /// Sets when the window opens: why goroutines waited before it is known, and not counted.
    pub fn open_window(&mut self, at_ns: u64) {
        self.opens_ns = at_ns;
    }

    /// Opens the window.
    #[cold]
    pub(super) fn open(&mut self) {
        let at_ns = std::mem::take(&mut self.opens_ns);
        self.advance_to(at_ns);
        self.causes.open(at_ns);
        self.culprits.open(self.causes.held());
    }

    /// Advances to `at_ns`, until when nothing has changed.
    #[inline]
    pub(super) fn advance_to(&mut self, at_ns: u64) {
        if self.opens_ns != 0 && at_ns >= self.opens_ns {
            self.open();
        }
        if self.begin_ns == 0 {
            (self.begin_ns, self.now_ns) = (at_ns, at_ns);
        }
        let ns = at_ns.saturating_sub(self.now_ns);
        self.now_ns += ns;
        self.causes.advance(self.now_ns, ns, self.runnable());
        self.history.advance(self.now_ns, &self.living);
    }

    /// The number of runnable goroutines.
    #[inline]
    pub(super) fn runnable(&self) -> u64 {
        self.living[State::Runnable as usize]
    }

    /// Takes in what an event has changed for the causes.
    #[inline]
    pub(super) fn settle(&mut self) {
        while let Some(p) = self.machines.take_touched() {
            let Some(processor) = self.machines.processors.get(&p) else {
                continue;
            };
            let (before, class) = (processor.class, self.class_of(processor));
            if before == class {
                continue;
            }
            self.causes.change_class(before, class);
            if let Some(processor) = self.machines.processors.get_mut(&p) {
                processor.class = class;
            }
        }
        let setting = Setting {
            known: self.valid_from_ns.is_some(),
            stopped: self.world.is_stopped(),
            gomaxprocs: self.world.gomaxprocs,
        };
        self.causes.settle(setting, self.now_ns);
    }

    /// Forgets what may not be true any more once something was lost.
    pub(super) fn settle_loss(&mut self) {
        self.causes.forget();
        let mut all = Vec::with_capacity(self.machines.processors.len());
        for (p, processor) in &mut self.machines.processors {
            processor.promised = false;
            all.push(*p);
        }
        all.into_iter().for_each(|p| self.machines.touch(p));
        self.settle();
    }

    /// What a P does.
    fn class_of(&self, processor: &Processor) -> Class {
        if processor.gone {
            return Class::Gone;
        }
        if processor.tid == 0 {
            return if processor.promised {
                Class::Waking
            } else {
                Class::Idle
            };
        }
        let Some(machine) = self.machines.by_tid.get(&processor.tid) else {
            return Class::Idle;
        };
        let thread = machine.thread;
        let Some(goroutine) = machine.running.and_then(|slot| self.goroutines.get(slot)) else {
            return match (thread.state, processor.fresh) {
                _ if thread.is_unknown() => Class::Unknown,
                (ThreadState::Asleep, _) => Class::Blocked,
                (ThreadState::Waiting, true) => Class::Waking,
                (ThreadState::Waiting, false) => Class::OsPreempted,
                (_, true) => Class::Spinning,
                (_, false) => Class::Scheduler,
            };
        };
        // Without `--syscalls` it is only believed to be in one if its P was taken away: with a P, it has returned.
        if goroutine.state == State::Syscall && self.config.syscalls {
            return match thread.state {
                ThreadState::Waiting => Class::OsPreempted,
                _ if thread.is_on_cpu() => Class::InSyscallOnCpu,
                _ => Class::InSyscall,
            };
        }
        match thread.state {
            ThreadState::Waiting => Class::OsPreempted,
            ThreadState::Asleep if thread.uninterruptible || self.config.syscalls => Class::Blocked,
            ThreadState::Asleep => Class::InSyscall,
            _ if thread.is_unknown() => Class::Unknown,
            _ if goroutine.is(mark::COLLECTOR) || goroutine.is(mark::ASSISTS) => Class::Gc,
            _ => Class::Busy,
        }
    }

    /// Sets what Linux's scheduler does with a thread from now on. Returns what it did until now.
    pub(super) fn set_thread(&mut self, tid: u32, to: Thread) -> Thread {
        let machine = self.machines.of(tid, to.since_ns);
        let before = std::mem::replace(&mut machine.thread, to);
        if matches!(before.state, ThreadState::Waiting | ThreadState::Asleep) {
            let off_ns = to.since_ns.saturating_sub(before.since_ns);
            if machine.running.is_some() {
                machine.stretch.off_cpu_ns = machine.stretch.off_cpu_ns.saturating_add(off_ns);
            } else if let Some(search) = &mut machine.search {
                search.add_off_cpu(off_ns);
            }
        }
        let p = machine.p;
        // With a P it sleeps within its search, for a lock of the runtime or before it takes another P's next goroutine.
        let gives_up = to.state == ThreadState::Asleep && p == 0;
        if let Some(search) = machine.search.take_if(|_| gives_up) {
            self.machines.searches.add_in_vain(search, to.since_ns);
        }
        self.machines.touch(p);
        self.causes.change_thread(before.state, to.state);
        before
    }

    /// Applies that a thread has hit a probe: it has a CPU, whether or not it was seen to get one.
    #[inline]
    pub(super) fn record_hit(&mut self, tid: u32) {
        let Some(machine) = self.machines.by_tid.get_mut(&tid) else {
            return;
        };
        if machine.thread.is_unknown() {
            machine.thread.ran = true;
            let p = machine.p;
            if p != 0 {
                self.causes.record_ran();
            }
            self.machines.touch(p);
        }
    }

    /// Applies that an M was promised a P (0: any idle one).
    pub(super) fn promise(&mut self, p: u64) {
        if p == 0 {
            self.causes.promise_any();
            return;
        }
        if let Some(processor) = self.machines.processors.get_mut(&p)
            && processor.tid == 0
            && !processor.gone
        {
            processor.promised = true;
            self.machines.touch(p);
        }
    }

    /// Applies that an M takes this P.
    pub(super) fn keep_promise(&mut self, p: u64) {
        let promised = self.machines.processors.get(&p).is_some_and(|p| p.promised);
        if !promised {
            self.causes.keep_promise();
        }
    }

    /// Applies that a goroutine has been picked, and waits for the thread that it is locked to.
    pub(super) fn apply_locked(&mut self, g: u64, at_ns: u64) {
        let Some(slot) = self.goroutines.find(g) else {
            return;
        };
        if let Some(goroutine) = self.goroutines.get(slot)
            && goroutine.state == State::Runnable
        {
            self.causes.pick(slot, goroutine, at_ns);
        }
    }

    /// Applies that the cgroup of the process was throttled.
    pub(super) fn apply_throttling(&mut self, seen: &Throttling, at_ns: u64) {
        self.causes.confirm_throttled(at_ns, seen.throttled_ns);
    }

    /// Applies that a running goroutine begins or ends to assist the collector.
    pub(super) fn apply_assist(&mut self, slot: u32, begins: bool) {
        let Some(goroutine) = self.goroutines.get_mut(slot) else {
            return;
        };
        if begins {
            goroutine.marks |= mark::ASSISTS;
        } else {
            goroutine.marks &= !mark::ASSISTS;
        }
        let p = self
            .machines
            .by_tid
            .get(&goroutine.tid)
            .map_or(0, |machine| machine.p);
        self.machines.touch(p);
    }
}
