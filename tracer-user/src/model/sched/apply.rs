//! Applies transitions: what each event says of Ps, Ms, threads and the world; those of goroutines are in `status.rs`.

use super::thread::Thread;
use super::{Sched, State, ThreadState};
use crate::stream::transition::{Transition, What, flag, sleeps_uninterruptibly, task_state};

impl Sched {
    /// Applies one transition.
    pub fn apply(&mut self, transition: &Transition) {
        let Transition {
            at_ns, subject, tid, ..
        } = *transition;
        let Some(what) = What::from_u8(transition.what) else {
            self.anomalies.garbage += 1;
            return;
        };
        self.events += 1;
        if transition.flags & flag::AFTER_LOSS != 0 {
            // Before it is advanced: what held until then is not known.
            self.record_loss(at_ns);
        }
        self.advance_to(at_ns);
        match what {
            What::Goroutine => self.apply_status(transition),
            What::Coroutine => self.apply_coroutine_switch(transition),
            What::ProcessorAcquired => {
                self.keep_promise(subject);
                if let Some(slot) = self.machines.acquire(tid, subject, at_ns) {
                    self.lose_processor(slot, at_ns);
                }
            }
            What::ProcessorReleased => {
                let p = match subject {
                    0 => self.machines.of(tid, at_ns).p,
                    p => p,
                };
                if p != 0 {
                    // Whoever gives a P back does so itself, on the way into a system call or off its goroutine.
                    let _ = self.machines.release(p, at_ns);
                }
                if std::mem::take(&mut self.machines.of(tid, at_ns).hands_over) {
                    self.promise(p);
                }
            }
            What::ProcessorHandedOff => {
                self.machines.cancel_search(tid);
                let slot = self.machines.release(subject, at_ns);
                if let Some(processor) = self.machines.processors.get_mut(&subject) {
                    processor.handed_off += 1;
                }
                if let Some(slot) = slot {
                    self.lose_processor(slot, at_ns);
                }
            }
            What::ProcessorsResized => self.resize(subject, tid, at_ns),
            What::MachineStarted => {
                let machine = self.machines.of(tid, at_ns);
                (machine.started, machine.parked) = (true, false);
                self.world.machines_started += 1;
            }
            What::MachineEnded => {
                self.world.machines_ended += 1;
                // What ran on it has ended, too.
                if let Some(slot) = self.machines.by_tid.get(&tid).and_then(|machine| machine.running) {
                    self.displace(slot, tid, at_ns);
                }
                self.end_thread(tid, at_ns);
            }
            What::MachineParked => {
                let machine = self.machines.of(tid, at_ns);
                machine.parked = true;
                // One that parks has no P: the world was stopped while it was in a system call.
                let p = machine.p;
                if p != 0 {
                    let _ = self.machines.release(p, at_ns);
                }
                self.world.parks += 1;
            }
            What::MachineWanted => {
                self.machines.of(tid, at_ns).wanted = Some(transition.reason);
                self.world.count_wanted(transition.reason);
                self.promise(subject);
            }
            What::MachineCreated => {
                let wanted = self.machines.of(tid, at_ns).wanted.take();
                self.world.count_created(wanted, transition.detail);
                if subject != 0 {
                    self.promise(subject);
                }
            }
            What::GcStart
            | What::GcMarkTermination
            | What::WorldStops
            | What::WorldStarts
            | What::WorldStarted => {
                self.world.apply(what, transition.reason, at_ns);
                match what {
                    What::WorldStops => self.causes.stops.begin(at_ns, transition.reason),
                    What::WorldStarts => self.causes.stops.end(at_ns),
                    _ => {}
                }
            }
            What::GoroutineLocked => {
                self.apply_locked(subject, at_ns);
                let machine = self.machines.of(tid, at_ns);
                (machine.hands_over, machine.search) = (true, None);
            }
            What::ThreadOff | What::ThreadOn | What::ThreadWoken | What::ThreadEnded => {
                self.apply_thread(what, transition);
                self.settle();
                return;
            }
        }
        // All others come from probes, on the thread that hits them.
        self.record_hit(tid);
        self.settle();
    }

