use super::*;
use crate::{
    document::init::build,
    latency::start::PhaseTimes,
    model::start::{CallAt, Ended, Phase, PhaseKind, Span, Start, TimesFrom},
    stream::start::{StartCall, Usage},
};

const US: u64 = 1_000;

/// A start of 2 ms whose package `example.com/a/very/long/path/to/a/package/name/slow` takes half of it.
fn start() -> Start {
    let steps = [
        (PhaseKind::Exec, 400),
        (PhaseKind::Rt0, 50),
        (PhaseKind::OsInit, 20),
        (PhaseKind::SchedInit, 250),
        (PhaseKind::MainCreated, 20),
        (PhaseKind::MainStarted, 60),
        (PhaseKind::RuntimeMain, 30),
        (PhaseKind::Init("runtime".to_owned()), 10),
        (PhaseKind::RuntimeMain, 120),
        (PhaseKind::Init("errors".to_owned()), 10),
        (PhaseKind::RuntimeMain, 1),
        (PhaseKind::Init("os".to_owned()), 20),
        (PhaseKind::RuntimeMain, 1),
        (
            PhaseKind::Init("example.com/a/very/long/path/to/a/package/name/slow".to_owned()),
            1_000,
        ),
        (PhaseKind::RuntimeMain, 8),
    ];
    let mut at = 7_000_000 * US;
    let phases = steps
        .into_iter()
        .map(|(kind, us)| {
            let begin_ns = at;
            at += us * US;
            Phase {
                kind,
                begin_ns,
                end_ns: at,
                usage: Some(Usage {
                    asleep_ns: us / 2,
                    minor_faults: us,
                    ..Usage::default()
                }),
            }
        })
        .collect::<Vec<_>>();
    let (begin, end) = (phases[0].begin_ns, at);
    Start {
        pid: 4711,
        binary: 0,
        held_ns: 0,
        zero: TimesFrom::Execve,
        spans: vec![Span {
            name: "procresize",
            begin_ns: begin + 500 * US,
            end_ns: begin + 520 * US,
        }],
        marks: vec![
            ("sysmon".to_owned(), begin + 900 * US),
            ("main.main".to_owned(), end),
        ],
        calls: vec![CallAt {
            end_ns: end - 10 * US,
            call: StartCall {
                pid: 4711,
                tid: 4711,
                main_thread: true,
                name: "openat".to_owned(),
                on: Some("/a\u{1b}[2J/b".to_owned()),
                duration_ns: 900 * US,
                result: Some(-2),
            },
        }],
        phases,
        gomaxprocs: Some(2),
        ended: Ended::Main,
    }
}

fn rendered(starts: &[Start]) -> String {
    let mut times = PhaseTimes::default();
    starts.iter().for_each(|start| times.add(start));
    render(&build(starts, &times, 0))
}

#[test]
fn a_timeline_fits_eighty_columns_and_hides_nothing() {
    let text = rendered(&[start()]);
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    let text = text.replace('\n', " ");
    assert!(!text.contains('\u{1b}'), "{text}");
    for expected in [
        "main.main was reached after 2.00ms",
        "the entry of execve",
        "init of 2 packages",
        "slow",
        "procresize 20.0us at 500us",
        "sysmon 900us",
        "openat /a\\u{1b}[2J/b, ..",
        "orientation only",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
}

#[test]
fn rows_are_a_partition_too() {
    let init = build(&[start()], &PhaseTimes::default(), 0);
    let run = init.run.unwrap();
    let rows = rows(&run);
    assert!(rows.len() < run.phases.len());
    let mut at = 0;
    for row in &rows {
        assert_eq!(row.begin_ns, at);
        at += row.duration_ns;
    }
    assert_eq!(at, run.duration_ns);
}

#[test]
fn several_starts_have_a_table() {
    let text = rendered(&[start(), start(), start()]);
    assert!(text.contains("3 starts came to main.main"), "{text}");
    assert!(
        text.replace('\n', " ").contains("of several the median"),
        "{text}"
    );
    let total = text.lines().find(|line| line.starts_with("total")).unwrap();
    assert!(total.contains(" 3 "), "{total}");
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
}

#[test]
fn phases_that_cannot_be_told_apart_are_named_with_the_reason() {
    let mut init = build(&[start()], &PhaseTimes::default(), 0);
    assert!(!render(&init).contains("not distinguished"));
    init.merged = ["osinit", "init:*"]
        .map(|phase| MergedPhase {
            phase: phase.into(),
            into: "rt0".into(),
            why: "the call: there is none".into(),
        })
        .to_vec();
    let text = render(&init);
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    let text = text.replace('\n', " ");
    for expected in [
        "not distinguished in this binary: osinit is part of rt0 (the call: there is none)",
        "the inits of all packages are part of rt0",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
}

#[test]
fn a_library_comes_to_no_main() {
    let text = rendered(&[Start {
        ended: Ended::Library,
        ..start()
    }]);
    let text = text.replace('\n', " ");
    assert!(
        text.contains("Go is a library in it, whose inits were done after 2.00ms"),
        "{text}"
    );
}

#[test]
fn without_a_start_that_is_said() {
    assert!(rendered(&[]).contains("no start was seen"));
}
