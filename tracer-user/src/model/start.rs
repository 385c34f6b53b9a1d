//! A start as a partition of its main thread's time: from the entry of `execve` to `main.main` every moment
//! belongs to exactly one phase.

use std::collections::BTreeMap;

use crate::stream::{
    Event, Kind, Observation,
    start::{Mark, StartCall, StartMark, Usage},
};

/// What the main thread is at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The kernel replaces the program, in `execve`.
    Exec,
    /// The dynamic loader maps shared libraries. A static binary has no such phase.
    Loader,
    /// From the program's first instruction to the call of `osinit`; with cgo the C library starts in it.
    Rt0,
    /// `runtime.osinit`.
    OsInit,
    /// `runtime.schedinit`.
    SchedInit,
    /// `newproc` makes the main goroutine.
    MainCreated,
    /// The scheduler starts, and begins to run the main goroutine.
    MainStarted,
    /// `runtime.main`, outside of package inits: it starts sysmon and the GC's helpers.
    RuntimeMain,
    /// The init of this package.
    Init(String),
}

impl Step {
    /// The name that text and JSON use.
    pub fn name(&self) -> String {
        match self {
            Self::Exec => "exec".to_owned(),
            Self::Loader => "loader".to_owned(),
            Self::Rt0 => "rt0".to_owned(),
            Self::OsInit => "osinit".to_owned(),
            Self::SchedInit => "schedinit".to_owned(),
            Self::MainCreated => "main_created".to_owned(),
            Self::MainStarted => "main_started".to_owned(),
            Self::RuntimeMain => "runtime_main".to_owned(),
            Self::Init(package) => format!("init:{package}"),
        }
    }
}

/// What stands in for the entry of `execve` where that was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Zero {
    /// The entry of the system call.
    Execve,
    /// The kernel's tracepoint `sched_prepare_exec`: the file is open.
    Prepared,
    /// The kernel's tracepoint `sched_process_exec`: the program is mapped.
    Executed,
}

impl Zero {
    /// The name that JSON uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Execve => "execve_entry",
            Self::Prepared => "sched_prepare_exec",
            Self::Executed => "sched_process_exec",
        }
    }
}

/// A stretch of the main thread's time.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// What it was at.
    pub step: Step,
    /// Begin, CLOCK_MONOTONIC.
    pub begin_ns: u64,
    /// End: where the next one begins.
    pub end_ns: u64,
    /// What it went through; absent where the kernel does not tell.
    pub usage: Option<Usage>,
}

impl Phase {
    /// How long it took.
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.begin_ns)
    }

    /// How long it was on a CPU.
    pub fn cpu_ns(&self) -> Option<u64> {
        Some(self.duration_ns().saturating_sub(self.usage?.off_cpu_ns()))
    }
}

/// A part of a phase, or of several, that has a name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// `mallocinit`, `gcinit`, `procresize`.
    pub name: &'static str,
    /// Begin, CLOCK_MONOTONIC.
    pub begin_ns: u64,
    /// End.
    pub end_ns: u64,
}

/// How a start ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// `main.main` began.
    Main,
    /// The process ended before.
    Exit,
    /// Nobody waited for it.
    Unfinished,
}

impl Ended {
    /// The name that JSON uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main.main",
            Self::Exit => "exit",
            Self::Unfinished => "unfinished",
        }
    }
}

/// A system call and when it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct CallAt {
    /// End, CLOCK_MONOTONIC; now for one that has not returned.
    pub end_ns: u64,
    /// The call.
    pub call: StartCall,
}

/// One start.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Process.
    pub pid: u32,
    /// What its times count from.
    pub zero: Zero,
    /// The partition, in order, without gap or overlap.
    pub phases: Vec<Phase>,
    /// Spans, by their begin.
    pub spans: Vec<Span>,
    /// (name, when) of single moments, on whatever thread, by time.
    pub marks: Vec<(String, u64)>,
    /// Slow system calls, by their end.
    pub calls: Vec<CallAt>,
    /// The number of Ps, where it was seen.
    pub gomaxprocs: Option<u32>,
    /// How it ended.
    pub ended: Ended,
}

