//! Timers and network connections that nobody looked at, because every P was busy.
//!
//! A goroutine is Runnable from the moment at which a P makes it so. What was due before is late, and no wait shows it:
//! where every P has work, only sysmon looks at the network, 10 ms after the last look at the earliest (proc.go,
//! `sysmon`), and timers wait until their P enters its scheduler.

use super::Evidence;
use crate::findings::{Outcome, Verdict, advice::more_cpu, figures::milliseconds};

pub(super) fn check(evidence: &Evidence) -> Outcome {
    // Of a process that did not run, nothing is late by its own fault.
    if !evidence.halted.is_empty() {
        return Outcome::Ok;
    }
    let polls = evidence.model.late_polls();
    let found = (polls.late > 0).then(|| {
        Verdict::info(
            format!(
                "timers and sockets were not looked at for up to {}",
                milliseconds(polls.longest_ns)
            ),
            format!(
                "in {} of {} readings without an idle P the network had last been polled 10 ms ago or more, up to {}",
                polls.late,
                polls.busy,
                milliseconds(polls.longest_ns)
            ),
            format!(
                "A wait begins when a P makes a goroutine runnable, not when its timer was due or its packet came: that time \
                 is missing from the waits. Every P was busy: let fewer goroutines compute at a time; or {}.",
                more_cpu(evidence.gomaxprocs, evidence.cgroup_cpu_limit)
            ),
        )
        .at((polls.longest_at_ns != 0).then(|| evidence.since_begin(polls.longest_at_ns)))
    });
    found.into()
}
