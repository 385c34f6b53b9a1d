//! The start went on in another process: something before Go's runtime forked, and waited for the child.

use super::{Evidence, stage::Stage};
use crate::findings::{Outcome, Verdict};

/// System calls that wait for a child.
const WAITS: [&str; 2] = ["wait4", "waitid"];

pub(super) fn check(evidence: &Evidence) -> Outcome {
    found(evidence).into()
}

fn found(evidence: &Evidence) -> Option<Verdict> {
    let start = evidence.start;
    let last = start.phases.last()?;
    if start.ended.is_whole() || !matches!(Stage::of(&last.kind), Stage::Loading | Stage::BeforeGo) {
        return None;
    }
    let waited = start
        .calls
        .iter()
        .find(|call| call.call.main_thread && WAITS.contains(&call.call.name.as_str()))?;
    let child = match waited.call.result {
        Some(child) if child > 0 && waited.call.name == "wait4" => format!(" for process {child}"),
        _ => String::new(),
    };
    Some(Verdict::warning(
        format!(
            "process {} started another one before Go's runtime began",
            start.pid
        ),
        format!(
            "it waited{child} in {}, and Go's runtime has not begun in process {}",
            waited.call.name, start.pid
        ),
        "A C constructor or a wrapper forks, and the child becomes the Go program without an execve of its own: its start \
         is not seen. attach traces it once it runs: by -p PID, or by --exe PATH.",
    ))
}
