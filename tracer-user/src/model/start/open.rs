//! Follows the starts that have begun and not ended, by their marks. Memory is bounded: past a limit the oldest is
//! forgotten.

use std::collections::{BTreeMap, BTreeSet};

use tracer_ebpf::start::binary;

use super::{
    CallAt, Ended, Phase, Start, TimesFrom,
    partition::{moments, partition, spans},
};
use crate::stream::{
    Event, Kind, Observation,
    start::{Mark, StartMark},
};

/// Starts that have begun and not ended, put together from observations.
#[derive(Clone, Debug, Default)]
pub struct Starts {
    /// Binaries in which the dynamic loader runs before the program's own first instruction.
    dynamic: BTreeSet<u32>,
    open: BTreeMap<u32, Open>,
    /// The number of marks and calls that are kept, of all that are open.
    pieces: usize,
    /// (until when, how long) processes were held in their last `execve`, which may be reported before its entry.
    held: BTreeMap<u32, Vec<(u64, u64)>>,
}

/// A start that has not ended.
#[derive(Clone, Debug, Default)]
struct Open {
    marks: Vec<(u64, StartMark)>,
    calls: Vec<CallAt>,
}

/// Most processes that are followed at once. Those that call execve and then run another program leave only by this
/// limit.
const MOST_OPEN: usize = 4_096;
/// Most marks and calls that are kept: a start has some hundred.
const MOST_PIECES: usize = 1 << 21;
/// Most times that one process was held in an `execve`.
const MOST_HELD: usize = 64;

impl Starts {
    /// Records that the dynamic loader runs before the first instruction of this binary.
    pub fn set_dynamic(&mut self, binary: u32) {
        self.dynamic.insert(binary);
    }

    /// Applies one observation. Returns the start that ended by it.
    pub fn observe(&mut self, observation: &Observation) -> Option<Start> {
        match &observation.kind {
            Kind::Event(Event::StartMark(mark)) => self.mark(observation.at_ns, mark),
            Kind::Event(Event::StartCall(call)) => {
                let open = self.open.get_mut(&call.pid)?;
                open.calls.push(CallAt {
                    end_ns: observation.at_ns,
                    call: call.clone(),
                });
                self.count_piece();
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

    /// Whether a process has reached its own first instruction, and its start has not ended.
    pub fn is_open(&self, pid: u32) -> bool {
        self.open.get(&pid).is_some_and(Open::has_entered)
    }

    /// Whether Go's runtime has begun in a process whose start is open.
    pub fn has_runtime(&self, pid: u32) -> bool {
        self.open.get(&pid).is_some_and(Open::has_runtime)
    }

    /// Whether a start of this binary is open.
    pub fn has_open(&self, binary: u32) -> bool {
        self.open.values().any(|open| open.binary() == Some(binary))
    }

    /// Processes that have reached their first instruction and whose starts have not ended.
    pub fn open(&self) -> Vec<u32> {
        let entered = self.open.iter().filter(|(_, open)| open.has_entered());
        entered.map(|(pid, _)| *pid).collect()
    }

    /// Ends the start of a process at this moment, in whatever phase it is.
    pub fn cut(&mut self, pid: u32, now_ns: u64) -> Option<Start> {
        let open = self.remove(pid)?;
        self.close(pid, open, now_ns, Ended::Unfinished)
    }

    fn mark(&mut self, at_ns: u64, mark: &StartMark) -> Option<Start> {
        if mark.mark == Mark::Execve || mark.mark == Mark::ExecPrepared {
            // A process whose execve failed may try again.
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
            // On a kernel without `sched_prepare_exec`: the program that called execve had itself just been executed.
            self.remove(mark.pid);
        }
        if self.open.len() >= MOST_OPEN && !self.open.contains_key(&mark.pid) {
            self.forget_oldest();
        }
        if mark.mark == Mark::Executed && !u32::try_from(mark.value).is_ok_and(binary::is_traced) {
            // Another program, of which nothing more is recorded.
            self.remove(mark.pid);
            self.held.remove(&mark.pid);
            return None;
        }
        let open = self.open.entry(mark.pid).or_default();
        open.marks.push((at_ns, mark.clone()));
        self.count_piece();
        let ended = match mark.mark {
            Mark::MainMain => Ended::Main,
            Mark::LibraryReady => Ended::Library,
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

    /// Counts a mark or a call that was kept; past the limit, forgets the start that began first.
    fn count_piece(&mut self) {
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
        // Marks of several threads come in the order of the ring.
        marks.sort_by_key(|(at_ns, _)| *at_ns);
        let (_, first) = marks.first()?;
        let end_ns = marks.last().map_or(end_ns, |(last, _)| end_ns.max(*last));
        let zero = match first.mark {
            Mark::Execve => TimesFrom::Execve,
            Mark::ExecPrepared => TimesFrom::Prepared,
            _ => TimesFrom::Executed,
        };
        let mut phases = partition(&marks, dynamic, end_ns);
        let held_ns = phases.first_mut().map_or(0, |exec| subtract_hold(exec, &held));
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

/// A process that was held for this long waited until its program was analysed.
const LONG_HOLD_NS: u64 = 1_000_000;

/// Subtracts the time for which the process was held from its first phase. Returns that time.
fn subtract_hold(exec: &mut Phase, held: &[(u64, u64)]) -> u64 {
    let within = held
        .iter()
        .filter(|(until_ns, _)| (exec.begin_ns..=exec.end_ns).contains(until_ns));
    let mut held_ns = within.fold(0u64, |sum, (_, ns)| sum.saturating_add(*ns));
    // A process that was held so long then waits for a CPU, which the kernel counts as sleep, too. (Whether its file
    // would have had to be read from disk cannot be seen: we have read it.)
    if held_ns >= LONG_HOLD_NS
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
    /// Whether the program's first instruction was reached.
    fn has_entered(&self) -> bool {
        self.marks.iter().any(|(_, mark)| mark.mark == Mark::Entry)
    }

    /// Whether an instruction of Go's runtime was reached.
    fn has_runtime(&self) -> bool {
        let of_runtime = |mark: Mark| mark >= Mark::OsInit;
        self.marks.iter().any(|(_, mark)| of_runtime(mark.mark))
    }

    /// The number of the binary that was executed.
    fn binary(&self) -> Option<u32> {
        let executed = self.marks.iter().find(|(_, mark)| mark.mark == Mark::Executed);
        executed.and_then(|(_, mark)| u32::try_from(mark.value).ok())
    }
}
