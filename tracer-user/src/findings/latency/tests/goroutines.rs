//! Rules about how many goroutines do something: end, allocate, block in system calls, yield.

use super::*;
use crate::model::sched::{ProcessorReport, SiteReport, State};

/// Goroutines of two `go` statements, and how many there are at each of eight moments.
fn made_and_ended(created: u64, exited: u64, moments: [u64; 8]) -> Made<'static> {
    Made::full(|report| {
        report.sites = vec![
            SiteReport {
                gopc: 0x1000,
                created,
                exited,
                runnable: None,
            },
            SiteReport {
                gopc: 0x2000,
                created: 5_000,
                exited: 4_990,
                runnable: None,
            },
        ];
        report.history.moments = moments
            .iter()
            .map(|waiting| {
                let mut living = [0; State::COUNT];
                living[State::Waiting as usize] = *waiting;
                living
            })
            .collect();
    })
}

#[test]
fn goroutines_that_are_made_all_the_time_and_do_not_end_leak() {
    let growing = [10, 210, 410, 610, 810, 1_010, 1_210, 1_410];
    let finding = made_and_ended(1_500, 12, growing).fires("leak-by-creation-site");
    assert_eq!(finding.title, "goroutines of main.fan are made and do not end");
    assert_eq!(
        finding.evidence,
        "within 2.0 s: main.fan 1500 made and 12 ended; in all there were 10 at first and 1410 at the end"
    );
    let id = "leak-by-creation-site";
    // They end.
    made_and_ended(1_500, 1_490, [10; 8]).is_silent(id);
    // A pool that is full after a while.
    made_and_ended(1_500, 12, [10, 900, 1_500, 1_500, 1_500, 1_500, 1_500, 1_500]).is_silent(id);
    // A few.
    made_and_ended(99, 0, [10, 20, 40, 50, 60, 80, 100, 109]).is_silent(id);
}

/// Readings with so many goroutines at the begin and at the end.
fn lived(first: u64, last: u64) -> Made<'static> {
    let at = |at_ns, count| {
        reading(
            at_ns,
            Snapshot {
                goroutines_by_state: vec![("waiting".to_owned(), count)],
                ..Snapshot::default()
            },
        )
    };
    Made::of(Mode::Sampled).seeing(&[at(0, first), at(WINDOW_NS, last)])
}

#[test]
fn without_events_a_leak_is_seen_and_its_place_is_not() {
    let id = "leak-by-creation-site";
    lived(100, 150).is_silent(id);
    lived(500, 100).is_silent(id);
    let undecided = lived(100, 5_100).is_undecided(id);
    assert!(undecided.what.raw().contains("5000 more"), "{undecided:?}");
    Made::of(Mode::Sampled).is_undecided(id);
}

fn assisting(sum_ns: u64) -> Made<'static> {
    let waits = HistogramDelta {
        key: HistogramKey::All,
        scheme: BucketScheme::Kernel,
        counts: vec![(BucketScheme::Kernel.index_of(MS), 700)],
        sum_ns: Some(sum_ns),
        extremes_ns: Some((1_000, 9 * MS)),
        excluded_zero: 0,
    };
    Made::full(|report| {
        report.by_reason = vec![("GC assist wait".to_owned(), waits)];
        report.world.gc_ns = SECOND;
    })
}

#[test]
fn allocating_goroutines_that_wait_for_the_collector_are_reported() {
    let finding = assisting(SECOND).fires("gc-assist");
    assert_eq!(
        finding.evidence,
        "700 waits for assist credit took 1.0 s, up to 9.0 ms each: 0.50 goroutines at a time; the collector marked for 1.0 s \
         of 2.0 s"
    );
    assisting(10 * MS).is_silent("gc-assist");
    Made::of(Mode::Full).is_silent("gc-assist");
    let passive = |pauses| Made::of(Mode::Passive).seeing(&paused(pauses, 1_000));
    passive(4).is_undecided("gc-assist");
    passive(0).is_silent("gc-assist");
    Made::of(Mode::Passive).is_undecided("gc-assist");
}

#[test]
fn very_many_threads_in_system_calls_are_reported() {
    let full = |in_syscalls: u64| {
        Made::full(|report| {
            report.history.begin_ns = SECOND;
            report.history.step_ns = 100 * MS;
            report.history.moments = [3, in_syscalls, 7]
                .map(|count| {
                    let mut living = [0; State::COUNT];
                    living[State::Syscall as usize] = count;
                    living
                })
                .to_vec();
            report.machines.known = 110;
            report.machines.parked = 4;
            report.processors = vec![ProcessorReport {
                id: 0,
                held_ns: 0,
                busy_ns: 0,
                acquired: 0,
                handed_off: 58,
                queued: None,
            }];
            report.world.created_for_processor = 99;
        })
    };
    let finding = full(100).fires("all-ms-blocked");
    assert_eq!(finding.severity, Severity::Info);
    assert_eq!(
        finding.evidence,
        "at 1.200 s 100 goroutines were in system calls or in C, each with a thread of its own; of 110 threads 4 were parked \
         at the end; Ps were taken back from such threads 58 times, for which 99 threads were made"
    );
    assert_eq!(finding.at_ns, Some(1_200 * MS));
    assert_eq!(full(1_000).fires("all-ms-blocked").severity, Severity::Warning);
    full(31).is_silent("all-ms-blocked");
    // Many Ps are many threads.
    let mut large = full(100);
    large.gomaxprocs = Some(16);
    large.is_silent("all-ms-blocked");
    // Readings of memory show it, too.
    let passive = |count| {
        let snapshot = Snapshot {
            goroutines_by_state: vec![("waiting".to_owned(), 5), ("syscall".to_owned(), count)],
            ..Snapshot::default()
        };
        Made::of(Mode::Passive).seeing(&[reading(WINDOW_NS, snapshot)])
    };
    let finding = passive(100).fires("all-ms-blocked");
    assert_eq!(
        finding.evidence,
        "at the end 100 goroutines were in system calls or in C, each with a thread of its own"
    );
    passive(3).is_silent("all-ms-blocked");
    Made::of(Mode::Passive).is_undecided("all-ms-blocked");
}

#[test]
fn yields_that_are_most_of_all_waits_are_good_to_know() {
    let waits = |yields, others| {
        [
            observation(HistogramKey::Origin(Origin::Yielded), &[(1_000, yields)]),
            observation(HistogramKey::Origin(Origin::Unblocked), &[(1_000, others)]),
        ]
    };
    let exact = |yields, others| Made::of(Mode::Exact).seeing(&waits(yields, others));
    let finding = exact(9_000, 1_000).fires("mostly-yields");
    assert_eq!(finding.severity, Severity::Info);
    assert_eq!(finding.title, "90.0% of all waits to run are voluntary yields");
    exact(9_000, 10_000).is_silent("mostly-yields");
    exact(900, 1).is_silent("mostly-yields");
    // The runtime's sample holds yields, and does not mark them.
    let sampled = |count| {
        let waits = [observation(HistogramKey::CreationSite(0x1000), &[(1_000, count)])];
        Made::of(Mode::Sampled).seeing(&waits)
    };
    assert_eq!(sampled(9_000).is_undecided("mostly-yields").mode, Mode::Exact);
    sampled(900).is_silent("mostly-yields");
}
