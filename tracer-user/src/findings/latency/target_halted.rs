//! The target did not run at all for a while: it was stopped, traced by a debugger, or frozen.

use super::Evidence;
use crate::{
    findings::{Outcome, Verdict, figures::milliseconds},
    process::Halt,
    stream::step::Halted,
};

pub(super) fn check(evidence: &Evidence) -> Outcome {
    found(evidence).into()
}

fn found(evidence: &Evidence) -> Option<Verdict> {
    let longest = evidence.halted.iter().max_by_key(|halted| halted.at_least_ns)?;
    let all: Vec<String> = evidence
        .halted
        .iter()
        .map(|halted| describe(halted, evidence.window_ns))
        .collect();
    Some(Verdict::warning(
        format!("the process was {} during the capture", longest.state),
        format!("it was {}", all.join("; ")),
        format!(
            "No goroutine runs meanwhile, and waits that continue over it contain it. {}",
            match longest.state {
                Halt::Stopped => "A signal or the terminal has stopped it: kill -CONT continues it.",
                Halt::Traced =>
                    "A debugger or another tracer holds its threads (TracerPid in /proc/PID/status): detach that.",
                Halt::Frozen => "Its cgroup is frozen, as that of a container that is paused: thaw it.",
            }
        ),
    ))
}

/// `stopped when the capture began, and for at least 1500.0 ms of 2000.0 ms`.
fn describe(halted: &Halted, window_ns: u64) -> String {
    let begin = if halted.at_begin {
        "when the capture began, and "
    } else {
        ""
    };
    let times = match halted.times {
        1 => String::new(),
        n => format!(", {n} times"),
    };
    format!(
        "{} {begin}for at least {} of {}{times}",
        halted.state,
        milliseconds(halted.at_least_ns),
        milliseconds(window_ns)
    )
}
