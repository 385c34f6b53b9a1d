//! Rules about what was not over at the end.

use super::*;
use crate::stream::ongoing::{OngoingSeen, RunnableGoroutine, StillRunnable, StillStopped};

fn ongoing(since_ns: &[Option<u64>], stop: Option<StillStopped>) -> Observation {
    let goroutines = (1..).zip(since_ns).map(|(goid, since_ns)| RunnableGoroutine {
        goid,
        gopc: 0x1000,
        since_ns: *since_ns,
        ..RunnableGoroutine::default()
    });
    let count = since_ns.len() as u64;
    let runnable = StillRunnable {
        read: count,
        all: count,
        count,
        goroutines: goroutines.collect(),
    };
    Observation {
        at_ns: END_NS,
        kind: Kind::Ongoing(OngoingSeen {
            runnable: Some(runnable),
            stop,
        }),
    }
}

#[test]
fn goroutines_that_have_not_run_for_a_second_are_starved() {
    let second = 1_000_000_000;
    let starved = ongoing(
        &[Some(second), Some(4 * second), None, Some(END_NS - 5_000)],
        None,
    );
    let findings = found(&[starved], None, None);
    assert_eq!(ids(&findings), ["starved-goroutines"]);
    assert_eq!(findings[0].severity, Severity::Warning);
    assert_eq!(
        findings[0].title,
        "2 goroutines could run and have not run for at least 6.0 s"
    );
    assert_eq!(
        findings[0].evidence,
        "still waiting to run at the end, in no histogram: goroutine 1 of main.fan for at least 9.0 s, goroutine 2 of \
         main.fan for at least 6.0 s (of one other it is not known since when)"
    );
    // Waits that are not over are nothing unusual.
    let short = ongoing(&[Some(END_NS - second / 2), None], None);
    assert_eq!(found(&[short], None, None), []);
}

#[test]
fn what_waits_in_a_target_that_does_not_run_is_not_the_fault_of_its_goroutines() {
    let stop = StillStopped {
        since_ns: END_NS - 2_000_000_000,
        not_stopped: 1,
    };
    let halted = Halted {
        state: Halt::Stopped,
        at_begin: false,
        times: 1,
        at_least_ns: 3_000_000_000,
    };
    let findings = found_of(
        &[ongoing(&[Some(END_NS - 2_000_000_000)], Some(stop))],
        None,
        None,
        &[halted],
    );
    assert_eq!(
        ids(&findings),
        ["target-halted", "starved-goroutines", "world-still-stopping"]
    );
    assert!(
        findings[1..]
            .iter()
            .all(|finding| finding.advice == HALTED_MEANWHILE)
    );
}

#[test]
fn a_stop_of_the_world_that_is_not_over_is_reported() {
    let stop = |since_ns, not_stopped| {
        Some(StillStopped {
            since_ns,
            not_stopped,
        })
    };
    let findings = found(&[ongoing(&[], stop(END_NS - 250_000_000, 1))], None, None);
    assert_eq!(ids(&findings), ["world-still-stopping"]);
    assert_eq!(
        findings[0].title,
        "the world has been stopping, or stopped, for at least 250.0 ms"
    );
    assert!(
        findings[0].advice.contains("cannot be preempted"),
        "{:?}",
        findings[0]
    );
    let findings = found(&[ongoing(&[], stop(0, 0))], None, None);
    assert!(
        findings[0].title.raw().ends_with("for at least 10.0 s"),
        "{:?}",
        findings[0]
    );
    // One that only the last reading shows may have just begun.
    assert_eq!(found(&[ongoing(&[], stop(END_NS, 1))], None, None), []);
}
