//! Most of what looks like waiting to run is goroutines that gave way of their own will.

use super::Evidence;
use crate::{
    findings::{
        Outcome, Verdict,
        figures::{percent, share},
    },
    latency::Histogram,
    plan::Mode,
    stream::Origin,
};

/// Their part of all waits from which on they are most.
const MOST: f64 = 0.5;
/// Fewer cost nothing.
const LEAST: u64 = 1_000;

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let all = evidence.latency.total().count();
    if !evidence.knows_yields {
        // In the modes that see every wait it is the layout of a goroutine that is not known: no mode would do better.
        return match evidence.mode {
            Mode::Passive | Mode::Sampled if all >= LEAST => {
                Outcome::recheck(Mode::Exact, "how many of the waits are voluntary yields")
            }
            _ => Outcome::Ok,
        };
    }
    let yields = evidence.waits(Origin::Yielded).map_or(0, Histogram::count);
    let share = share(yields, all);
    let found = (yields >= LEAST && share >= MOST).then(|| {
        Verdict::info(
            format!("{} of all waits to run are voluntary yields", percent(share)),
            format!("{yields} of {all} waits came after runtime.Gosched; they are left out of the figures"),
            "A goroutine that yields could have run on. Where the program polls for something in a loop, let it block on a \
             channel or a condition; the garbage collector yields so as well, while it sweeps.",
        )
    });
    found.into()
}
