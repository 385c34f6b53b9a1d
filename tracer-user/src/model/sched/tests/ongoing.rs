//! What is not over at the end of a capture.

use super::*;
use crate::model::Model;
use crate::model::ongoing::Stretches;
use crate::stream::ongoing::{OngoingSeen, StillStopped};

const MS: u64 = 1_000_000;

/// (goid, at least in ms, whether the begin is known) of the longest.
fn longest(stretches: &Option<Stretches>) -> Vec<(u64, u64, bool)> {
    let longest = stretches.iter().flat_map(|stretches| &stretches.longest);
    longest
        .map(|stretch| (stretch.goid, stretch.at_least_ns / MS, stretch.is_begin_known))
        .collect()
}

fn seen(n: u64, status: u8, m: u64) -> GoroutineSeen {
    GoroutineSeen {
        g: g_at(n),
        goid: n,
        status,
        reason: 0,
        m,
        gopc: 0x401_000,
        startpc: 0x402_000,
    }
}

fn reading(begin_ns: u64, goroutines: Vec<GoroutineSeen>) -> Observation {
    Observation {
        at_ns: begin_ns + MS,
        kind: Kind::Scheduler(Box::new(SchedSnapshot {
            begin_ns,
            end_ns: begin_ns + MS,
            goroutines,
            machines: vec![MachineSeen {
                m: 0x11,
                tid: 7,
                ..MachineSeen::default()
            }],
            ..SchedSnapshot::default()
        })),
    }
}

fn world(at_ns: u64, what: What, reason: u8) -> Transition {
    Transition {
        at_ns,
        tid: 7,
        what: what as u8,
        reason,
        ..Transition::default()
    }
}

#[test]
fn goroutines_are_reported_in_the_state_that_they_have_not_left() {
    let mut sched = sched(27);
    // Runnable and running before the capture, for who knows how long.
    sched.observe(&reading(
        99 * MS,
        vec![seen(1, s::RUNNING, 0x11), seen(2, s::RUNNABLE, 0)],
    ));
    sched.apply(&status_change(200 * MS, g_at(3), 7, s::DEAD, s::RUNNABLE, 0));
    // It waits for its turn, gets it, and waits for something else.
    sched.apply(&status_change(300 * MS, g_at(4), 8, s::DEAD, s::RUNNABLE, 0));
    sched.apply(&status_change(310 * MS, g_at(4), 8, s::RUNNABLE, s::RUNNING, 0));
    sched.apply(&status_change(
        320 * MS,
        g_at(4),
        8,
        s::RUNNING,
        s::WAITING,
        CHAN_RECEIVE,
    ));
    // It ends, and its g is used again.
    sched.apply(&status_change(330 * MS, g_at(5), 8, s::DEAD, s::RUNNABLE, 0));
    sched.apply(&status_change(340 * MS, g_at(5), 8, s::RUNNABLE, s::RUNNING, 0));
    sched.apply(&status_change(350 * MS, g_at(5), 8, s::RUNNING, s::DEAD, 0));
    sched.apply(&status_change(900 * MS, g_at(5), 8, s::DEAD, s::RUNNABLE, 0));
    let ongoing = sched.ongoing(1_000 * MS);
    assert_eq!(
        longest(&ongoing.runnable),
        [(2, 900, false), (0, 800, true), (0, 100, true)]
    );
    assert_eq!(longest(&ongoing.running), [(1, 900, false)]);
    assert_eq!(longest(&ongoing.syscalls), []);
    let runnable = ongoing.runnable.unwrap();
    assert_eq!((runnable.count, runnable.unknown, runnable.starved), (3, 0, 0));
    let origins: Vec<_> = runnable.longest.iter().map(|stretch| stretch.origin).collect();
    let created = Some(crate::stream::Origin::Created);
    assert_eq!(origins, [None, created, created]);
    assert_eq!(ongoing.stop, None);
}

#[test]
fn nothing_is_known_across_a_loss_until_the_states_are_read_anew() {
    let mut sched = sched(27);
    sched.observe(&reading(
        99 * MS,
        vec![seen(2, s::RUNNABLE, 0), seen(3, s::WAITING, 0)],
    ));
    sched.apply(&world(200 * MS, What::WorldStops, 7));
    sched.observe(&Observation {
        at_ns: 300 * MS,
        kind: Kind::Loss(Loss {
            cause: LossCause::TransitionsDropped,
            count: 3,
        }),
    });
    let ongoing = sched.ongoing(400 * MS);
    let runnable = ongoing.runnable.unwrap();
    assert_eq!((runnable.count, runnable.unknown), (1, 1));
    assert_eq!(ongoing.stop, None, "the world may have started again");
    sched.observe(&reading(
        499 * MS,
        vec![seen(2, s::RUNNABLE, 0), seen(3, s::WAITING, 0)],
    ));
    let ongoing = sched.ongoing(900 * MS);
    assert_eq!(longest(&ongoing.runnable), [(2, 400, false)]);
    let waits = sched.report(900 * MS).longest;
    let waits: Vec<_> = waits
        .iter()
        .map(|(wait, _)| (wait.goid, wait.duration_ns / MS))
        .collect();
    assert_eq!(waits, [(3, 400)]);
}

#[test]
fn a_stop_of_the_world_is_reported_while_it_lasts() {
    let config = SchedConfig {
        minor: 27,
        syscalls: false,
        slower_ns: None,
        assists: false,
    };
    let transitions = |all: Vec<Transition>| Observation {
        at_ns: 0,
        kind: Kind::Transitions(all),
    };
    let in_memory = Observation {
        at_ns: 990 * MS,
        kind: Kind::Ongoing(OngoingSeen {
            runnable: None,
            stop: Some(StillStopped {
                since_ns: 500 * MS,
                not_stopped: 1,
            }),
        }),
    };
    let stop = |all: Vec<Transition>| {
        let mut model = Model::with_scheduler(config);
        model.observe(&transitions(all));
        model.observe(&in_memory);
        model.ongoing(0, 1_000 * MS).unwrap().stop
    };
    let stopping = stop(vec![world(400 * MS, What::WorldStops, 7)]).unwrap();
    assert_eq!(stopping.at_least_ns, Some(600 * MS));
    assert_eq!(stopping.reason_name(), Some("read mem stats"));
    assert_eq!(stopping.not_stopped, Some(1));
    // It has ended since memory was read.
    let ended = vec![
        world(400 * MS, What::WorldStops, 7),
        world(995 * MS, What::WorldStarts, 0),
    ];
    assert_eq!(stop(ended), None);
    // It began before the capture: only memory shows it.
    let before = stop(vec![]).unwrap();
    assert_eq!((before.at_least_ns, before.reason), (Some(490 * MS), None));
}
