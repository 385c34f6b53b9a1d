//! Very many goroutines became runnable at once, far more than there are at other times.

use super::{
    Evidence,
    slow_wait::{describe, woken_by},
};
use crate::{
    findings::{
        Outcome, Severity, Verdict,
        figures::{mean, moment},
    },
    model::sched::{Peak, SlowestWait},
    plan::Mode,
    stream::Origin,
};

/// Runnable goroutines for each P from which on it is a herd: a queue that long takes each P several turns.
const PER_P: u64 = 8;
/// Fewer are not a herd, however few the Ps.
const LEAST: u64 = 64;
/// How many times the mean of the window it must be: where there are always so many, they are not released at once.
const ABOVE_MEAN: f64 = 3.0;
/// Where the last of them waits for less, it does not matter.
const LONG_NS: u64 = 1_000_000;

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let Some(causes) = evidence.causes else {
        // Where nobody waits for long, there is no herd that matters.
        return match evidence.latencies().count_above(LONG_NS) {
            0 => Outcome::Ok,
            _ => Outcome::recheck(
                Mode::Full,
                "whether goroutines wait because many are woken at once, and by whom",
            ),
        };
    };
    let Peak {
        runnable,
        woken,
        at_ns,
    } = causes.peak;
    let usual = evidence.at_a_time(causes.runnable_ns);
    let mut released = causes
        .slowest
        .iter()
        .filter(|wait| wait.origin == Some(Origin::Unblocked) && wait.duration_ns >= LONG_NS);
    if released.clone().next().is_none() || woken < runnable / 2 || !is_herd(evidence, runnable, usual) {
        return Outcome::Ok;
    }
    // Others were woken at another time, and are no example.
    let then = |wait: &&SlowestWait| {
        let waited = wait.begin_ns..=wait.begin_ns.saturating_add(wait.duration_ns);
        waited.contains(&at_ns)
    };
    let longest = released.find(then);
    let described = longest.map_or_else(String::new, |wait| {
        format!(
            ". The longest wait of one that was woken: {}{}",
            describe(evidence, wait),
            woken_by(evidence, wait)
        )
    });
    let verdict = Verdict::warning(
        format!("{runnable} goroutines were runnable at once"),
        format!(
            "at {}, {woken} of them because they had been woken, while on average there were {}{described}",
            moment(evidence.since_begin(at_ns)),
            mean(usual),
        ),
        "Many goroutines that wait for one thing are woken together (Broadcast, a channel that is closed, timers that are due \
         at the same time), and all but a few of them wait for the Ps: wake as many as there is work for, spread what they \
         do over time, or let fewer goroutines wait.",
    )
    .at(Some(evidence.since_begin(at_ns)));
    Verdict {
        severity: match longest {
            Some(_) => Severity::Warning,
            None => Severity::Info,
        },
        ..verdict
    }
    .into()
}

fn is_herd(evidence: &Evidence, runnable: u64, usual: f64) -> bool {
    let ps = evidence.gomaxprocs.unwrap_or(1);
    let many = PER_P.saturating_mul(u64::from(ps)).max(LEAST);
    runnable >= many && runnable as f64 >= ABOVE_MEAN * usual
}
