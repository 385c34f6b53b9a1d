//! A phase that slept for most of its time, and the system calls that it made meanwhile.

use super::{MOST, PhaseEvidence, calls, stage::Stage};
use crate::findings::{Outcome, Verdict, figures::milliseconds};

/// Sleep below this comes with every start: threads wait for each other, pages are read.
const SLEEP_NS: u64 = 5_000_000;

pub(super) fn check(evidence: &PhaseEvidence) -> Outcome {
    let (start, phase, took) = (evidence.of.start, evidence.phase, evidence.took_ns);
    // The kernel counts a sleep when it ends: the one in which a start was cut off is missing.
    let still = if evidence.unfinished {
        calls::pending_ns(start, phase)
    } else {
        0
    };
    let asleep = evidence.usage.asleep_ns.max(still);
    let found = (asleep >= SLEEP_NS && asleep >= took / MOST).then(|| {
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
            match Stage::of(&phase.kind) {
                Stage::Loading => {
                    "The program and its libraries are read from a disk or over a network: a page cache that is warm, a \
                     faster file system, or a smaller or static program shortens it."
                }
                Stage::BeforeGo => {
                    "Go's runtime has not begun: the C library or a constructor of linked C code waits for something."
                }
                Stage::Runtime => {
                    "Go's runtime itself waits in this phase, for a thread that it has made or for the kernel: look for what \
                     else keeps the CPUs busy."
                }
                Stage::Init => {
                    "Nothing else starts meanwhile: package inits run one after the other. Do it later, when it is \
                     needed, or with a shorter timeout."
                }
            },
        )
    });
    found.into()
}
