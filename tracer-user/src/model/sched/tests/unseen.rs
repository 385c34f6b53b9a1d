//! What no event reports: before the capture, in a loss, and when the process ends.

use super::maker::ASSIST;
use super::*;

/// Applies a snapshot in which there is the first goroutine alone, and it waits.
fn apply_snapshot_of_one_waiting(sched: &mut Sched, begin_ns: u64, end_ns: u64) {
    let seen = GoroutineSeen {
        g: g_at(1),
        goid: 1,
        status: s::WAITING,
        reason: CHAN_RECEIVE,
        ..GoroutineSeen::default()
    };
    sched.observe(&Observation {
        at_ns: end_ns,
        kind: Kind::Scheduler(Box::new(SchedSnapshot {
            begin_ns,
            end_ns,
            goroutines: vec![seen],
            ..SchedSnapshot::default()
        })),
    });
}

#[test]
fn the_snapshot_after_a_loss_gives_the_states_anew() {
    let mut sched = sched(27);
    let ms = 1_000_000;
    let world = |at_ns, what: What, flags| Transition {
        at_ns,
        tid: 7,
        what: what as u8,
        flags,
        ..Transition::default()
    };
    sched.apply(&status_change(100 * ms, g_at(1), 7, s::RUNNABLE, s::RUNNING, 0));
    sched.apply(&status_change(101 * ms, g_at(2), 8, s::RUNNABLE, s::RUNNING, 0));
    sched.apply(&world(102 * ms, What::WorldStops, 0));
    // Lost: that the world starts, that the first waits and the second ends, and that the world stops.
    sched.apply(&world(105 * ms, What::WorldStarts, flag::AFTER_LOSS));
    apply_snapshot_of_one_waiting(&mut sched, 106 * ms, 107 * ms);
    let states = [1, 2].map(|n| sched.goroutine_of(g_at(n)).map(|goroutine| goroutine.state));
    assert_eq!(states, [Some(State::Waiting), Some(State::Dead)]);
    assert_eq!(sched.valid_from_ns(), Some(107 * ms));
    // The snapshot was read in the middle of a change: that counts as after the loss, too.
    sched.apply(&status_change(108 * ms, g_at(1), 7, s::RUNNABLE, s::RUNNING, 0));
    let report = sched.report(200 * ms);
    assert_eq!((report.anomalies.total(), report.anomalies.after_loss), (0, 2));
    assert_eq!((report.world.stops, report.world.stopped_ns), (1, 0));
    assert_eq!(report.spent_ns[State::Unknown as usize], (7 + 6) * ms);
    assert!(report.longest.is_empty(), "{:?}", report.longest);
}

/// A worker of the garbage collector says that it waits while it marks. Go 1.19 leaves the reason of its last wait.
#[test]
fn a_goroutine_that_a_snapshot_found_waiting_on_its_thread_runs() {
    let mut sched = sched(19);
    let idle = 24;
    assert_eq!(Reasons::of(19).name(idle), "GC worker (idle)");
    let worker = GoroutineSeen {
        g: g_at(1),
        goid: 1,
        status: s::WAITING,
        reason: idle,
        m: 0x11,
        ..GoroutineSeen::default()
    };
    let machine = MachineSeen {
        m: 0x11,
        tid: 7,
        ..MachineSeen::default()
    };
    sched.observe(&Observation {
        at_ns: 20,
        kind: Kind::Scheduler(Box::new(SchedSnapshot {
            begin_ns: 10,
            end_ns: 20,
            goroutines: vec![worker],
            machines: vec![machine],
            ..SchedSnapshot::default()
        })),
    });
    assert_eq!(sched.goroutine_of(g_at(1)).unwrap().state, State::Running);
    sched.apply(&status_change(50, g_at(1), 7, s::RUNNING, s::WAITING, idle));
    let report = sched.report(100);
    assert_eq!(report.anomalies, Anomalies::default());
    assert_eq!(report.spent_ns[State::Running as usize], 30);
    assert_eq!(report.spent_ns[State::Waiting as usize], 50);
}

#[test]
fn a_process_that_ends_is_no_anomaly() {
    let mut sched = sched(27);
    let thread = |at_ns, what: What, detail| Transition {
        at_ns,
        tid: 7,
        detail,
        what: what as u8,
        ..Transition::default()
    };
    sched.apply(&thread(5, What::ThreadOn, 0));
    sched.apply(&status_change(10, g_at(1), 7, s::RUNNABLE, s::RUNNING, 0));
    assert_eq!(sched.report(50).world.on_cpu_ns, 45);
    sched.apply(&thread(60, What::ThreadEnded, 0));
    // It leaves its CPU after the event of its end.
    sched.apply(&thread(61, What::ThreadOff, 0x80));
    let report = sched.report(100);
    assert_eq!(report.anomalies, Anomalies::default());
    assert_eq!(sched.goroutine_of(g_at(1)).unwrap().state, State::Unknown);
    assert_eq!((report.machines.known, report.world.on_cpu_ns), (0, 55));
}

#[test]
fn a_wait_that_a_snapshot_found_has_no_begin() {
    let mut sched = sched(27);
    apply_snapshot_of_one_waiting(&mut sched, 10, 20);
    sched.apply(&status_change(
        30,
        g_at(2),
        7,
        s::RUNNING,
        s::WAITING,
        CHAN_RECEIVE,
    ));
    let waits: Vec<(u64, u64)> = sched
        .report(100)
        .longest
        .iter()
        .map(|(wait, _)| (wait.begin_ns, wait.duration_ns))
        .collect();
    assert_eq!(waits, [(0, 80), (30, 70)]);
}

#[test]
fn a_goroutine_that_marks_for_the_collector_runs() {
    let g = g_at(1);
    let lives = [
        status_change(10, g, 7, s::DEAD, s::RUNNABLE, 0),
        status_change(20, g, 7, s::RUNNABLE, s::RUNNING, 0),
        status_change(30, g, 7, s::RUNNING, s::WAITING, ASSIST),
        status_change(50, g, 7, s::WAITING, s::RUNNING, 0),
        status_change(60, g, 7, s::RUNNING, s::WAITING, CHAN_RECEIVE),
    ];
    for minor in [21, 24, 27] {
        assert_eq!(Reasons::of(minor).name(ASSIST), "GC assist marking");
        let mut sched = sched(minor);
        lives.iter().for_each(|transition| sched.apply(transition));
        let report = sched.report(100);
        assert_eq!(report.anomalies, Anomalies::default());
        assert_eq!(report.spent_ns[State::Running as usize], 40);
        assert_eq!(report.spent_ns[State::Waiting as usize], 40);
        check_invariants(&sched);
        // It must have been woken, and have begun to run, without an event.
        sched.apply(&status_change(110, g, 8, s::WAITING, s::RUNNING, 0));
        assert_eq!(sched.goroutine_of(g).unwrap().state, State::Running);
        let anomalies = sched.anomalies();
        let inferred = anomalies.inferred[State::Waiting as usize][State::Running as usize];
        assert_eq!((inferred, anomalies.total()), (1, 1));
    }
}