impl Start {
    /// When it began, CLOCK_MONOTONIC.
    pub fn begin_ns(&self) -> u64 {
        self.phases.first().map_or(0, |phase| phase.begin_ns)
    }

    /// When it ended.
    pub fn end_ns(&self) -> u64 {
        self.phases.last().map_or(0, |phase| phase.end_ns)
    }

    /// How long it took.
    pub fn duration_ns(&self) -> u64 {
        self.end_ns().saturating_sub(self.begin_ns())
    }

    /// The phase at a moment.
    pub fn phase_at(&self, at_ns: u64) -> Option<&Phase> {
        self.phases
            .iter()
            .find(|phase| phase.begin_ns <= at_ns && at_ns < phase.end_ns)
    }

    /// Calls that overlap a phase, with the time that they share with it, the longest first.
    pub fn calls_in(&self, phase: &Phase) -> Vec<(u64, &CallAt)> {
        let shared = |call: &CallAt| {
            let begin = call
                .end_ns
                .saturating_sub(call.call.duration_ns)
                .max(phase.begin_ns);
            call.end_ns.min(phase.end_ns).checked_sub(begin)
        };
        let mut calls: Vec<(u64, &CallAt)> = self
            .calls
            .iter()
            .filter_map(|call| shared(call).map(|ns| (ns, call)))
            .collect();
        calls.sort_by_key(|(shared, _)| std::cmp::Reverse(*shared));
        calls
    }
}

/// Starts on their way, put together from what is observed.
#[derive(Clone, Debug, Default)]
pub struct Starts {
    /// Whether the dynamic loader runs before the program's own first instruction.
    dynamic: bool,
    open: BTreeMap<u32, Open>,
    /// Marks and calls of all that are open.
    held: usize,
}

/// A start that has not ended.
#[derive(Clone, Debug, Default)]
struct Open {
    marks: Vec<(u64, StartMark)>,
    calls: Vec<CallAt>,
}

/// No more processes are followed at once than this; those of `attach --next` that call execve and turn out to
/// run another program are forgotten by it.
const MOST_OPEN: usize = 4_096;
/// Nor more of their marks and calls than this are held: the process that began first is forgotten then, too. A
/// start has some hundred.
const MOST_HELD: usize = 1 << 21;

