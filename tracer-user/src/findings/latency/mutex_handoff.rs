//! Goroutines that a lock was passed to, and that then waited long to run: whoever needs it next waits for that, too.

use super::{
    Evidence,
    evidence::middle_of,
    slow_wait::{describe, woken_by},
};
use crate::{
    findings::{
        Outcome, Verdict,
        figures::{duration, share},
    },
    latency::Histogram,
    plan::Mode,
    stream::BucketScheme,
};

/// From here on a wait for a CPU is long for a goroutine that others may wait for: it is the time after which sync.Mutex
/// hands itself over to the first that waits, instead of letting all compete (sync/mutex.go, `starvationThresholdNs`).
const LONG_NS: u64 = 1_000_000;
/// So many waits must be such, and this share of all that came after a lock: a few may be chance.
const LEAST: u64 = 3;
/// See [`LEAST`].
const LEAST_SHARE: f64 = 0.01;
/// The runtime's reasons of waits for a lock, from Go 1.21 on.
const LOCKS: [&str; 3] = ["sync.Mutex.Lock", "sync.RWMutex.Lock", "sync.RWMutex.RLock"];
/// The first minor version of Go that has them. Before, all that waited for semaphores had the same reason.
const NAMES_LOCKS: u32 = 21;
/// That reason.
const SEMAPHORE: &str = "semacquire";

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let Some(causes) = evidence.causes else {
        // Where nobody waits for long, nobody does so after a lock.
        return match evidence.latencies().count_above(LONG_NS) {
            0 => Outcome::Ok,
            _ => Outcome::recheck(
                Mode::Full,
                "whether goroutines that get a lock wait long before they run with it",
            ),
        };
    };
    let mut waits = Histogram::new(BucketScheme::Kernel);
    for (_, delta) in causes
        .after
        .iter()
        .filter(|(reason, _)| is_lock(evidence, reason))
    {
        waits.add_delta(delta);
    }
    let long = waits.count_above(LONG_NS);
    if long < LEAST || share(long, waits.count()) < LEAST_SHARE {
        return Outcome::Ok;
    }
    let longest = causes.slowest.iter().find(|wait| {
        wait.after
            .as_deref()
            .is_some_and(|reason| is_lock(evidence, reason))
    });
    let longest_ns = waits.extremes_ns().map_or(LONG_NS, |(_, longest_ns)| longest_ns);
    let example = longest.map_or_else(String::new, |wait| {
        format!(
            "; the longest: {}{}",
            describe(evidence, wait),
            woken_by(evidence, wait)
        )
    });
    Verdict::warning(
        format!(
            "goroutines that got a lock waited up to {} to run with it",
            duration(longest_ns)
        ),
        format!(
            "{long} of the {} waits to run that came after a wait for a lock took more than {}{example}",
            waits.count(),
            duration(LONG_NS)
        ),
        "Whoever waits for the lock next waits for a goroutine that does not run. Hold it for less time, share it among fewer \
         goroutines, or let goroutines not compute for long after they have unlocked it; and see what keeps the Ps busy.",
    )
    .at(longest.map(|wait| evidence.since_begin(middle_of(wait))))
    .into()
}

fn is_lock(evidence: &Evidence, reason: &str) -> bool {
    let is_old = evidence.go_minor.is_some_and(|minor| minor < NAMES_LOCKS);
    LOCKS.contains(&reason) || is_old && reason == SEMAPHORE
}
