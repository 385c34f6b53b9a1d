//! A phase that computed for most of its time and met many page faults.

use super::{MOST, PhaseEvidence, stage::Stage};
use crate::findings::{Outcome, Verdict, figures::milliseconds};

/// Page faults below this come with every start.
const FAULTS: u64 = 1_000;

pub(super) fn check(evidence: &PhaseEvidence) -> Outcome {
    let (usage, took, cpu) = (&evidence.usage, evidence.took_ns, evidence.cpu_ns);
    let faults = usage.minor_faults.saturating_add(usage.major_faults);
    let found = (faults >= FAULTS && cpu >= took / MOST).then(|| {
        Verdict::warning(
            format!("{} met {faults} page faults", evidence.phase.kind.name()),
            format!(
                "it took {}, {} of it on the CPU, with {faults} page faults ({} read from disk)",
                milliseconds(took),
                milliseconds(cpu),
                usage.major_faults
            ),
            match Stage::of(&evidence.phase.kind) {
                Stage::Loading => {
                    "The dynamic loader relocates addresses in the program and its libraries, and touches their pages: fewer \
                     libraries, or a program that is not position-independent (-buildmode=exe), needs fewer."
                }
                Stage::BeforeGo => {
                    "The C library or a constructor of linked C code touches memory for the first time."
                }
                Stage::Runtime => {
                    "Go's runtime touches its own tables for the first time: their size follows that of the program and of \
                     GOMAXPROCS."
                }
                Stage::Init => {
                    "Memory is touched for the first time: large tables that are built in an init. Build them when they \
                     are needed, or keep them as data that needs no building."
                }
            },
        )
    });
    found.into()
}
