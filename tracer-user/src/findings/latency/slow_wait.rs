//! One long wait, in a sentence.

use super::Evidence;
use crate::{
    findings::figures::{duration, moment},
    model::sched::{Cause, Picture, SlowestWait, Waker},
};

/// Causes that are named with a wait.
const CAUSES: usize = 3;

/// `at 1.204 s goroutine 7 of main.serve waited 12.1 ms to run after chan receive: 9.8 ms throttled …, 2.3 ms …`.
pub(super) fn describe(evidence: &Evidence, wait: &SlowestWait) -> String {
    let after = wait
        .after
        .as_ref()
        .map_or_else(String::new, |reason| format!(" after {reason}"));
    let causes: Vec<String> = largest(wait)
        .into_iter()
        .take(CAUSES)
        .map(|(cause, ns)| format!("{} {}", duration(ns), cause.phrase()))
        .collect();
    let causes = match causes.as_slice() {
        [] => String::new(),
        causes => format!(": {}", causes.join(", ")),
    };
    let waited = match wait.ongoing {
        true => format!("began to wait to run, for {} so far", duration(wait.duration_ns)),
        false => format!("waited {} to run", duration(wait.duration_ns)),
    };
    format!(
        "{} {} {waited}{after}{causes}",
        moment(evidence.since_begin(wait.begin_ns)),
        evidence.goroutine(wait.who)
    )
}

/// The causes of a wait, the largest first.
fn largest(wait: &SlowestWait) -> Vec<(Cause, u64)> {
    let mut causes: Vec<(Cause, u64)> = wait.causes.iter().copied().filter(|(_, ns)| *ns > 0).collect();
    causes.sort_by_key(|(cause, ns)| (std::cmp::Reverse(*ns), *cause));
    causes
}

/// The cause that these waits have most of, together.
pub(super) fn main_cause<'a>(waits: impl IntoIterator<Item = &'a SlowestWait>) -> Option<Cause> {
    let mut sums = [0u64; Cause::COUNT];
    for (cause, ns) in waits.into_iter().flat_map(|wait| &wait.causes) {
        if let Some(sum) = sums.get_mut(*cause as usize) {
            *sum = sum.saturating_add(*ns);
        }
    }
    let (cause, ns) = Cause::ALL.into_iter().zip(sums).max_by_key(|(_, ns)| *ns)?;
    (ns > 0).then_some(cause)
}

/// What the Ps did when a wait ended: `at 1.210 s 12 goroutines were runnable; of the Ps 2 busy`.
pub(super) fn picture(evidence: &Evidence, wait: &SlowestWait) -> Option<String> {
    let picture = wait.picture?;
    let ps: Vec<String> = ps(&picture)
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    Some(format!(
        "{} {} goroutines were runnable; Ps: {}",
        moment(evidence.since_begin(wait.begin_ns.saturating_add(wait.duration_ns))),
        picture.runnable,
        ps.join(", ")
    ))
}

fn ps(picture: &Picture) -> [(u32, &'static str); 8] {
    [
        (picture.busy, "busy"),
        (picture.gc, "collecting garbage"),
        (picture.os_preempted, "without a CPU"),
        (picture.in_syscall, "in a system call"),
        (picture.blocked, "asleep"),
        (picture.scheduler, "between two goroutines"),
        (picture.unknown, "with a thread of which nothing is known"),
        (picture.idle, "idle"),
    ]
}

/// Who made the goroutine runnable: `, woken by goroutine 1 of main.main`; empty where that was not seen.
pub(super) fn woken_by(evidence: &Evidence, wait: &SlowestWait) -> String {
    match wait.wakers.first() {
        Some(Waker::Goroutine(who)) => format!(", woken by {}", evidence.goroutine(*who)),
        Some(Waker::Netpoll) => ", woken by the network poller".to_owned(),
        Some(Waker::Scheduler) => {
            ", woken by the scheduler (a timer, or the end of a system call)".to_owned()
        }
        Some(Waker::WithoutP) => ", woken by a thread without a P (sysmon, or one of C)".to_owned(),
        None => String::new(),
    }
}
