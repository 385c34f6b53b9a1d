use super::*;
use crate::document::fixtures;
use crate::model::start::{Phase, PhaseKind, TimesFrom};

fn tally() -> StartTally {
    StartTally::new(StartBegin {
        version: "1".to_owned(),
        target: fixtures::exact().target,
        tree: false,
        dynamic: false,
        several: true,
        latencies_follow: false,
        missing: Vec::new(),
        merged: Vec::new(),
        interval_ns: None,
    })
}

fn start(ended: Ended) -> Start {
    Start {
        pid: 7,
        binary: ONLY_BINARY,
        zero: TimesFrom::Execve,
        held_ns: 0,
        phases: vec![Phase {
            kind: PhaseKind::Exec,
            begin_ns: 1_000,
            end_ns: 3_000,
            usage: None,
        }],
        spans: Vec::new(),
        marks: Vec::new(),
        calls: Vec::new(),
        gomaxprocs: None,
        ended,
    }
}

/// Not all starts are kept, and all are counted: in the number of runs as in the histograms.
#[test]
fn starts_that_are_not_kept_are_counted() {
    let mut tally = tally();
    let runs = MOST_KEPT + 5;
    tally.take(vec![start(Ended::Main); runs]);
    tally.take(vec![start(Ended::Exit)]);
    let (init, _) = tally.part();
    assert_eq!((init.runs, init.unfinished), (runs as u64, 1));
    let total = init
        .histograms
        .get(&Untrusted::from("total"))
        .map(|hist| hist.count);
    assert_eq!(total, Some(init.runs));
}

#[test]
fn a_start_that_nobody_asked_for_is_no_shortcoming() {
    let shortcoming = |ended: &[Ended], ended_by, whole| {
        let mut tally = tally();
        tally.take(ended.iter().map(|ended| start(*ended)).collect());
        tally.ending = Some(Ending {
            at_ns: 5_000,
            ended_by,
            whole,
        });
        tally.shortcoming()
    };
    let one = Some("1 start did not come to its end".to_owned());
    let cut = [Ended::Main, Ended::Unfinished];
    assert_eq!(shortcoming(&cut, EndedBy::Starts, true), None);
    assert_eq!(shortcoming(&cut, EndedBy::Duration, true), one);
    let exited = [Ended::Exit, Ended::Unfinished];
    assert_eq!(shortcoming(&exited, EndedBy::Starts, true), one);
}
