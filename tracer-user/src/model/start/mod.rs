//! How a program started, as a partition of its main thread's time: from the entry of `execve` to `main.main` every
//! moment belongs to exactly one phase.
//!
//! Where Go is a library in a C program, its runtime starts on a thread of its own (asm_amd64.s, `_rt0_amd64_lib`) while
//! the program's constructors, and then its `main`, run on the first one. The phases from `osinit` on are that thread's.

mod open;
mod partition;

use crate::stream::start::{StartCall, Usage};

pub use open::Starts;

/// What the main thread does in a phase.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PhaseKind {
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

impl PhaseKind {
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

/// The moment that a start's times count from: the entry of `execve`, or what was seen first in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimesFrom {
    /// The entry of the system call.
    Execve,
    /// The kernel's tracepoint `sched_prepare_exec`: the file is open.
    Prepared,
    /// The kernel's tracepoint `sched_process_exec`: the program is mapped.
    Executed,
}

impl TimesFrom {
    /// Every one, the earliest first.
    pub const ALL: [Self; 3] = [Self::Execve, Self::Prepared, Self::Executed];

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
    /// What the thread did.
    pub kind: PhaseKind,
    /// Begin, CLOCK_MONOTONIC.
    pub begin_ns: u64,
    /// End: where the next one begins.
    pub end_ns: u64,
    /// Sleep, waits for a CPU and page faults in it; absent where the kernel does not report them.
    pub usage: Option<Usage>,
}

impl Phase {
    /// How long it took.
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.begin_ns)
    }

    /// How long the thread was on a CPU.
    pub fn cpu_ns(&self) -> Option<u64> {
        Some(self.duration_ns().saturating_sub(self.usage?.off_cpu_ns()))
    }
}

/// A part of a phase, or of several, with a name of its own.
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
    /// Go is a library in a C program, and its runtime has run every init: `main.main` is never called.
    Library,
    /// The process ended before.
    Exit,
    /// It had reached neither when it was cut off.
    Unfinished,
}

impl Ended {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Main, Self::Library, Self::Exit, Self::Unfinished];

    /// Whether it came to its end: nothing of it is missing.
    pub const fn is_whole(self) -> bool {
        matches!(self, Self::Main | Self::Library)
    }

    /// The name that JSON uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main.main",
            Self::Library => "library_ready",
            Self::Exit => "exit",
            Self::Unfinished => "unfinished",
        }
    }
}

/// A system call and when it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct CallAt {
    /// End, CLOCK_MONOTONIC; of a call that has not returned, when it was read.
    pub end_ns: u64,
    /// The call.
    pub call: StartCall,
}

/// One start.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// The process.
    pub pid: u32,
    /// The number of the binary that it runs, as the source gave it.
    pub binary: u32,
    /// What its times count from.
    pub zero: TimesFrom,
    /// How long we held it in `execve`: its first phase begins later by this much, and its sleep is shorter by it.
    pub held_ns: u64,
    /// The partition, in order, without gap or overlap.
    pub phases: Vec<Phase>,
    /// Spans, by their begin.
    pub spans: Vec<Span>,
    /// (name, when) of single moments, on any thread, by time.
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

#[cfg(test)]
mod tests;
