//! Very many goroutines became runnable at once, far more than there are at other times.

use super::{
    Evidence,
    evidence::middle_of,
    slow_wait::{describe, picture, ps_in, woken_by},
};
use crate::{
    findings::{Outcome, Verdict, figures::mean},
    model::sched::{Picture, SlowestWait},
    plan::Mode,
    stream::Origin,
};

/// Runnable goroutines for each P from which on it is a herd: a queue that long takes each P several turns.
const PER_P: u64 = 8;
/// Fewer are none, however few the Ps.
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
                "whether goroutines wait since many are woken at once, and by whom",
            ),
        };
    };
    let released = causes
        .slowest
        .iter()
        .filter(|wait| wait.origin == Some(Origin::Unblocked) && wait.duration_ns >= LONG_NS)
        .filter_map(|wait| Some((wait, wait.picture?)));
    let Some((wait, picture_of)) = released.max_by_key(|(_, picture)| picture.runnable) else {
        return Outcome::Ok;
    };
    let usual = evidence.at_a_time(causes.runnable_ns);
    if !is_herd(evidence, &picture_of, usual) {
        return Outcome::Ok;
    }
    Verdict::warning(
        format!("{} goroutines were runnable at once", picture_of.runnable),
        evidence_of(evidence, wait, usual),
        "Many goroutines that wait for one thing are woken together (Broadcast, a channel that is closed, timers that are due \
         at the same time), and all but a few of them wait for the Ps: wake as many as there is work for, spread what they \
         do over time, or let fewer goroutines wait.",
    )
    .at(Some(evidence.since_begin(middle_of(wait))))
    .into()
}

fn is_herd(evidence: &Evidence, picture: &Picture, usual: f64) -> bool {
    let ps = evidence.gomaxprocs.unwrap_or_else(|| ps_in(picture));
    let many = PER_P.saturating_mul(u64::from(ps)).max(LEAST);
    picture.runnable >= many && picture.runnable as f64 >= ABOVE_MEAN * usual
}

fn evidence_of(evidence: &Evidence, wait: &SlowestWait, usual: f64) -> String {
    let picture = picture(evidence, wait).unwrap_or_default();
    format!(
        "{picture}; on average there were {}. One of them: {}{}",
        mean(usual),
        describe(evidence, wait),
        woken_by(evidence, wait)
    )
}
