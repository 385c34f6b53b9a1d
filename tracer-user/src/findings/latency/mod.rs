//! What stands out in the latencies and gauges of a capture, and in what the model rebuilt of its scheduler.

mod all_ms_blocked;
mod cgroup_throttled;
mod created_waits;
mod evidence;
mod gc_assist;
mod gc_takes_ps;
mod gomaxprocs_changed;
mod idle_p_with_queue;
mod idle_spinning;
mod late_poll;
mod leak_by_creation_site;
mod long_stop;
mod long_waits_by_creation_site;
mod mostly_yields;
mod mutex_handoff;
mod noisy_neighbour;
mod not_preemptible;
mod preemption_dominates;
mod ps_saturated;
mod runnable_too_long;
mod schedtrace;
mod share;
mod slow_wait;
mod starved_goroutines;
mod stop_the_world;
mod sysmon_late;
mod target_halted;
mod thread_limit;
mod thundering_herd;
mod world_still_stopping;

use super::{Found, Rule, Severity, check_all, gomaxprocs_above_limit};

pub use evidence::Evidence;

/// A new or sampled goroutine that waits longer than this is reported.
const LONG_NS: u64 = 100_000;
/// Share of long waits from which on they are a warning.
const LONG_SHARE: f64 = 0.01;

/// The advice about what was not over in a target that did not run at all for a while.
const HALTED_MEANWHILE: &str = "The process did not run at all for a part of that time, as another finding says: let it run, \
                                and see whether this is still so.";
/// What is added where `full` itself does not decide, because it was asked to see less.
const WITHOUT_THREADS: &str = ": --no-threads leaves out what shows it";

/// How much it matters that this share of all waits was long.
fn severity_of(share_of_long: f64) -> Severity {
    match share_of_long >= LONG_SHARE {
        true => Severity::Warning,
        false => Severity::Info,
    }
}

/// Every rule, in the order in which findings of the same severity are shown: what keeps the whole process from running
/// first, then what keeps goroutines from running, then figures to know of.
fn rules<'a>() -> [Rule<Evidence<'a>>; 28] {
    [
        Rule {
            id: "target-halted",
            check: target_halted::check,
        },
        Rule {
            id: "starved-goroutines",
            check: starved_goroutines::check,
        },
        Rule {
            id: "world-still-stopping",
            check: world_still_stopping::check,
        },
        Rule {
            id: "cgroup-throttled",
            check: cgroup_throttled::check,
        },
        Rule {
            id: "noisy-neighbour",
            check: noisy_neighbour::check,
        },
        Rule {
            id: "ps-saturated",
            check: ps_saturated::check,
        },
        Rule {
            id: "gc-takes-ps",
            check: gc_takes_ps::check,
        },
        Rule {
            id: "gc-assist",
            check: gc_assist::check,
        },
        Rule {
            id: "long-stop",
            check: long_stop::check,
        },
        Rule {
            id: "not-preemptible",
            check: not_preemptible::check,
        },
        Rule {
            id: "runnable-too-long",
            check: runnable_too_long::check,
        },
        Rule {
            id: "thundering-herd",
            check: thundering_herd::check,
        },
        Rule {
            id: "mutex-handoff",
            check: mutex_handoff::check,
        },
        Rule {
            id: "idle-p-with-queue",
            check: idle_p_with_queue::check,
        },
        Rule {
            id: "sysmon-late",
            check: sysmon_late::check,
        },
        Rule {
            id: "all-ms-blocked",
            check: all_ms_blocked::check,
        },
        Rule {
            id: "thread-limit",
            check: thread_limit::check,
        },
        Rule {
            id: "leak-by-creation-site",
            check: leak_by_creation_site::check,
        },
        Rule {
            id: "created-waits",
            check: created_waits::check,
        },
        Rule {
            id: "long-waits-by-creation-site",
            check: long_waits_by_creation_site::check,
        },
        Rule {
            id: "preemption-dominates",
            check: preemption_dominates::check,
        },
        Rule {
            id: "gomaxprocs-above-cgroup-limit",
            check: |evidence: &Evidence| {
                gomaxprocs_above_limit::check(
                    evidence.gomaxprocs,
                    evidence.cgroup_cpu_limit,
                    evidence.go_minor,
                )
            },
        },
        Rule {
            id: "gomaxprocs-changed",
            check: gomaxprocs_changed::check,
        },
        Rule {
            id: "late-poll",
            check: late_poll::check,
        },
        Rule {
            id: "idle-spinning",
            check: idle_spinning::check,
        },
        Rule {
            id: "stop-the-world",
            check: stop_the_world::check,
        },
        Rule {
            id: "schedtrace",
            check: schedtrace::check,
        },
        Rule {
            id: "mostly-yields",
            check: mostly_yields::check,
        },
    ]
}

/// Checks every rule.
pub fn find(evidence: &Evidence) -> Found {
    check_all(&rules(), evidence)
}

#[cfg(test)]
mod tests;
