use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::*;

const SETTLE: u64 = 500;

fn census() -> Census {
    Census::new(SETTLE, 2)
}

fn scanned(pid: u32, start_time: u64, exe: u64) -> Scanned {
    Scanned {
        pid,
        start_time,
        age_ns: SETTLE,
        exe: Some((1, exe)),
    }
}

/// Makes the inspections that are due, all with this result. Returns their PIDs.
fn inspect(census: &mut Census, now: u64, outcome: Outcome, exe: u64) -> Vec<u32> {
    let due = census.due(now);
    for ticket in &due {
        assert!(census.inspected(*ticket, outcome, Some((1, exe))));
    }
    due.iter().map(|ticket| ticket.pid).collect()
}

#[test]
fn what_ends_before_it_has_settled_is_never_inspected() {
    let mut census = census();
    for pid in 1..=50 {
        assert!(!census.exec(pid, 100));
        assert!(!census.exit(pid, 200));
    }
    assert_eq!(census.next_due(), None);
    assert_eq!(census.due(10_000), []);
    assert_eq!(census.pending(), 0);
}

#[test]
fn a_process_is_inspected_once_it_has_settled_and_no_more_than_two_at_once() {
    let mut census = census();
    for pid in 1..=5 {
        census.exec(pid, u64::from(pid));
    }
    assert_eq!(census.next_due(), Some(1 + SETTLE));
    assert_eq!(census.due(SETTLE), []);
    let first = census.due(SETTLE + 5);
    assert_eq!(first.len(), 2);
    assert_eq!((census.due(SETTLE + 5), census.next_due()), (vec![], None));
    assert!(census.inspected(first[0], Outcome::NotGo, None));
    assert_eq!(census.due(SETTLE + 5).len(), 1);
    assert_eq!(census.count(Outcome::NotGo), 1);
}

#[test]
fn a_process_is_unexamined_until_it_is_known_what_it_is() {
    let mut census = census();
    assert!(!census.is_unexamined(1));
    census.exec(1, 0);
    assert!(census.is_unexamined(1));
    assert_eq!(inspect(&mut census, SETTLE, Outcome::Failed, 1), [1]);
    assert!(census.is_unexamined(1));
    // The next scan tries again.
    census.apply_scan(&[scanned(1, 0, 1)], SETTLE + 1, SETTLE + 2);
    assert!(census.is_unexamined(1));
    assert_eq!(inspect(&mut census, SETTLE + 2, Outcome::NotGo, 1), [1]);
    assert!(!census.is_unexamined(1));
}

#[test]
fn an_inspection_of_what_has_ended_or_become_another_program_is_ignored() {
    let mut census = census();
    census.exec(1, 0);
    census.exec(2, 0);
    let tickets = census.due(SETTLE);
    census.exit(1, SETTLE + 1);
    census.exec(2, SETTLE + 1);
    for ticket in tickets {
        assert!(!census.inspected(ticket, Outcome::Watched, Some((1, 1))));
    }
    assert_eq!(census.count(Outcome::Watched), 0);
    // The other program has its time to settle.
    assert_eq!(census.due(2 * SETTLE), []);
    assert_eq!(inspect(&mut census, 2 * SETTLE + 1, Outcome::Watched, 2), [2]);
}

#[test]
fn an_event_that_comes_late_changes_nothing() {
    let mut census = census();
    // The scan sees a process whose exec is reported afterwards, and so is the exit of the one that had its PID before.
    assert!(census.apply_scan(&[scanned(1, 7, 1)], 1_000, 1_010).is_empty());
    assert!(!census.exit(1, 990), "another one");
    assert_eq!(inspect(&mut census, 1_020, Outcome::Watched, 1), [1]);
    assert!(!census.exec(1, 995) && !census.exec(1, 1_015));
    assert_eq!(census.count(Outcome::Watched), 1);
    assert!(census.exec(1, 1_030), "this one is newer");
}

#[test]
fn a_scan_corrects_what_no_event_reported() {
    let mut census = census();
    census.apply_scan(&[scanned(1, 7, 1), scanned(2, 7, 1), scanned(3, 7, 1)], 0, 0);
    assert_eq!(inspect(&mut census, 0, Outcome::Watched, 1), [1, 2]);
    assert_eq!(inspect(&mut census, 0, Outcome::Watched, 1), [3]);
    // 1 has ended, 2 has become another program, 3 is another process.
    let gone = census.apply_scan(&[scanned(2, 7, 2), scanned(3, 8, 1)], 100, 110);
    assert_eq!(BTreeSet::from_iter(gone), BTreeSet::from([1, 2, 3]));
    assert!(!census.knows(1) && census.knows(2));
    assert_eq!(inspect(&mut census, 110, Outcome::NotGo, 2).len(), 2);
    // What was reported during the scan is not in it, and exists nevertheless.
    census.exec(9, 205);
    assert!(
        census
            .apply_scan(&[scanned(2, 7, 2), scanned(3, 8, 2)], 200, 210)
            .is_empty()
    );
    assert!(census.knows(9));
}

