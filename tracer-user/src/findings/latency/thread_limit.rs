//! The program is near a limit of threads: where one cannot be made, Go's runtime ends the program.

use super::Evidence;
use crate::{
    findings::{
        Outcome, Verdict,
        figures::{percent, share},
    },
    process::limits::{LimitedBy, ThreadLimit},
};

/// The part of a limit from which on it is near: a burst of blocking calls makes many threads at once.
const NEAR: f64 = 0.9;
/// Threads that Go allows a program, unless runtime/debug.SetMaxThreads has changed that (proc.go, `sched.maxmcount`).
const GO_ALLOWS: u64 = 10_000;

/// A limit of threads.
struct Bound {
    used: u64,
    most: u64,
    /// What it is.
    name: &'static str,
    advice: &'static str,
}

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let limits = evidence.limits;
    let bounds = [
        limits.thread_limit.map(of_kernel),
        limits.threads.map(|used| Bound {
            used,
            most: GO_ALLOWS,
            name: "what Go allows by default",
            advice: "runtime/debug.SetMaxThreads raises it; so many threads mostly mean that goroutines block in system calls \
                     or in C.",
        }),
    ];
    let nearest = bounds
        .into_iter()
        .flatten()
        .max_by(|a, b| a.part().total_cmp(&b.part()));
    let found = nearest.filter(|bound| bound.part() >= NEAR).map(|bound| {
        Verdict::warning(
            format!(
                "the program is near its limit of threads: {} of {}",
                bound.used, bound.most
            ),
            format!(
                "{} of {} are used ({}); the limit is {}",
                bound.used,
                bound.most,
                percent(bound.part()),
                bound.name
            ),
            format!(
                "Where a thread that is needed cannot be made, Go's runtime ends the program. {}",
                bound.advice
            ),
        )
    });
    found.into()
}

impl Bound {
    /// The part of it that is used.
    fn part(&self) -> f64 {
        share(self.used, self.most)
    }
}

fn of_kernel(limit: ThreadLimit) -> Bound {
    let (name, advice) = match limit.by {
        LimitedBy::Cgroup => (
            "pids.max of a cgroup, which counts all threads in it",
            "Raise pids.max (TasksMax= of systemd, --pids-limit of containers), or let fewer goroutines block in system calls \
             or in C at a time.",
        ),
        LimitedBy::User => (
            "RLIMIT_NPROC, which counts all threads of the user (used are those of this process alone)",
            "Raise it (ulimit -u, LimitNPROC= of systemd), or let fewer goroutines block in system calls or in C at a time.",
        ),
    };
    Bound {
        used: limit.used,
        most: limit.most,
        name,
        advice,
    }
}
