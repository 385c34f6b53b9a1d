//! The runtime's own watchdog did not come round: nothing is preempted meanwhile, no P is taken back from a system call,
//! and nobody polls the network for a program whose Ps are all busy.

use super::Evidence;
use crate::{
    findings::{
        Outcome, Severity, Verdict,
        figures::{duration, milliseconds},
    },
    model::SYSMON_LATE_NS,
};

pub(super) fn check(evidence: &Evidence) -> Outcome {
    // Of a process that did not run, nothing is late by its own fault.
    if !evidence.halted.is_empty() {
        return Outcome::Ok;
    }
    let polls = evidence.model.late_polls();
    if polls.sysmon_late == 0 {
        return Outcome::Ok;
    }
    let at_ns = polls.sysmon_longest_at_ns;
    let verdict = Verdict::warning(
        format!(
            "sysmon was late: it had not come round for up to {}",
            milliseconds(polls.sysmon_longest_ns)
        ),
        format!(
            "in {} of {} readings without an idle P nobody had polled the network for {} or more, up to {}; sysmon does so \
             itself after 10 ms, and sleeps for 10 ms at most",
            polls.sysmon_late,
            polls.busy,
            duration(SYSMON_LATE_NS),
            milliseconds(polls.sysmon_longest_ns)
        ),
        "sysmon has a thread of its own, which got no CPU: see whether the CPU quota of the cgroup is used up, and what else \
         runs on these CPUs. Until it comes round, goroutines are not preempted, Ps are not taken back from system calls, and \
         timers and sockets are late.",
    )
    .at((at_ns != 0).then(|| evidence.since_begin(at_ns)));
    Verdict {
        // A single one may be chance.
        severity: match polls.sysmon_late {
            1 => Severity::Info,
            _ => Severity::Warning,
        },
        ..verdict
    }
    .into()
}
