//! Very many threads are in system calls or in C: each needs a thread of its own, and its P another one.

use super::Evidence;
use crate::{
    findings::{
        Outcome, Severity, Verdict,
        figures::{counted, moment},
    },
    model::sched::{Report, State},
    plan::Mode,
};

/// Goroutines in system calls for each P from which on they are many: with so many, threads are what the program consists
/// of, and Ps change hands all the time.
const PER_P: u64 = 8;
/// Fewer are usual, however few the Ps.
const LEAST: u64 = 32;
/// From here on it is a warning: a tenth of the threads that Go allows a program by default (runtime/debug.SetMaxThreads).
const VERY_MANY: u64 = 1_000;

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let seen = match evidence.report {
        Some(report) => most_in(report),
        None => at_the_end(evidence).map(|count| (count, None)),
    };
    let Some((count, at_ns)) = seen else {
        return Outcome::recheck(Mode::Full, "how many goroutines are in system calls or in C");
    };
    let many = PER_P
        .saturating_mul(u64::from(evidence.gomaxprocs.unwrap_or(0)))
        .max(LEAST);
    if count < many {
        return Outcome::Ok;
    }
    let at_ns = at_ns.map(|at_ns| evidence.since_begin(at_ns));
    let when = at_ns.map_or_else(|| "at the end".to_owned(), moment);
    Verdict {
        severity: match count >= VERY_MANY {
            true => Severity::Warning,
            false => Severity::Info,
        },
        title: format!("{count} goroutines were in system calls or in C at a time"),
        evidence: format!(
            "{when} {count} goroutines were in system calls or in C, each with a thread of its own{}{}",
            ps(evidence.gomaxprocs),
            evidence.report.map_or_else(String::new, threads)
        ),
        advice: "Use the network poller (package net, files opened by os.Open that can be polled) in place of calls that \
                 block, and bound how many goroutines call C or block at a time. Each such thread costs memory and two \
                 switches by the kernel, and the number of threads is limited."
            .to_owned(),
        at_ns,
    }
    .into()
}

/// The most goroutines in system calls at the regular moments of the history, and when that was, CLOCK_MONOTONIC.
fn most_in(report: &Report) -> Option<(u64, Option<u64>)> {
    let in_syscalls = |living: &[u64; State::COUNT]| living.get(State::Syscall as usize).copied();
    let history = &report.history;
    let moments = (1u64..).zip(&history.moments);
    let most = moments
        .filter_map(|(number, living)| Some((in_syscalls(living)?, number)))
        .max();
    let now = in_syscalls(&report.living)?;
    match most {
        Some((count, number)) if count >= now => {
            let at_ns = history
                .begin_ns
                .saturating_add(history.step_ns.saturating_mul(number));
            Some((count, Some(at_ns)))
        }
        _ => Some((now, Some(report.end_ns))),
    }
}

/// Goroutines in system calls at the last reading of memory; `None` where states were not read.
fn at_the_end(evidence: &Evidence) -> Option<u64> {
    let states = &evidence.model.last()?.goroutines_by_state;
    if states.is_empty() {
        return None;
    }
    let count = states.iter().find(|(state, _)| state == State::Syscall.name());
    Some(count.map_or(0, |(_, count)| *count))
}

fn ps(gomaxprocs: Option<u32>) -> String {
    gomaxprocs.map_or_else(String::new, |ps| format!("; GOMAXPROCS is {ps}"))
}

fn threads(report: &Report) -> String {
    let handed_off = report
        .processors
        .iter()
        .fold(0u64, |sum, p| sum.saturating_add(p.handed_off));
    format!(
        "; of {} {} parked at the end; Ps were taken back from such threads {}, for which {} made",
        counted(report.machines.known, "thread"),
        match report.machines.parked {
            1 => "1 was".to_owned(),
            n => format!("{n} were"),
        },
        counted(handed_off, "time"),
        match report.world.created_for_processor {
            1 => "1 thread was".to_owned(),
            n => format!("{n} threads were"),
        }
    )
}
