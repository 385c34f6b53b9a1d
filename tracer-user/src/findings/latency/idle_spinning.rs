//! Threads spend much of the program's CPU time on looking for goroutines to run, and find none.
//!
//! A thread that is woken takes a P, looks through all run queues, timers and the network poller, some of them several
//! times (proc.go, `findRunnable`), gives the P back and sleeps again. That is the price of each wake-up that another
//! thread has dealt with meanwhile, and of each after which there is nothing left to do.

use super::{Evidence, WITHOUT_THREADS};
use crate::{
    findings::{
        Outcome, Verdict,
        figures::{duration, mean, percent, share},
    },
    plan::Mode,
};

/// A program that is woken now and then spends much of the little CPU time that it uses on looking for more work. From a
/// fifth of it on, if that is also a twentieth of a CPU, it is worth a change.
const MUCH: f64 = 0.2;
const LEAST_CPUS: f64 = 0.05;

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let what = "how much CPU time threads spend on looking for work";
    let Some(report) = evidence.report else {
        return Outcome::recheck(Mode::Full, what);
    };
    if !evidence.sees_threads() {
        return Outcome::recheck(Mode::Full, format!("{what}{WITHOUT_THREADS}"));
    }
    let (searches, on_cpu_ns) = (&report.searches, report.world.on_cpu_ns);
    let (part, cpus) = (
        share(searches.in_vain_ns, on_cpu_ns),
        evidence.at_a_time(searches.in_vain_ns),
    );
    if part < MUCH || cpus < LEAST_CPUS {
        return Outcome::Ok;
    }
    Verdict::info(
        format!(
            "threads looked for work and found none for {} of the program's CPU time",
            percent(part)
        ),
        format!(
            "{} of {} on CPUs, {} CPUs on average, the probes included; {} of {} searches of threads with a P found no \
             goroutine to run",
            duration(searches.in_vain_ns),
            duration(on_cpu_ns),
            mean(cpus),
            searches.in_vain,
            searches.in_vain.saturating_add(searches.found)
        ),
        "Threads are woken very often for very little: by many short timers, by file descriptors that are ready again \
         and again, or by goroutines that hand each other small pieces of work. Let timers fire less often and \
         together, hand over more at once, or lower GOMAXPROCS, so that fewer threads look for the same work.",
    )
    .into()
}
