//! Starts that have begun and not ended.

use std::collections::{BTreeMap, BTreeSet};

use tracer_ebpf::start::binary;

use super::{
    CallAt, Ended, Phase, Start, Zero,
    partition::{moments, partition, spans},
};
use crate::stream::{
    Event, Kind, Observation,
    start::{Mark, StartMark},
};

/// Starts on their way, put together from what is observed.
#[derive(Clone, Debug, Default)]
pub struct Starts {
    /// Binaries in which the dynamic loader runs before the program's own first instruction.
    dynamic: BTreeSet<u32>,
    open: BTreeMap<u32, Open>,
    /// Marks and calls of all that are open.
    pieces: usize,
    /// (until when, how long) processes were held in their last `execve`. It may be told before the mark of its entry.
    held: BTreeMap<u32, Vec<(u64, u64)>>,
}

/// A start that has not ended.
#[derive(Clone, Debug, Default)]
struct Open {
    marks: Vec<(u64, StartMark)>,
    calls: Vec<CallAt>,
}

/// No more processes are followed at once than this; those that call execve and turn out to run another program are
/// forgotten by it.
const MOST_OPEN: usize = 4_096;
/// Nor are more of their marks and calls kept than this: a start has some hundred.
const MOST_PIECES: usize = 1 << 21;
/// Most times that one process was held in an `execve`.
const MOST_HELD: usize = 64;

impl Starts {
    /// The dynamic loader runs before the first instruction of this binary.
    pub fn loads(&mut self, binary: u32) {
        self.dynamic.insert(binary);
    }

    /// Takes in one observation; a start that has ended by it is returned.
    pub fn observe(&mut self, observation: &Observation) -> Option<Start> {
        match &observation.kind {
            Kind::Event(Event::StartMark(mark)) => self.mark(observation.at_ns, mark),
            Kind::Event(Event::StartCall(call)) => {
                let open = self.open.get_mut(&call.pid)?;
                open.calls.push(CallAt {
                    end_ns: observation.at_ns,
                    call: call.clone(),
                });
                self.one_more();
                None
            }
            Kind::Event(Event::StartHeld(held)) => {
                if self.held.len() >= MOST_OPEN {
                    self.held.pop_first();
                }
                let times = self.held.entry(held.pid).or_default();
                if times.len() < MOST_HELD {
                    times.push((observation.at_ns, held.held_ns));
                }
                None
            }
            _ => None,
        }
    }

    /// Whether a process has come to its own first instruction and not to `main.main`.
    pub fn is_open(&self, pid: u32) -> bool {
        self.open.get(&pid).is_some_and(Open::has_entered)
    }

    /// Whether a start of this binary is open.
    pub fn runs(&self, binary: u32) -> bool {
        self.open.values().any(|open| open.binary() == Some(binary))
    }

    /// Processes whose starts are not ended, but begun.
    pub fn open(&self) -> Vec<u32> {
        let entered = self.open.iter().filter(|(_, open)| open.has_entered());
        entered.map(|(pid, _)| *pid).collect()
    }

    /// Ends the start of a process at this moment, whatever it is at.
    pub fn cut(&mut self, pid: u32, now_ns: u64) -> Option<Start> {
        let open = self.remove(pid)?;
        self.close(pid, open, now_ns, Ended::Unfinished)
    }