    /// Applies that there are `count` Ps: those past it are gone. The runtime says so each time that the world starts
    /// again, also where nothing has changed.
    ///
    /// Nobody but who says so, on thread `tid`, holds a P then: what had one in a system call has lost it, for which there is
    /// no event. Where it is not known which of the Ps are past the end, none is there until an M takes it.
    fn resize(&mut self, count: u64, tid: u32, at_ns: u64) {
        let mut taken = Vec::new();
        for (p, processor) in &self.machines.processors {
            if processor.tid != 0 && processor.tid != tid {
                taken.push(*p);
            }
        }
        for p in taken {
            if let Some(slot) = self.machines.release(p, at_ns) {
                self.lose_processor(slot, at_ns);
            }
        }
        let before = std::mem::replace(&mut self.world.gomaxprocs, count);
        self.world.resized += u64::from(before != 0 && before != count);
        let gone: Vec<u64> = self
            .machines
            .processors
            .iter()
            .filter(|(_, p)| p.id.map_or(p.tid == 0, |id| u64::from(id) >= count))
            .map(|(address, _)| *address)
            .collect();
        for p in gone {
            let _ = self.machines.release(p, at_ns);
            if let Some(processor) = self.machines.processors.get_mut(&p) {
                processor.gone = true;
            }
            self.machines.touch(p);
        }
    }

    /// Applies what Linux's scheduler did with a thread.
    fn apply_thread(&mut self, what: What, transition: &Transition) {
        let Transition {
            at_ns, tid, detail, ..
        } = *transition;
        let (to, uninterruptible) = match what {
            What::ThreadOn => (ThreadState::OnCpu, false),
            // A thread that is preempted, or yields, waits for a CPU.
            What::ThreadOff if detail == 0 => (ThreadState::Waiting, false),
            // It leaves its CPU for the last time, after the event of its end.
            What::ThreadOff if detail & task_state::DEAD != 0 => {
                self.end_thread(tid, at_ns);
                return;
            }
            What::ThreadOff => (ThreadState::Asleep, sleeps_uninterruptibly(detail)),
            What::ThreadWoken => (ThreadState::Waiting, false),
            _ => {
                self.end_thread(tid, at_ns);
                return;
            }
        };
        // Woken before it had left the CPU: it continues there.
        if what == What::ThreadWoken && self.machines.of(tid, at_ns).thread.is_on_cpu() {
            return;
        }
        // Who starts the world gives out Ps without saying so.
        if what == What::ThreadWoken && self.world.is_given_out() && self.machines.of(tid, at_ns).parked {
            self.causes.promise_any();
        }
        // Of whom nothing was known had a CPU, if it leaves one.
        let machine = self.machines.of(tid, at_ns);
        if what == What::ThreadOff && machine.thread.is_unknown() && machine.p != 0 {
            self.causes.record_ran();
        }
        let to = Thread {
            state: to,
            since_ns: at_ns,
            uninterruptible,
            ran: false,
        };
        let before = self.set_thread(tid, to);
        self.world
            .add_thread_time(before.state, at_ns.saturating_sub(before.since_ns));
    }

    /// Removes a thread, and with it its M. What still runs on it when the process ends is not an anomaly.
    fn end_thread(&mut self, tid: u32, at_ns: u64) {
        let Some(machine) = self.machines.by_tid.get(&tid) else {
            return;
        };
        let (running, p, thread) = (machine.running, machine.p, machine.thread);
        self.world
            .add_thread_time(thread.state, at_ns.saturating_sub(thread.since_ns));
        if let Some(slot) = running
            && self.is_on(slot, tid)
        {
            self.change(slot, State::Unknown, 0, tid, at_ns, true);
        }
        if p != 0 {
            let _ = self.machines.release(p, at_ns);
        }
        self.causes.change_thread(thread.state, ThreadState::Unknown);
        self.machines.by_tid.remove(&tid);
    }
}
