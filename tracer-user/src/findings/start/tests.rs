use super::*;
use crate::{
    model::start::{CallAt, Ended, PhaseKind, TimesFrom},
    stream::start::{StartCall, Usage},
};

const MS: u64 = 1_000_000;

fn phase(name: &str, begin_ms: u64, end_ms: u64, usage: Usage) -> Phase {
    Phase {
        kind: PhaseKind::Init(name.to_owned()),
        begin_ns: begin_ms * MS,
        end_ns: end_ms * MS,
        usage: Some(usage),
    }
}

fn start(phases: Vec<Phase>) -> Start {
    Start {
        pid: 1,
        binary: 0,
        held_ns: 0,
        zero: TimesFrom::Execve,
        phases,
        spans: Vec::new(),
        marks: Vec::new(),
        calls: Vec::new(),
        gomaxprocs: None,
        ended: Ended::Main,
    }
}

fn evidence(start: &Start) -> Evidence<'_> {
    Evidence {
        start,
        others: &[],
        cgroup_cpu_limit: None,
        throttled: None,
        godebug: None,
    }
}

fn ids(evidence: &Evidence) -> Vec<String> {
    find(evidence).into_iter().map(|finding| finding.id).collect()
}

#[test]
fn length_alone_is_not_a_reason() {
    let start = start(vec![phase("a", 0, 900, Usage::default())]);
    assert_eq!(ids(&evidence(&start)), Vec::<String>::new());
}

#[test]
fn a_phase_that_sleeps_is_named_with_what_it_did() {
    let usage = Usage {
        asleep_ns: 25 * MS,
        ..Usage::default()
    };
    let mut start = start(vec![
        phase("quick", 0, 1, Usage::default()),
        phase("example.com/dial", 1, 27, usage),
    ]);
    start.calls.push(CallAt {
        end_ns: 2 * MS,
        call: StartCall {
            pid: 1,
            tid: 1,
            main_thread: true,
            name: "connect".to_owned(),
            on: Some("192.0.2.1:80".to_owned()),
            duration_ns: 10_000,
            result: Some(-115),
        },
    });
    let [found] = find(&evidence(&start)).try_into().unwrap();
    assert_eq!(found.id, "start-phase-slept");
    assert!(
        found
            .title
            .raw()
            .starts_with("init:example.com/dial waited for 25.0 ms"),
        "{found:?}"
    );
    assert!(found.evidence.raw().contains("connect 192.0.2.1:80"), "{found:?}");
}

#[test]
fn short_sleeps_and_small_shares_are_not_reported() {
    let sleeps = |ms: u64| Usage {
        asleep_ns: ms * MS,
        ..Usage::default()
    };
    assert!(find(&evidence(&start(vec![phase("a", 0, 4, sleeps(4))]))).is_empty());
    let little = start(vec![
        phase("a", 0, 10, sleeps(10)),
        phase("b", 10, 110, Usage::default()),
    ]);
    assert!(find(&evidence(&little)).is_empty());
}

#[test]
fn a_throttled_cgroup_is_reported() {
    let usage = Usage {
        waiting_ns: 80 * MS,
        ..Usage::default()
    };
    let start = start(vec![phase("a", 0, 100, usage)]);
    let found = find(&Evidence {
        cgroup_cpu_limit: Some(0.1),
        throttled: Some((2, 170 * MS)),
        ..evidence(&start)
    });
    assert_eq!(found[0].id, "start-phase-without-cpu");
    assert!(found[0].evidence.raw().contains("0.10 CPUs") && found[0].evidence.raw().contains("2 periods"));
}

#[test]
fn cpu_time_is_compared_with_other_starts_only() {
    let slow = start(vec![phase("a", 0, 30, Usage::default())]);
    let usual = start(vec![phase("a", 0, 3, Usage::default())]);
    assert!(find(&evidence(&slow)).is_empty());
    let others = vec![usual; 3];
    let found = ids(&Evidence {
        others: &others,
        ..evidence(&slow)
    });
    assert_eq!(found, ["start-phase-cpu-above-others"]);
}

#[test]
fn settings_that_print_are_reported() {
    let start = start(vec![phase("a", 0, 1, Usage::default())]);
    let with = |godebug| {
        ids(&Evidence {
            godebug: Some(godebug),
            ..evidence(&start)
        })
    };
    assert_eq!(with("schedtrace=1,madvdontneed=1"), ["godebug-distorts-start"]);
    assert!(with("inittrace=0,http2debug=1").is_empty());
}