    fn mark(&mut self, at_ns: u64, mark: &StartMark) -> Option<Start> {
        if mark.mark == Mark::Execve || mark.mark == Mark::ExecPrepared {
            // Also the second attempt of one that failed.
            self.remove(mark.pid);
            if let Some(times) = self.held.get_mut(&mark.pid) {
                times.retain(|(until_ns, _)| *until_ns > at_ns);
            }
        }
        if mark.mark == Mark::Executed
            && let Some(open) = self.open.get(&mark.pid)
            && open
                .marks
                .last()
                .is_some_and(|(_, last)| last.mark == Mark::Executed)
        {
            // Where the tracepoint before is missing: the program that called execve had itself been started so.
            self.remove(mark.pid);
        }
        if self.open.len() >= MOST_OPEN && !self.open.contains_key(&mark.pid) {
            self.forget_oldest();
        }
        if mark.mark == Mark::Executed && !u32::try_from(mark.value).is_ok_and(binary::is_traced) {
            // Nothing more comes of it.
            self.remove(mark.pid);
            self.held.remove(&mark.pid);
            return None;
        }
        let open = self.open.entry(mark.pid).or_default();
        open.marks.push((at_ns, mark.clone()));
        self.one_more();
        let ended = match mark.mark {
            Mark::MainMain => Ended::Main,
            Mark::Exited => Ended::Exit,
            _ => return None,
        };
        let open = self.remove(mark.pid)?;
        if !open.has_entered() {
            return None;
        }
        self.close(mark.pid, open, at_ns, ended)
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .open
            .iter()
            .min_by_key(|(_, open)| (open.has_entered(), open.marks.first().map(|(at_ns, _)| *at_ns)))
            .map(|(pid, _)| *pid);
        if let Some(pid) = oldest {
            self.remove(pid);
        }
    }

    fn remove(&mut self, pid: u32) -> Option<Open> {
        let open = self.open.remove(&pid)?;
        self.pieces = self.pieces.saturating_sub(open.marks.len() + open.calls.len());
        Some(open)
    }

    /// A mark or a call was kept: if they are too many, the start that began first is forgotten.
    fn one_more(&mut self) {
        self.pieces += 1;
        if self.pieces > MOST_PIECES {
            self.forget_oldest();
        }
    }

    fn close(&mut self, pid: u32, open: Open, end_ns: u64, ended: Ended) -> Option<Start> {
        let held = self.held.remove(&pid).unwrap_or_default();
        let binary = open.binary().unwrap_or(0);
        let dynamic = self.dynamic.contains(&binary);
        let Open { mut marks, calls } = open;
        // Marks of several threads come in the order in which the ring has them.
        marks.sort_by_key(|(at_ns, _)| *at_ns);
        let (_, first) = marks.first()?;
        let end_ns = marks.last().map_or(end_ns, |(last, _)| end_ns.max(*last));
        let zero = match first.mark {
            Mark::Execve => Zero::Execve,
            Mark::ExecPrepared => Zero::Prepared,
            _ => Zero::Executed,
        };
        let mut phases = partition(&marks, dynamic, end_ns);
        let held_ns = phases.first_mut().map_or(0, |exec| without(exec, &held));
        Some(Start {
            pid,
            binary,
            zero,
            held_ns,
            phases,
            spans: spans(&marks),
            marks: moments(&marks),
            calls,
            gomaxprocs: marks
                .iter()
                .find(|(_, mark)| mark.mark == Mark::ProcResizeBegin)
                .and_then(|(_, mark)| u32::try_from(mark.value).ok()),
            ended,
        })
    }
}

/// A process that was held for so long waited until its program was analysed; in nanoseconds.
const LONG_HOLD: u64 = 1_000_000;

/// Takes the time for which the process was held out of its first phase; how much that was.
fn without(exec: &mut Phase, held: &[(u64, u64)]) -> u64 {
    let within = held
        .iter()
        .filter(|(until_ns, _)| (exec.begin_ns..=exec.end_ns).contains(until_ns));
    let mut held_ns = within.fold(0u64, |sum, (_, ns)| sum.saturating_add(*ns));
    // Who was really held then waits for a CPU, which is told as sleep, too. (That its file would have had to be read
    // from disk is not to be seen any more: we have read it.)
    if held_ns >= LONG_HOLD
        && let Some(usage) = exec.usage
    {
        held_ns = held_ns.max(usage.asleep_ns);
    }
    let held_ns = held_ns.min(exec.duration_ns());
    exec.begin_ns += held_ns;
    if let Some(usage) = &mut exec.usage {
        usage.asleep_ns = usage.asleep_ns.saturating_sub(held_ns);
    }
    held_ns
}

impl Open {
    fn has_entered(&self) -> bool {
        self.marks.iter().any(|(_, mark)| mark.mark == Mark::Entry)
    }

    fn binary(&self) -> Option<u32> {
        let executed = self.marks.iter().find(|(_, mark)| mark.mark == Mark::Executed);
        executed.and_then(|(_, mark)| u32::try_from(mark.value).ok())
    }
}
