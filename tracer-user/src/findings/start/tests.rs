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
        go_minor: Some(27),
    }
}

fn ids(evidence: &Evidence) -> Vec<String> {
    let found = find(evidence).into_iter();
    found.map(|finding| finding.id.as_str().to_owned()).collect()
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
fn without_a_limit_other_programs_are_named() {
    let usage = Usage {
        waiting_ns: 80 * MS,
        ..Usage::default()
    };
    let start = start(vec![phase("a", 0, 100, usage)]);
    let advice = |limit, throttled| {
        let found = find(&Evidence {
            cgroup_cpu_limit: limit,
            throttled,
            ..evidence(&start)
        });
        found[0].advice.clone()
    };
    assert!(advice(Some(0.1), None).starts_with("More CPU for the cgroup"));
    assert!(advice(None, Some((1, MS))).contains("above its own"));
    assert!(advice(None, None).contains("other programs had the CPUs"));
}

#[test]
fn only_an_init_is_advised_to_be_done_later() {
    let usage = Usage {
        asleep_ns: 25 * MS,
        ..Usage::default()
    };
    let advice = |kind: PhaseKind| {
        let start = start(vec![Phase {
            kind,
            ..phase("a", 0, 26, usage)
        }]);
        let [found] = find(&evidence(&start)).try_into().unwrap();
        assert_eq!(found.id, "start-phase-slept");
        found.advice
    };
    assert!(advice(PhaseKind::Init("a".to_owned())).contains("package inits"));
    assert!(advice(PhaseKind::Loader).contains("libraries are read"));
    assert!(advice(PhaseKind::Rt0).contains("constructor"));
    assert!(advice(PhaseKind::SchedInit).contains("runtime itself"));
}

#[test]
fn a_start_that_goes_on_in_a_child_is_named() {
    let waits = |result| CallAt {
        end_ns: 90 * MS,
        call: StartCall {
            pid: 1,
            tid: 1,
            main_thread: true,
            name: "wait4".to_owned(),
            on: None,
            duration_ns: 1,
            result,
        },
    };
    let broken = |kind: PhaseKind, ended, call| Start {
        ended,
        calls: vec![call],
        ..start(vec![Phase {
            kind,
            usage: None,
            ..phase("a", 0, 90, Usage::default())
        }])
    };
    let start = broken(PhaseKind::Rt0, Ended::Exit, waits(Some(4712)));
    let [found] = find(&evidence(&start)).try_into().unwrap();
    assert_eq!(found.id, "start-forked");
    assert!(
        found.evidence.raw().contains("for process 4712 in wait4"),
        "{found:?}"
    );
    let hangs = broken(PhaseKind::Rt0, Ended::Unfinished, waits(None));
    assert_eq!(ids(&evidence(&hangs)), ["start-forked"]);
    // An init may wait for a child, and a start that ends is whole.
    let init = broken(PhaseKind::Init("a".to_owned()), Ended::Exit, waits(Some(4712)));
    assert!(ids(&evidence(&init)).is_empty());
    let whole = broken(PhaseKind::Rt0, Ended::Main, waits(Some(4712)));
    assert!(ids(&evidence(&whole)).is_empty());
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