impl Starts {
    /// Nothing observed yet.
    pub fn new(dynamic: bool) -> Self {
        Self {
            dynamic,
            open: BTreeMap::new(),
            held: 0,
        }
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
                self.hold_one_more();
                None
            }
            _ => None,
        }
    }

    /// Whether a process has come to its own first instruction and not to `main.main`.
    pub fn is_open(&self, pid: u32) -> bool {
        self.open.get(&pid).is_some_and(Open::has_entered)
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
        let open = self.open.entry(mark.pid).or_default();
        open.marks.push((at_ns, mark.clone()));
        self.hold_one_more();
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
            .min_by_key(|(_, open)| open.marks.first().map(|(at_ns, _)| *at_ns))
            .map(|(pid, _)| *pid);
        if let Some(pid) = oldest {
            self.remove(pid);
        }
    }

    fn remove(&mut self, pid: u32) -> Option<Open> {
        let open = self.open.remove(&pid)?;
        self.held = self.held.saturating_sub(open.marks.len() + open.calls.len());
        Some(open)
    }

    fn hold_one_more(&mut self) {
        self.held += 1;
        if self.held > MOST_HELD {
            self.forget_oldest();
        }
    }

    fn close(&self, pid: u32, open: Open, end_ns: u64, ended: Ended) -> Option<Start> {
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
        Some(Start {
            pid,
            zero,
            phases: partition(&marks, self.dynamic, end_ns),
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

impl Open {
    fn has_entered(&self) -> bool {
        self.marks.iter().any(|(_, mark)| mark.mark == Mark::Entry)
    }
}

/// What begins with a mark; `None` for marks that end no phase.
fn begins(mark: &StartMark, dynamic: bool) -> Option<Step> {
    Some(match mark.mark {
        Mark::Execve | Mark::ExecPrepared => Step::Exec,
        Mark::Executed if dynamic => Step::Loader,
        Mark::Entry => Step::Rt0,
        Mark::OsInit => Step::OsInit,
        Mark::SchedInit => Step::SchedInit,
        Mark::NewProc => Step::MainCreated,
        Mark::MStart => Step::MainStarted,
        Mark::RuntimeMain | Mark::InitEnd => Step::RuntimeMain,
        Mark::InitBegin => Step::Init(mark.name.clone().unwrap_or_else(|| "?".to_owned())),
        _ => return None,
    })
}

/// The phases: each lasts from the mark that begins it to the next that begins another. A mark that was not seen
/// leaves its phase to the one before.
fn partition(marks: &[(u64, StartMark)], dynamic: bool, end_ns: u64) -> Vec<Phase> {
    let first_is_exec = marks
        .first()
        .is_some_and(|(_, mark)| mark.mark == Mark::Executed && !dynamic);
    let mut begins: Vec<(u64, Step, Option<Usage>)> = marks
        .iter()
        .filter_map(|(at_ns, mark)| Some((*at_ns, begins(mark, dynamic)?, mark.usage)))
        .collect();
    if first_is_exec && let Some((at_ns, mark)) = marks.first() {
        // What is left of execve when its tracepoint is the first that was seen.
        begins.insert(0, (*at_ns, Step::Exec, mark.usage));
    }
    let last = marks.last().and_then(|(_, mark)| mark.usage);
    let ends = begins
        .iter()
        .skip(1)
        .map(|(at_ns, _, usage)| (*at_ns, *usage))
        .chain([(end_ns, last)])
        .collect::<Vec<_>>();
    begins
        .into_iter()
        .zip(ends)
        .map(|((begin_ns, step, before), (end_ns, after))| Phase {
            step,
            begin_ns,
            end_ns,
            usage: before.zip(after).map(|(before, after)| after.since(&before)),
        })
        .collect()
}

/// Pairs of marks with a name.
const SPANS: [(Mark, Mark, &str); 3] = [
    (Mark::MallocInitBegin, Mark::MallocInitEnd, "mallocinit"),
    (Mark::GcInitBegin, Mark::GcInitEnd, "gcinit"),
    (Mark::ProcResizeBegin, Mark::ProcResizeEnd, "procresize"),
];

fn spans(marks: &[(u64, StartMark)]) -> Vec<Span> {
    let at = |wanted: Mark| {
        marks
            .iter()
            .find(|(_, mark)| mark.mark == wanted)
            .map(|(at, _)| *at)
    };
    let mut spans: Vec<Span> = SPANS
        .into_iter()
        .filter_map(|(begin, end, name)| {
            let (begin_ns, end_ns) = (at(begin)?, at(end)?);
            (begin_ns <= end_ns).then_some(Span {
                name,
                begin_ns,
                end_ns,
            })
        })
        .collect();
    spans.sort_by_key(|span| span.begin_ns);
    spans
}

/// The single moments, each the first of its kind.
fn moments(marks: &[(u64, StartMark)]) -> Vec<(String, u64)> {
    let mut moments: Vec<(String, u64)> = Vec::new();
    for (at_ns, mark) in marks {
        let name = match mark.mark {
            Mark::Sysmon => "sysmon".to_owned(),
            Mark::PBound => format!("p_bound:{}", mark.value),
            Mark::GcStart => "first_gc".to_owned(),
            Mark::StopTheWorld => "first_stw".to_owned(),
            // The runtime's own helpers come first.
            Mark::GoStatement
                if !mark
                    .name
                    .as_deref()
                    .is_some_and(|name| name.starts_with("runtime.")) =>
            {
                "first_goroutine".to_owned()
            }
            Mark::MainMain => "main.main".to_owned(),
            _ => continue,
        };
        if !moments.iter().any(|(known, _)| *known == name) {
            moments.push((name, *at_ns));
        }
    }
    moments
}

#[cfg(test)]
mod tests;
