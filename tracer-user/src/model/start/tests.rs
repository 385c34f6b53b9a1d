use proptest::prelude::*;

use super::*;
use crate::stream::{
    Event, Kind, Observation,
    start::{Mark, StartHeld, StartMark},
};

fn mark(mark: Mark, at_ns: u64) -> Observation {
    named(mark, at_ns, None)
}

fn named(mark: Mark, at_ns: u64, name: Option<&str>) -> Observation {
    Observation {
        at_ns,
        kind: Kind::Event(Event::StartMark(StartMark {
            pid: 7,
            tid: 7,
            main_thread: true,
            mark,
            value: 0,
            name: name.map(str::to_owned),
            usage: Some(Usage {
                asleep_ns: at_ns / 10,
                ..Usage::default()
            }),
        })),
    }
}

fn whole() -> Vec<Observation> {
    vec![
        mark(Mark::Execve, 1_000),
        mark(Mark::Executed, 1_400),
        mark(Mark::Entry, 1_500),
        mark(Mark::OsInit, 1_600),
        mark(Mark::SchedInit, 1_700),
        mark(Mark::ProcResizeBegin, 1_750),
        mark(Mark::ProcResizeEnd, 1_780),
        mark(Mark::NewProc, 1_800),
        mark(Mark::MStart, 1_900),
        mark(Mark::RuntimeMain, 2_000),
        named(Mark::InitBegin, 2_100, Some("runtime")),
        mark(Mark::InitEnd, 2_200),
        named(Mark::InitBegin, 2_300, Some("main")),
        mark(Mark::InitEnd, 2_900),
        mark(Mark::MainMain, 3_000),
    ]
}

fn loading(dynamic: bool) -> Starts {
    let mut starts = Starts::default();
    if dynamic {
        starts.set_dynamic(0);
    }
    starts
}

fn run(dynamic: bool, observations: &[Observation]) -> Vec<Start> {
    let mut starts = loading(dynamic);
    observations
        .iter()
        .filter_map(|seen| starts.observe(seen))
        .collect()
}

fn names(start: &Start) -> Vec<String> {
    start.phases.iter().map(|phase| phase.kind.name()).collect()
}

#[test]
fn a_start_is_a_partition() {
    let [start] = run(false, &whole()).try_into().unwrap();
    assert_eq!(
        names(&start),
        [
            "exec",
            "rt0",
            "osinit",
            "schedinit",
            "main_created",
            "main_started",
            "runtime_main",
            "init:runtime",
            "runtime_main",
            "init:main",
            "runtime_main"
        ]
    );
    assert_eq!((start.begin_ns(), start.end_ns()), (1_000, 3_000));
    assert_eq!((start.zero, start.ended), (TimesFrom::Execve, Ended::Main));
    assert_eq!(start.spans.len(), 1);
    assert_eq!(start.phases[9].duration_ns(), 600);
    assert_eq!(start.phases[9].usage.unwrap().asleep_ns, 60);
    assert_eq!(start.marks, [("main.main".to_owned(), 3_000)]);
}

#[test]
fn a_dynamic_program_is_loaded_first() {
    let [start] = run(true, &whole()).try_into().unwrap();
    assert_eq!(names(&start)[..3], ["exec", "loader", "rt0"]);
}

#[test]
fn without_the_entry_of_execve_the_next_mark_is_zero() {
    let [start] = run(false, &whole()[1..]).try_into().unwrap();
    assert_eq!(start.zero, TimesFrom::Executed);
    assert_eq!(names(&start)[..2], ["exec", "rt0"]);
    let [start] = run(true, &whole()[1..]).try_into().unwrap();
    assert_eq!(names(&start)[..2], ["loader", "rt0"]);
}

#[test]
fn an_execve_that_failed_does_not_count() {
    let mut seen = vec![mark(Mark::Execve, 10)];
    seen.extend(whole());
    let [start] = run(false, &seen).try_into().unwrap();
    assert_eq!(start.begin_ns(), 1_000);
}

#[test]
fn another_program_is_not_a_start() {
    let seen = [
        mark(Mark::ExecPrepared, 1),
        mark(Mark::Executed, 2),
        mark(Mark::Exited, 3),
    ];
    assert_eq!(run(false, &seen), []);
}

#[test]
fn the_time_for_which_it_was_held_does_not_count() {
    let held = |at_ns, held_ns| Observation {
        at_ns,
        kind: Kind::Event(Event::StartHeld(StartHeld { pid: 7, held_ns })),
    };
    let alone = run(false, &whole());
    // Of an earlier execve, of this one before its entry was reported, of this one.
    let mut seen = vec![held(900, 50), held(1_200, 60)];
    seen.extend(whole());
    seen.insert(4, held(1_300, 70));
    let [start] = run(false, &seen).try_into().unwrap();
    assert_eq!(
        (start.held_ns, start.begin_ns()),
        (130, alone[0].begin_ns() + 130)
    );
    assert_eq!(start.end_ns(), alone[0].end_ns());
    assert_eq!(start.phases[1..], alone[0].phases[1..]);
    // It slept for 50, less than it was held.
    assert_eq!(start.phases[0].usage.unwrap().asleep_ns, 0);
}

#[test]
fn a_library_has_started_when_its_inits_are_done() {
    let mut seen = whole();
    seen.truncate(14);
    // The runtime of a library starts on another thread, whose usage is not known.
    for observation in &mut seen[3..] {
        if let Kind::Event(Event::StartMark(mark)) = &mut observation.kind {
            (mark.tid, mark.main_thread, mark.usage) = (8, false, None);
        }
    }
    seen.push(mark(Mark::LibraryReady, 3_000));
    // What the C program does afterwards is not part of it.
    seen.push(mark(Mark::GoStatement, 4_000));
    let [start] = run(true, &seen).try_into().unwrap();
    assert_eq!((start.ended, start.end_ns()), (Ended::Library, 3_000));
    assert_eq!(start.marks, [("library_ready".to_owned(), 3_000)]);
    assert!(names(&start).ends_with(&["init:main".to_owned(), "runtime_main".to_owned()]));
    assert!(start.phases[0].usage.is_some() && start.phases[5].usage.is_none());
}

#[test]
fn a_start_that_hangs_is_cut() {
    let mut starts = Starts::default();
    for seen in &whole()[..13] {
        assert_eq!(starts.observe(seen), None);
    }
    assert_eq!(starts.open(), [7]);
    let start = starts.cut(7, 9_000).unwrap();
    assert_eq!(start.ended, Ended::Unfinished);
    let last = start.phases.last().unwrap();
    assert_eq!((last.kind.name().as_str(), last.end_ns), ("init:main", 9_000));
}

proptest! {
    /// With any marks in any order there is no gap and no overlap.
    #[test]
    fn phases_never_leave_a_gap(marks in proptest::collection::vec((0u32..25, 0u64..1 << 40), 1..60), dynamic: bool) {
        let mut starts = loading(dynamic);
        let mut ended: Vec<Start> = marks
            .into_iter()
            .filter_map(|(number, at_ns)| starts.observe(&mark(Mark::from_u32(number)?, at_ns)))
            .collect();
        ended.extend(starts.cut(7, 1 << 41));
        for start in ended {
            for pair in start.phases.windows(2) {
                prop_assert_eq!(pair[0].end_ns, pair[1].begin_ns);
            }
            for phase in &start.phases {
                prop_assert!(phase.begin_ns <= phase.end_ns);
            }
        }
    }
}