#[test]
fn what_could_not_be_inspected_is_tried_a_few_times() {
    let mut census = census();
    let mut inspections = 0;
    for round in 0..20 {
        census.apply_scan(&[scanned(1, 7, 1)], round * 10, round * 10 + 1);
        inspections += inspect(&mut census, round * 10 + 2, Outcome::Failed, 1).len();
    }
    assert_eq!(inspections, MAX_FAILURES as usize);
}

/// Which program a process runs, and whether that is one to be watched.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Process {
    start_time: u64,
    exe: u64,
}

impl Process {
    fn outcome(self) -> Outcome {
        match self.exe % 3 {
            0 => Outcome::Watched,
            1 => Outcome::NotGo,
            _ => Outcome::Excluded,
        }
    }
}

/// A host on which processes start, fork, exec and end, which is reported late, twice or never; scans and inspections
/// take time. In the end, after a scan, the census agrees with the host.
fn live(draws: &[u64]) {
    let mut draws = draws.iter();
    let mut random = |below: u64| draws.next().copied().unwrap_or(0) % below;
    let mut census = census();
    let mut host: BTreeMap<u32, Process> = BTreeMap::new();
    let mut watched: BTreeSet<u32> = BTreeSet::new();
    // (pid, when, exec or exit)
    let mut events: Vec<(u32, u64, bool)> = Vec::new();
    let mut inspections: Vec<(Ticket, Option<Process>)> = Vec::new();
    let mut scan: Option<(u64, Vec<Scanned>)> = None;
    let list = |host: &BTreeMap<u32, Process>| -> Vec<Scanned> {
        let all = host
            .iter()
            .map(|(pid, process)| scanned(*pid, process.start_time, process.exe));
        all.collect()
    };
    for step in 0..250u64 {
        let now = step * 100;
        let pid = random(12) as u32;
        match random(8) {
            // Forked, and as a rule another program soon.
            0 | 1 => {
                let process = Process {
                    start_time: step,
                    exe: random(6),
                };
                if let std::collections::btree_map::Entry::Vacant(free) = host.entry(pid) {
                    free.insert(process);
                    if random(4) > 0 {
                        events.push((pid, now, true));
                    }
                }
            }
            2 => {
                if let Some(process) = host.get_mut(&pid) {
                    process.exe = random(6);
                    if random(4) > 0 {
                        events.push((pid, now, true));
                    }
                }
            }
            3 => {
                if host.remove(&pid).is_some() && random(4) > 0 {
                    events.push((pid, now, false));
                    if random(8) == 0 {
                        events.push((pid, now, false));
                    }
                }
            }
            4 => {
                let count = random(events.len() as u64 + 1) as usize;
                for (pid, at, is_exec) in events.drain(..count) {
                    let was_watched = match is_exec {
                        true => census.exec(pid, at),
                        false => census.exit(pid, at),
                    };
                    assert!(!was_watched || watched.remove(&pid), "{pid} was not watched");
                }
            }
            5 => match scan.take() {
                None => scan = Some((now, list(&host))),
                Some((began, all)) => {
                    for pid in census.apply_scan(&all, began, now) {
                        assert!(watched.remove(&pid), "{pid} was not watched");
                    }
                }
            },
            6 => {
                for ticket in census.due(now) {
                    inspections.push((ticket, host.get(&ticket.pid).copied()));
                }
                assert!(inspections.len() <= 2);
            }
            _ => {
                if let Some((ticket, process)) = inspections.pop() {
                    finish(&mut census, &mut watched, ticket, process);
                }
            }
        }
        assert_eq!(
            census.count(Outcome::Watched),
            watched.len() as u64,
            "as many as are watched"
        );
    }
    // The host grows quiet: what is still under way ends, then comes one scan, and all inspections.
    for (ticket, process) in inspections {
        finish(&mut census, &mut watched, ticket, process);
    }
    let now = 1_000_000;
    for pid in census.apply_scan(&list(&host), now, now + 1) {
        assert!(watched.remove(&pid));
    }
    loop {
        let due = census.due(now + 10 * SETTLE);
        if due.is_empty() {
            break;
        }
        for ticket in due {
            finish(&mut census, &mut watched, ticket, host.get(&ticket.pid).copied());
        }
    }
    let expected: BTreeSet<u32> = host
        .iter()
        .filter(|(_, process)| process.outcome() == Outcome::Watched)
        .map(|(pid, _)| *pid)
        .collect();
    assert_eq!(watched, expected);
    assert_eq!(census.pending(), 0);
    assert_eq!(census.processes.len(), host.len());
}

proptest! {
    #[test]
    fn whatever_happens_a_scan_later_all_is_known(draws in vec(any::<u64>(), 1_000)) {
        live(&draws);
    }
}

fn finish(census: &mut Census, watched: &mut BTreeSet<u32>, ticket: Ticket, process: Option<Process>) {
    let outcome = process.map_or(Outcome::Nothing, Process::outcome);
    let counts = census.inspected(ticket, outcome, process.map(|process| (1, process.exe)));
    if counts && outcome == Outcome::Watched {
        assert!(watched.insert(ticket.pid));
    }
}
