//! Rules about limits and settings of the target.

use super::*;
use crate::{
    model::sched::StopReport,
    process::limits::{LimitedBy, ThreadLimit},
};

fn with(limits: Limits) -> Made<'static> {
    Made {
        limits,
        ..Made::of(Mode::Passive)
    }
}

#[test]
fn a_limit_of_threads_that_is_near_is_reported_with_what_raises_it() {
    let limited = |by, used, most| {
        with(Limits {
            threads: Some(used),
            thread_limit: Some(ThreadLimit { by, used, most }),
            ..Limits::default()
        })
    };
    let finding = limited(LimitedBy::Cgroup, 19, 20).fires("thread-limit");
    assert_eq!(finding.severity, Severity::Warning);
    assert_eq!(
        finding.title,
        "the program is near its limit of threads: 19 of 20"
    );
    assert!(finding.advice.contains("pids.max"), "{finding:?}");
    let finding = limited(LimitedBy::User, 90, 100).fires("thread-limit");
    assert!(finding.advice.contains("ulimit -u"), "{finding:?}");
    limited(LimitedBy::Cgroup, 17, 20).is_silent("thread-limit");
    // Go's own limit.
    let finding = limited(LimitedBy::Cgroup, 9_500, 40_000).fires("thread-limit");
    assert!(finding.advice.contains("SetMaxThreads"), "{finding:?}");
    // Nothing is known of a recording by an older version.
    with(Limits::default()).is_silent("thread-limit");
}

#[test]
fn a_scheduler_that_prints_its_state_is_reported() {
    let godebug = |value: &str| {
        with(Limits {
            godebug: Some(value.into()),
            ..Limits::default()
        })
    };
    let finding = godebug("madvdontneed=1,schedtrace=1000").fires("schedtrace");
    assert_eq!(finding.severity, Severity::Info);
    assert!(
        finding.evidence.raw().starts_with("GODEBUG has schedtrace=1000:"),
        "{finding:?}"
    );
    let finding = godebug("scheddetail=1,schedtrace=100").fires("schedtrace");
    assert_eq!(finding.severity, Severity::Warning);
    for quiet in ["scheddetail=1", "schedtrace=0", "inittrace=1", ""] {
        godebug(quiet).is_silent("schedtrace");
    }
    with(Limits::default()).is_silent("schedtrace");
}

#[test]
fn a_gomaxprocs_that_changes_is_reported() {
    let id = "gomaxprocs-changed";
    let resized = |times| {
        let mut made = Made::full(|report| {
            report.world.resized = times;
            report.causes.stops = vec![StopReport {
                begin_ns: 1_500 * MS,
                total_ns: 40_000,
                stopping_ns: 0,
                last: None,
                // "GOMAXPROCS"
                reason: 9,
                ongoing: false,
            }];
        });
        made.gomaxprocs = Some(4);
        made
    };
    let finding = resized(3).fires(id);
    assert_eq!(finding.severity, Severity::Info);
    assert_eq!(
        finding.evidence,
        "it was set 3 times within 2.0 s; it is 4 at the end"
    );
    assert_eq!(finding.at_ns, Some(1_500 * MS));
    assert_eq!(resized(10).fires(id).severity, Severity::Warning);
    resized(0).is_silent(id);
    // From Go 1.25 on it may be the runtime itself.
    assert!(!resized(3).fires(id).advice.contains("updatemaxprocs"));
    let new = Made {
        go_minor: Some(25),
        ..resized(3)
    };
    assert!(new.fires(id).advice.contains("updatemaxprocs=0"));
    let read = |first, last| {
        let at = |at_ns, gomaxprocs| {
            reading(
                at_ns,
                Snapshot {
                    gomaxprocs: Some(gomaxprocs),
                    ..Snapshot::default()
                },
            )
        };
        Made::of(Mode::Passive).seeing(&[at(0, first), at(WINDOW_NS, last)])
    };
    assert_eq!(
        read(2, 4).fires(id).evidence,
        "it was 2 at the begin and is 4 at the end"
    );
    read(4, 4).is_silent(id);
    Made::of(Mode::Passive).is_undecided(id);
}
