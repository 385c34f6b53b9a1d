//! A scheduler that makes legal changes at random.

use std::collections::BTreeMap;

use tracer_ebpf::full::{status as s, statuses};

use super::super::*;
use crate::stream::Origin;
use crate::stream::transition::{Transition, What};

/// xorshift64*, so that a failure can be reproduced by its seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 33) % n.max(1)
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = self.below(from.len() as u64) as usize;
        from.get(index).copied()
    }
}

pub(super) const G: u64 = 0xc000_0000_0000;
pub(super) const P: u64 = 0xc000_ff00_0000;
pub(super) const CHAN_RECEIVE: u8 = 19;
pub(super) const COROUTINE: u8 = 37;
/// "GC assist marking", in all versions.
pub(super) const ASSIST: u8 = 1;

pub(super) fn g_at(n: u64) -> u64 {
    G + n * 512
}

/// A scheduler that makes legal changes at random.
pub(super) struct Maker {
    pub(super) random: Random,
    pub(super) minor: u32,
    pub(super) now_ns: u64,
    /// The state of each g, and its thread (0: none).
    pub(super) goroutines: BTreeMap<u64, (State, u32)>,
    /// The P and the g of each thread.
    pub(super) machines: BTreeMap<u32, (u64, u64)>,
    pub(super) idle: Vec<u64>,
    pub(super) spent: BTreeMap<State, u64>,
    pub(super) since: BTreeMap<u64, u64>,
    pub(super) made: Vec<Transition>,
    pub(super) created: u64,
    pub(super) exited: u64,
    pub(super) waits: u64,
    /// Number of the reason "stopping the world".
    pub(super) stopping: u8,
}

impl Maker {
    pub(super) fn new(seed: u64, minor: u32) -> Self {
        let processors = 1 + seed % 4;
        Self {
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            minor,
            now_ns: 1_000_000,
            goroutines: BTreeMap::new(),
            machines: (0..processors as u32 + 3).map(|n| (100 + n, (0, 0))).collect(),
            idle: (0..processors).map(|n| P + n * 0x4000).collect(),
            spent: BTreeMap::new(),
            since: BTreeMap::new(),
            made: Vec::new(),
            created: 0,
            exited: 0,
            waits: 0,
            stopping: (0..=u8::MAX)
                .find(|n| Reasons::of(minor).name(*n) == "stopping the world")
                .unwrap(),
        }
    }

    pub(super) fn emit(&mut self, transition: Transition) {
        self.now_ns += 1 + self.random.below(2_000);
        self.made.push(Transition {
            at_ns: self.now_ns,
            ..transition
        });
    }

    pub(super) fn change(&mut self, g: u64, tid: u32, old: u8, new: u8, reason: u8) {
        self.emit(Transition {
            subject: g,
            detail: if old == s::DEAD {
                0x40_1000 + g % 3
            } else {
                u64::from(new == s::DEAD) * g
            },
            tid,
            what: What::Goroutine as u8,
            status: statuses(u32::from(old), u32::from(new)),
            reason,
            ..Transition::default()
        });
        let (from, to) = (State::of_status(old).unwrap(), State::of_status(new).unwrap());
        self.move_to(g, from, to, tid);
    }

    pub(super) fn move_to(&mut self, g: u64, from: State, to: State, tid: u32) {
        let since = self.since.insert(g, self.now_ns).unwrap_or(self.now_ns);
        if from != State::Dead {
            *self.spent.entry(from).or_default() += self.now_ns - since;
        }
        self.waits += u64::from((from, to) == (State::Runnable, State::Running));
        let on_thread = matches!(to, State::Running | State::Syscall);
        self.goroutines.insert(g, (to, if on_thread { tid } else { 0 }));
        if let Some(machine) = self.machines.get_mut(&tid) {
            if to == State::Running {
                machine.1 = g;
            } else if machine.1 == g && to != State::Syscall {
                machine.1 = 0;
            }
        }
    }

    pub(super) fn in_state(&self, state: State) -> Vec<u64> {
        let there = self.goroutines.iter().filter(|(_, (its, _))| *its == state);
        there.map(|(g, _)| *g).collect()
    }

