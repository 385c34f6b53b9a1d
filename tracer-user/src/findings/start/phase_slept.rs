//! A phase that slept for most of its time, and the system calls that it made meanwhile.

use super::{MOST, PhaseEvidence, calls};
use crate::findings::{Verdict, figures::milliseconds};

/// Sleep below this comes with every start: threads wait for each other, pages are read.
const SLEEP_NS: u64 = 5_000_000;

pub(super) fn check(evidence: &PhaseEvidence) -> Option<Verdict> {
    let (start, phase, took) = (evidence.of.start, evidence.phase, evidence.took_ns);
    // The kernel counts a sleep when it ends: the one in which a start was cut off is missing.
    let still = if evidence.unfinished {
        calls::pending_ns(start, phase)
    } else {
        0
    };
    let asleep = evidence.usage.asleep_ns.max(still);
    (asleep >= SLEEP_NS && asleep >= took / MOST).then(|| {
        Verdict::warning(
            format!("{} waited for {}", phase.kind.name(), milliseconds(asleep)),
            format!(
                "it {} {}, and its thread was asleep for {} of it{}",
                if evidence.unfinished {
                    "had not ended after"
                } else {
                    "took"
                },
                milliseconds(took),
                milliseconds(asleep),
                calls::meanwhile(start, phase)
            ),
            "Nothing else starts meanwhile: package inits run one after the other. Do it later, when it is \
             needed, or with a shorter timeout.",
        )
    })
}
