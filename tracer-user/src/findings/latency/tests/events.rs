//! Rules about what `full` sees one by one: stops of the world, runs on a CPU, long waits.

use super::*;
use crate::model::sched::{Culprit, LONG_STOP_NS, Peak, Picture, Searches, StopCounts, StopReport, Waker};

fn stop(total_ns: u64, stopping_ns: u64) -> StopReport {
    StopReport {
        begin_ns: 1_204 * MS,
        total_ns,
        stopping_ns,
        last: Some(Who {
            goid: 7,
            gopc: 0x1000,
        }),
        // "read mem stats"
        reason: 7,
        ongoing: false,
    }
}

fn stopped(stops: Vec<StopReport>) -> Made<'static> {
    let ended = stops.iter().filter(|stop| !stop.ongoing);
    let counts = StopCounts {
        ended: ended.clone().count() as u64,
        long: ended.filter(|stop| stop.total_ns > LONG_STOP_NS).count() as u64,
    };
    Made::full(|report| (report.causes.stops, report.causes.stop_counts) = (stops, counts))
}

#[test]
fn long_stops_are_counted_beyond_those_that_are_listed() {
    let mut made = stopped(vec![stop(2_000_000, 10_000); 20]);
    made.report.as_mut().unwrap().causes.stop_counts = StopCounts { ended: 90, long: 73 };
    let finding = made.fires("long-stop");
    assert_eq!(finding.title, "73 stops of the world took up to 2.0 ms");
}

/// Searches of which so many found a goroutine, and so many did not, in so much CPU time of so much in all.
fn searched(found: u64, in_vain: u64, in_vain_ns: u64, on_cpu_ns: u64) -> Made<'static> {
    Made::full(|report| {
        report.searches = Searches {
            found,
            in_vain,
            in_vain_ns,
        };
        report.world.on_cpu_ns = on_cpu_ns;
    })
}

#[test]
fn threads_that_look_for_work_in_vain_are_reported() {
    let finding = searched(20_000, 40_000, 400 * MS, SECOND).fires("idle-spinning");
    assert_eq!(finding.severity, Severity::Info);
    assert_eq!(
        finding.title,
        "threads looked for work and found none for 40.0% of the program's CPU time"
    );
    assert_eq!(
        finding.evidence,
        "400.0 ms of 1.0 s on CPUs, 0.20 CPUs on average, the probes included; 40000 of 60000 searches of threads with a P \
         found no goroutine to run"
    );
    // Goroutines use most of the CPU time.
    searched(20_000, 40_000, 190 * MS, SECOND).is_silent("idle-spinning");
    // The program hardly uses the CPU.
    searched(50, 200, 4 * MS, 5 * MS).is_silent("idle-spinning");
    searched(0, 0, 0, SECOND).is_silent("idle-spinning");
    for mode in [Mode::Passive, Mode::Sampled, Mode::Exact] {
        let undecided = Made::of(mode).is_undecided("idle-spinning");
        assert_eq!(undecided.mode, Mode::Full);
    }
    let undecided = searched(0, 40_000, SECOND, 0).is_undecided("idle-spinning");
    assert!(undecided.what.raw().contains("--no-threads"), "{undecided:?}");
}

#[test]
fn a_long_stop_is_reported_with_who_delayed_it() {
    let finding = stopped(vec![stop(12_300_000, 11_900_000), stop(900_000, 0)]).fires("long-stop");
    assert_eq!(finding.severity, Severity::Warning);
    assert_eq!(finding.title, "one stop of the world took 12.3 ms");
    assert_eq!(
        finding.evidence,
        "at 1.204 s, for read mem stats: 11.9 ms passed until goroutine 7 of main.fan, the last, had stopped"
    );
    assert!(finding.advice.contains("could not be interrupted"), "{finding:?}");
    assert_eq!(finding.at_ns, Some(1_204 * MS));
    let finding = stopped(vec![stop(12_300_000, 11_900_000), stop(2_000_000, 0)]).fires("long-stop");
    assert_eq!(finding.title, "2 stops of the world took up to 12.3 ms");
    assert_eq!(
        finding.evidence,
        "each of them more than 1.0 ms; the longest at 1.204 s, for read mem stats: 11.9 ms passed until goroutine 7 of \
         main.fan, the last, had stopped"
    );
    let without_reason = StopReport {
        reason: 0,
        ..stop(2_000_000, 0)
    };
    assert_eq!(
        stopped(vec![without_reason]).fires("long-stop").evidence,
        "at 1.204 s: no goroutine ran any more when it began"
    );
    // Where nobody delayed it, its purpose took the time.
    let finding = stopped(vec![stop(2_000_000, 10_000)]).fires("long-stop");
    assert_eq!(finding.severity, Severity::Info);
    assert!(finding.advice.contains("runtime/metrics"), "{finding:?}");
    stopped(vec![stop(900_000, 800_000)]).is_silent("long-stop");
    let ongoing = StopReport {
        ongoing: true,
        ..stop(500 * MS, 500 * MS)
    };
    stopped(vec![ongoing]).is_silent("long-stop");
}