    /// Takes one step that is legal now.
    pub(super) fn step(&mut self) {
        let threads: Vec<u32> = self.machines.keys().copied().collect();
        let Some(tid) = self.random.pick(&threads) else {
            return;
        };
        let (p, running) = self.machines[&tid];
        let state = self
            .goroutines
            .get(&running)
            .map_or(State::Dead, |(state, _)| *state);
        match (p, running, state) {
            (0, 0, _) => {
                if let Some(p) = self.idle.pop() {
                    self.processor(What::ProcessorAcquired, tid, p);
                }
            }
            // In a system call without a P: it returns and finds none.
            (0, g, State::Syscall) => {
                if self.minor >= 26 {
                    self.change(g, tid, s::SYSCALL, s::RUNNING, 0);
                    self.change(g, tid, s::RUNNING, s::RUNNABLE, Origin::Syscall as u8);
                } else {
                    self.change(g, tid, s::SYSCALL, s::RUNNABLE, Origin::Syscall as u8);
                }
            }
            (p, g, State::Syscall) => {
                if self.random.below(3) == 0 {
                    // sysmon takes the P away.
                    self.processor(What::ProcessorHandedOff, 99, p);
                } else {
                    self.change(g, tid, s::SYSCALL, s::RUNNING, 0);
                }
            }
            (p, 0, _) => {
                let runnable = self.in_state(State::Runnable);
                match self.random.pick(&runnable) {
                    Some(g) => self.change(g, tid, s::RUNNABLE, s::RUNNING, 0),
                    None if self.goroutines.len() < 3 => self.create(tid),
                    None => {
                        self.processor(What::ProcessorReleased, tid, p);
                        self.wake(tid);
                    }
                }
            }
            (_, g, _) => match self.random.below(10) {
                0 | 1 => self.change(g, tid, s::RUNNING, s::WAITING, CHAN_RECEIVE),
                2 => self.change(g, tid, s::RUNNING, s::RUNNABLE, Origin::Yielded as u8),
                3 => self.change(g, tid, s::RUNNING, s::SYSCALL, 0),
                4 if self.random.below(4) == 0 => {
                    self.change(g, tid, s::RUNNING, s::DEAD, 0);
                    self.exited += 1;
                }
                5 => self.create(tid),
                6 => self.coroutine(g, tid),
                // It says that it waits for the world to stop, and keeps running.
                7 => self.say(g, tid, s::RUNNING, s::WAITING, self.stopping),
                // It marks for the collector, and keeps running likewise.
                8 => {
                    self.say(g, tid, s::RUNNING, s::WAITING, ASSIST);
                    self.say(g, tid, s::WAITING, s::RUNNING, 0);
                }
                _ => self.wake(tid),
            },
        }
    }

    /// Emits a change of status that leaves the goroutine running.
    fn say(&mut self, g: u64, tid: u32, old: u8, new: u8, reason: u8) {
        self.emit(Transition {
            subject: g,
            tid,
            what: What::Goroutine as u8,
            status: statuses(u32::from(old), u32::from(new)),
            reason,
            ..Transition::default()
        });
    }

    pub(super) fn create(&mut self, tid: u32) {
        let free = (0..40).map(g_at).find(|g| {
            let state = self.goroutines.get(g).map(|(state, _)| *state);
            state.is_none_or(|state| state == State::Dead)
        });
        if let Some(g) = free {
            self.change(g, tid, s::DEAD, s::RUNNABLE, Origin::Created as u8);
            self.created += 1;
        }
    }

    pub(super) fn wake(&mut self, tid: u32) {
        let waiting = self.in_state(State::Waiting);
        if let Some(g) = self.random.pick(&waiting) {
            self.change(g, tid, s::WAITING, s::RUNNABLE, Origin::Unblocked as u8);
        }
    }

    pub(super) fn coroutine(&mut self, g: u64, tid: u32) {
        let waiting = self.in_state(State::Waiting);
        let Some(next) = self.random.pick(&waiting) else {
            return;
        };
        self.emit(Transition {
            subject: next,
            detail: g,
            tid,
            what: What::Coroutine as u8,
            ..Transition::default()
        });
        self.move_to(g, State::Running, State::Waiting, tid);
        self.move_to(next, State::Waiting, State::Running, tid);
    }

    pub(super) fn processor(&mut self, what: What, tid: u32, p: u64) {
        self.emit(Transition {
            subject: p,
            tid,
            what: what as u8,
            ..Transition::default()
        });
        if what == What::ProcessorAcquired {
            self.machines.get_mut(&tid).unwrap().0 = p;
        } else {
            self.machines
                .values_mut()
                .filter(|m| m.0 == p)
                .for_each(|m| m.0 = 0);
            self.idle.push(p);
        }
    }
}
