//! Goroutines that a lock was passed to, and that then waited long to run: whoever needs it next waits for that, too.

use super::{
    Evidence,
    evidence::middle_of,
    slow_wait::{describe, woken_by},
};
use crate::{
    findings::{Outcome, Verdict, figures::duration},
    model::sched::SlowestWait,
    plan::Mode,
};

/// From here on a wait for a CPU is long for a goroutine that others may wait for: it is the time after which sync.Mutex
/// hands itself over to the first that waits, instead of letting all compete (sync/mutex.go, `starvationThresholdNs`).
const LONG_NS: u64 = 1_000_000;
/// So many of the longest waits must be such: one may be chance.
const LEAST: usize = 3;
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
    let waits: Vec<&SlowestWait> = causes
        .slowest
        .iter()
        .filter(|wait| wait.duration_ns >= LONG_NS && is_after_lock(evidence, wait))
        .collect();
    let Some(longest) = waits.first().copied().filter(|_| waits.len() >= LEAST) else {
        return Outcome::Ok;
    };
    Verdict::warning(
        format!(
            "goroutines that got a lock waited up to {} to run with it",
            duration(longest.duration_ns)
        ),
        format!(
            "{} of the {} longest waits to run came after a wait for a lock, and took more than {}; the longest: {}{}",
            waits.len(),
            causes.slowest.len(),
            duration(LONG_NS),
            describe(evidence, longest),
            woken_by(evidence, longest)
        ),
        "Whoever waits for the lock next waits for a goroutine that does not run. Hold it for less time, share it among fewer \
         goroutines, or let goroutines not compute for long after they have unlocked it; and see what keeps the Ps busy.",
    )
    .at(Some(evidence.since_begin(middle_of(longest))))
    .into()
}

fn is_after_lock(evidence: &Evidence, wait: &SlowestWait) -> bool {
    let is_old = evidence.go_minor.is_some_and(|minor| minor < NAMES_LOCKS);
    wait.after
        .as_deref()
        .is_some_and(|reason| LOCKS.contains(&reason) || (is_old && reason == SEMAPHORE))
}