#[test]
fn where_all_stops_together_are_short_none_is_long() {
    let passive = |pauses, total_ns| Made::of(Mode::Passive).seeing(&paused(pauses, total_ns));
    passive(20, 800_000).is_silent("long-stop");
    let undecided = passive(20, 30 * MS).is_undecided("long-stop");
    assert!(undecided.what.raw().contains("20 stops"), "{undecided:?}");
    Made::of(Mode::Passive).is_undecided("long-stop");
}

fn ran(gopc: u64, longest_ns: u64) -> Made<'static> {
    let runs = HistogramDelta {
        key: HistogramKey::All,
        scheme: BucketScheme::Kernel,
        counts: vec![
            (BucketScheme::Kernel.index_of(MS), 100),
            (BucketScheme::Kernel.index_of(61 * MS), 12),
        ],
        sum_ns: None,
        extremes_ns: None,
        excluded_zero: 0,
    };
    Made::full(|report| {
        report.causes.culprits = vec![Culprit {
            gopc,
            held_ns: SECOND,
            on_cpu: Some(runs),
            longest_ns,
            longest_at_ns: 1_204 * MS,
            longest_goid: 7,
        }];
    })
}

#[test]
fn a_run_that_nothing_interrupted_is_reported() {
    let finding = ran(0x1000, 61_200_000).fires("not-preemptible");
    assert_eq!(
        finding.evidence,
        "on a CPU for more than 30.0 ms at a time: goroutines of main.fan 12 times, up to 61.2 ms (goroutine 7, ending at \
         1.204 s)"
    );
    assert_eq!(finding.at_ns, Some(1_204 * MS - 30_600_000));
    assert!(finding.advice.contains("no signal can interrupt"), "{finding:?}");
    let limits = Limits {
        godebug: Some("asyncpreemptoff=1".into()),
        ..Limits::default()
    };
    let finding = Made {
        limits,
        ..ran(0x1000, 61_200_000)
    }
    .fires("not-preemptible");
    assert!(
        finding.advice.starts_with("GODEBUG has asyncpreemptoff=1"),
        "{finding:?}"
    );
    // What sysmon interrupts in time.
    ran(0x1000, 20_200_000).is_silent("not-preemptible");
    // The collector's workers run until they are done.
    ran(0x7000, 61_200_000).is_silent("not-preemptible");
    Made::of(Mode::Sampled).is_undecided("not-preemptible");
}

/// Evidence of `full` with these of the slowest waits, of which each is in the histogram as well.
fn waited(slowest: Vec<SlowestWait>) -> Made<'static> {
    let waits: Vec<(u64, u64)> = slowest.iter().map(|wait| (wait.duration_ns, 1)).collect();
    let key = HistogramKey::Origin(Origin::Unblocked);
    let made = Made::full(|report| {
        report.causes.slowest = slowest;
        report.causes.runnable_ns = 4 * SECOND;
    });
    made.seeing(&[observation(key, &waits), observation(key, &[(300, 98)])])
}

fn pictured(runnable: u64) -> Option<Picture> {
    Some(Picture {
        runnable,
        busy: 2,
        idle: 1,
        ..Picture::default()
    })
}

#[test]
fn a_wait_of_more_than_one_turn_is_described_with_what_the_ps_did() {
    let wait = SlowestWait {
        after: Some("chan receive".to_owned()),
        picture: pictured(12),
        ..slow_wait(
            12_140_000,
            &[(Cause::PBusy, 2_300_000), (Cause::CgroupThrottled, 9_840_000)],
        )
    };
    let made = waited(vec![wait.clone(), slow_wait(9 * MS, &[(Cause::PBusy, 9 * MS)])]);
    let finding = made.fires("runnable-too-long");
    // One of a hundred.
    assert_eq!(finding.severity, Severity::Warning);
    assert_eq!(
        finding.evidence,
        "1.0% of all waits; the longest: at 1.000 s goroutine 7 of main.fan waited 12.1 ms to run after chan receive: 9.8 ms \
         throttled by the cgroup's CPU quota, 2.3 ms all Ps busy; at 1.012 s 12 goroutines were runnable; Ps: 2 busy, 1 idle"
    );
    assert!(finding.advice.contains("CPU quota"), "{finding:?}");
    assert_eq!(finding.at_ns, Some(SECOND + 6_070_000));
    waited(vec![slow_wait(9 * MS, &[(Cause::PBusy, 9 * MS)])]).is_silent("runnable-too-long");
    // The other modes know that there are such waits, and not why.
    let long = [observation(
        HistogramKey::Origin(Origin::Unblocked),
        &[(20 * MS, 3)],
    )];
    let undecided = Made::of(Mode::Exact)
        .seeing(&long)
        .is_undecided("runnable-too-long");
    assert!(undecided.what.raw().contains("3 waits"), "{undecided:?}");
    let short = [observation(
        HistogramKey::Origin(Origin::Unblocked),
        &[(2 * MS, 3)],
    )];
    Made::of(Mode::Exact)
        .seeing(&short)
        .is_silent("runnable-too-long");
    // Of a process that did not run, the scheduler is not to blame.
    let halted = [Halted {
        state: Halt::Stopped,
        at_begin: false,
        times: 1,
        at_least_ns: SECOND,
    }];
    let finding = Made {
        halted: &halted,
        ..waited(vec![wait])
    }
    .fires("runnable-too-long");
    assert_eq!(finding.advice, HALTED_MEANWHILE);
}

#[test]
fn a_herd_is_many_at_once_and_not_many_always() {
    let released = |runnable, origin| {
        let wait = SlowestWait {
            origin: Some(origin),
            wakers: vec![Waker::Goroutine(Who {
                goid: 1,
                gopc: 0x1000,
            })],
            ..slow_wait(5 * MS, &[(Cause::PBusy, 5 * MS)])
        };
        let at_ns = wait.begin_ns + MS;
        let mut made = waited(vec![wait]);
        made.report.as_mut().unwrap().causes.peak = Peak {
            runnable,
            woken: runnable - 5,
            at_ns,
        };
        made
    };
    // Two are runnable on average.
    let finding = released(240, Origin::Unblocked).fires("thundering-herd");
    assert_eq!(finding.title, "240 goroutines were runnable at once");
    let evidence = finding.evidence.raw();
    assert!(
        evidence.contains(
            ", 235 of them because they had been woken, while on average there were 2.00. The longest wait"
        ) && evidence.ends_with("woken by goroutine 1 of main.fan"),
        "{finding:?}"
    );
    assert_eq!(finding.severity, Severity::Warning);
    // None of the slowest waits was under way then.
    let mut earlier = released(240, Origin::Unblocked);
    let causes = &mut earlier.report.as_mut().unwrap().causes;
    causes.peak.at_ns += 5 * MS;
    let finding = earlier.fires("thundering-herd");
    assert_eq!(finding.severity, Severity::Info);
    assert!(
        finding
            .evidence
            .raw()
            .ends_with("while on average there were 2.00"),
        "{finding:?}"
    );
    // Few.
    released(40, Origin::Unblocked).is_silent("thundering-herd");
    // Not woken.
    released(240, Origin::Preempted).is_silent("thundering-herd");
    // Most of them not woken: preempted, or new.
    let mut others = released(240, Origin::Unblocked);
    others.report.as_mut().unwrap().causes.peak.woken = 100;
    others.is_silent("thundering-herd");
    // Always so many.
    let mut always = released(240, Origin::Unblocked);
    always.report.as_mut().unwrap().causes.runnable_ns = 200 * WINDOW_NS;
    always.is_silent("thundering-herd");
    // Many Ps take many at once.
    let mut large = released(240, Origin::Unblocked);
    large.gomaxprocs = Some(64);
    large.is_silent("thundering-herd");
    let long = [observation(
        HistogramKey::Origin(Origin::Unblocked),
        &[(20 * MS, 3)],
    )];
    Made::of(Mode::Exact)
        .seeing(&long)
        .is_undecided("thundering-herd");
    Made::of(Mode::Exact).is_silent("thundering-herd");
}

#[test]
fn a_lock_that_is_passed_to_one_who_does_not_run_is_reported() {
    let beside = |reason: &str, count, short| {
        let wait = SlowestWait {
            after: Some(reason.to_owned()),
            ..slow_wait(8 * MS, &[(Cause::PBusy, 8 * MS)])
        };
        let mut made = waited(vec![wait]);
        let waits = delta(HistogramKey::All, &[(MS / 10, short), (8 * MS, count)]);
        made.report.as_mut().unwrap().causes.after = vec![(reason.to_owned(), waits)];
        made
    };
    let after = |reason: &str, count| beside(reason, count, 5);
    let thrice = |reason: &str| after(reason, 3);
    let finding = thrice("sync.Mutex.Lock").fires("mutex-handoff");
    assert!(
        finding.evidence.raw().starts_with(
            "3 of the 8 waits to run that came after a wait for a lock took more than 1.0 ms; the longest: "
        ),
        "{finding:?}"
    );
    thrice("sync.RWMutex.RLock").fires("mutex-handoff");
    thrice("chan receive").is_silent("mutex-handoff");
    after("sync.Mutex.Lock", 2).is_silent("mutex-handoff");
    // Three of very many.
    beside("sync.Mutex.Lock", 3, 5_000).is_silent("mutex-handoff");
    // Up to Go 1.20 locks have no reason of their own; later it is that of something else.
    thrice("semacquire").is_silent("mutex-handoff");
    let old = Made {
        go_minor: Some(19),
        ..thrice("semacquire")
    };
    old.fires("mutex-handoff");
    let long = [observation(
        HistogramKey::Origin(Origin::Unblocked),
        &[(20 * MS, 3)],
    )];
    Made::of(Mode::Exact).seeing(&long).is_undecided("mutex-handoff");
    Made::of(Mode::Exact).is_silent("mutex-handoff");
}
