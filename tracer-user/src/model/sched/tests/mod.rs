//! Made-up schedules: the model must end in the same state as their maker, in whatever order CPUs deliver the events;
//! and no input may break it.

mod causes;
mod identities;
mod maker;
mod ongoing;
mod parts;
mod story;
mod threads;
mod unseen;

use std::collections::BTreeMap;

use maker::{CHAN_RECEIVE, COROUTINE, Maker, P, Random, g_at};

use tracer_ebpf::full::{status as s, statuses};

use super::*;
use crate::stream::reorder::Reorder;
use crate::stream::transition::{
    GoroutineSeen, MachineSeen, ProcessorSeen, SchedSnapshot, Transition, What, flag,
};
use crate::stream::{Event, Loss, Origin, SchedConfig, Throttling};

fn sched(minor: u32) -> Sched {
    Sched::new(SchedConfig {
        minor,
        syscalls: true,
        slower_ns: None,
        assists: true,
    })
}

/// Delivers transitions as CPUs do: near ones out of order, but those of one goroutine in order; in batches.
fn delivered(made: &[Transition], random: &mut Random) -> Vec<Transition> {
    let mut ring: Vec<(u64, Transition)> = Vec::new();
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for transition in made {
        // A place in the ring is taken up to 4 µs before the clock is read.
        let place = transition.at_ns - random.below(4_000).min(transition.at_ns);
        let own = last.entry(transition.subject).or_default();
        let place = place.max(*own + 1);
        *own = place;
        ring.push((place, *transition));
    }
    ring.sort_by_key(|(place, _)| *place);
    let mut reorder = Reorder::new();
    let mut ordered = Vec::new();
    for (place, transition) in ring {
        reorder.push(transition);
        if random.below(20) == 0 {
            ordered.extend(reorder.until(place.saturating_sub(5_000)));
        }
    }
    ordered.extend(reorder.until(u64::MAX));
    assert_eq!(reorder.take_late(), 0);
    ordered
}

/// Checks what holds after any input.
fn check_invariants(sched: &Sched) {
    let mut on: BTreeMap<u32, u64> = BTreeMap::new();
    for goroutine in sched.goroutines() {
        if matches!(goroutine.state, State::Running | State::Syscall) {
            let other = on.insert(goroutine.tid, goroutine.g);
            assert!(other.is_none(), "two goroutines on thread {}", goroutine.tid);
            let machine = &sched.machines.by_tid[&goroutine.tid];
            let slot = machine.running.expect("the thread knows its goroutine");
            assert_eq!(sched.goroutines.get(slot).map(|g| g.g), Some(goroutine.g));
        }
    }
    let mut held: BTreeMap<u32, u64> = BTreeMap::new();
    for (p, processor) in &sched.machines.processors {
        if processor.tid != 0 {
            assert!(held.insert(processor.tid, *p).is_none(), "two Ps on one thread");
            assert_eq!(sched.machines.by_tid[&processor.tid].p, *p);
        }
    }
    let living = sched.goroutines().count() as u64;
    let by_state: u64 = State::ALL[..5].iter().map(|s| sched.living[*s as usize]).sum();
    assert_eq!(living, by_state);
    let mut spent = 0;
    for goroutine in sched.goroutines() {
        let own: u64 = goroutine.spent_ns.iter().sum();
        if goroutine.is(goroutine::mark::SEEN_CREATED) {
            assert_eq!(
                own,
                goroutine.since_ns - goroutine.created_ns,
                "times add up to the lifetime"
            );
        }
        spent += own;
    }
    assert!(spent <= sched.spent_ns.iter().sum());
}

#[test]
fn a_legal_schedule_is_rebuilt_whatever_the_order_of_delivery() {
    for seed in 1..=300 {
        let minor = 22 + (seed % 6) as u32;
        let mut maker = Maker::new(seed, minor);
        (0..600).for_each(|_| maker.step());
        let ordered = delivered(&maker.made, &mut Random(seed | 1));
        let mut sched = sched(minor);
        ordered.iter().for_each(|transition| sched.apply(transition));
        assert_eq!(*sched.anomalies(), Anomalies::default(), "seed {seed}");
        for (g, (state, tid)) in &maker.goroutines {
            let goroutine = sched.goroutine_of(*g).expect("an event of it was seen");
            assert_eq!(goroutine.state, *state, "seed {seed}, {g:x}");
            if *tid != 0 {
                assert_eq!(goroutine.tid, *tid, "seed {seed}, {g:x}");
            }
        }
        check_invariants(&sched);
        assert_eq!(
            (sched.created, sched.exited),
            (maker.created, maker.exited),
            "seed {seed}"
        );
        for (state, ns) in &maker.spent {
            assert_eq!(
                sched.spent_ns[*state as usize],
                *ns,
                "seed {seed}, {}",
                state.name()
            );
        }
        let waits: u64 = sched
            .take_derived()
            .iter()
            .filter_map(|derived| match &derived.kind {
                Kind::HistogramDelta(delta) => Some(delta.counts.iter().map(|(_, n)| n).sum::<u64>()),
                _ => None,
            })
            .sum();
        assert_eq!(waits, maker.waits, "seed {seed}");
    }
}

#[test]
fn lost_and_made_up_events_break_nothing() {
    for seed in 1..=300 {
        let minor = 22 + (seed % 6) as u32;
        let mut maker = Maker::new(seed, minor);
        (0..600).for_each(|_| maker.step());
        let mut random = Random(seed.wrapping_mul(77) | 1);
        let mut sched = sched(minor);
        for transition in &maker.made {
            match random.below(10) {
                0 => continue,
                1 => sched.apply(&Transition {
                    at_ns: transition.at_ns,
                    subject: g_at(random.below(50)),
                    detail: g_at(random.below(50)),
                    tid: 95 + random.below(15) as u32,
                    what: random.below(25) as u8,
                    status: random.next() as u8,
                    reason: random.next() as u8,
                    flags: 0,
                }),
                2 => sched.apply(&Transition {
                    at_ns: transition.at_ns.saturating_sub(random.below(1_000_000)),
                    ..*transition
                }),
                _ => {}
            }
            sched.apply(transition);
            if random.below(50) == 0 {
                sched.observe(&Observation {
                    at_ns: transition.at_ns,
                    kind: Kind::Loss(Loss {
                        cause: LossCause::TransitionsDropped,
                        count: 3,
                    }),
                });
            }
        }
        let report = sched.report(maker.now_ns);
        assert_eq!(report.valid_from_ns, None, "seed {seed}");
        // One goroutine to a thread: that holds after any nonsense.
        let threads = sched.goroutines().filter(|g| g.state == State::Running).count();
        let distinct: std::collections::BTreeSet<u32> = sched
            .goroutines()
            .filter(|g| g.state == State::Running)
            .map(|g| g.tid)
            .collect();
        assert_eq!(threads, distinct.len(), "seed {seed}");
    }
}

fn status_change(at_ns: u64, g: u64, tid: u32, old: u8, new: u8, reason: u8) -> Transition {
    Transition {
        at_ns,
        subject: g,
        tid,
        what: What::Goroutine as u8,
        status: statuses(u32::from(old), u32::from(new)),
        reason,
        ..Transition::default()
    }
}

#[test]
fn each_event_that_is_missing_is_one_anomaly_of_its_kind() {
    let g = g_at(1);
    let all = [
        status_change(10, g, 7, s::DEAD, s::RUNNABLE, 0),
        status_change(20, g, 7, s::RUNNABLE, s::RUNNING, 0),
        status_change(30, g, 7, s::RUNNING, s::WAITING, CHAN_RECEIVE),
        status_change(40, g, 8, s::WAITING, s::RUNNABLE, 1),
        status_change(50, g, 7, s::RUNNABLE, s::RUNNING, 0),
        status_change(60, g, 7, s::RUNNING, s::DEAD, 0),
    ];
    let expected = [
        (1, State::Runnable, State::Running),
        (2, State::Running, State::Waiting),
        (3, State::Waiting, State::Runnable),
        (4, State::Runnable, State::Running),
    ];
    for (missing, from, to) in expected {
        let mut sched = sched(27);
        for (n, transition) in all.iter().enumerate() {
            if n != missing {
                sched.apply(transition);
            }
        }
        let anomalies = sched.anomalies();
        assert_eq!(anomalies.inferred[from as usize][to as usize], 1, "{missing}");
        assert_eq!(anomalies.total(), 1, "{missing}: {anomalies:?}");
    }
    // After a loss it is counted as such, and no wait is measured across it.
    let mut sched = sched(27);
    all[..2].iter().for_each(|transition| sched.apply(transition));
    sched.apply(&Transition {
        flags: flag::AFTER_LOSS,
        ..status_change(41, g, 8, s::WAITING, s::RUNNABLE, 1)
    });
    sched.apply(&all[4]);
    assert_eq!((sched.anomalies().total(), sched.anomalies().after_loss), (0, 1));
    let reasons = sched.report(100).by_reason;
    assert!(reasons.is_empty(), "{reasons:?}");
}

#[test]
fn versions_have_their_own_rules() {
    let g = g_at(1);
    for (minor, illegal) in [(25, 0), (26, 1)] {
        let mut sched = sched(minor);
        sched.apply(&status_change(10, g, 7, s::SYSCALL, s::RUNNABLE, 4));
        assert_eq!(sched.anomalies().illegal, illegal, "go1.{minor}");
    }
}

#[test]
fn a_lost_p_stands_for_a_system_call_that_is_not_recorded() {
    let mut sched = Sched::new(SchedConfig {
        minor: 27,
        syscalls: false,
        slower_ns: Some(5),
        assists: false,
    });
    let processor = |at_ns, what: What, tid| Transition {
        at_ns,
        subject: P,
        tid,
        what: what as u8,
        ..Transition::default()
    };
    sched.apply(&processor(5, What::ProcessorAcquired, 7));
    sched.apply(&status_change(10, g_at(1), 7, s::DEAD, s::RUNNABLE, 0));
    sched.apply(&status_change(20, g_at(1), 7, s::RUNNABLE, s::RUNNING, 0));
    sched.apply(&processor(30, What::ProcessorHandedOff, 99));
    assert_eq!(sched.goroutine_of(g_at(1)).unwrap().state, State::Syscall);
    sched.apply(&status_change(40, g_at(1), 7, s::RUNNING, s::RUNNABLE, 4));
    let report = sched.report(50);
    assert_eq!((report.inferred_syscalls, report.anomalies.total()), (1, 0));
    assert_eq!(report.spent_ns[State::Syscall as usize], 10);
    let slow = sched.take_derived();
    assert!(
        slow.iter()
            .any(|seen| matches!(&seen.kind, Kind::Event(Event::SlowWait(wait)) if wait.latency_ns == 10)),
        "{slow:?}"
    );
}

#[test]
fn a_snapshot_gives_the_states_that_no_event_has() {
    let mut sched = sched(27);
    // An event shortly before the snapshot's end, which is believed more.
    sched.apply(&status_change(
        100_000_000,
        g_at(2),
        8,
        s::RUNNING,
        s::WAITING,
        CHAN_RECEIVE,
    ));
    let seen = |g, status, m, goid| GoroutineSeen {
        g,
        goid,
        status,
        reason: CHAN_RECEIVE,
        m,
        gopc: 0x401_000,
        startpc: 0x402_000,
    };
    let snapshot = SchedSnapshot {
        begin_ns: 99_000_000,
        end_ns: 101_000_000,
        goroutines: vec![
            seen(g_at(1), s::RUNNING, 0x11, 1),
            seen(g_at(2), s::RUNNING, 0x12, 2),
            seen(g_at(3), s::WAITING, 0, 3),
        ],
        processors: vec![ProcessorSeen {
            p: P,
            id: 0,
            status: 1,
            m: 0x11,
            queued: 2,
        }],
        machines: vec![
            MachineSeen {
                m: 0x11,
                tid: 7,
                ..MachineSeen::default()
            },
            MachineSeen {
                m: 0x12,
                id: 1,
                tid: 8,
                ..MachineSeen::default()
            },
        ],
        cut_short: false,
        part: None,
    };
    let at = |kind| Observation {
        at_ns: 101_000_000,
        kind,
    };
    sched.observe(&at(Kind::Scheduler(Box::new(snapshot.clone()))));
    let states: Vec<(State, u64)> = (1..=3)
        .map(|n| sched.goroutine_of(g_at(n)).map(|g| (g.state, g.goid)).unwrap())
        .collect();
    assert_eq!(
        states,
        [(State::Running, 1), (State::Waiting, 2), (State::Waiting, 3)]
    );
    assert_eq!(sched.anomalies().total(), 0);
    assert_eq!(sched.valid_from_ns(), Some(101_000_000));
    check_invariants(&sched);
    // The world starts again with as many Ps as before, then with more, and with fewer.
    for (at_ns, processors) in [(200, 1), (201, 4), (202, 4), (203, 1)] {
        sched.apply(&Transition {
            at_ns: at_ns * 1_000_000,
            subject: processors,
            what: What::ProcessorsResized as u8,
            ..Transition::default()
        });
    }
    assert_eq!(sched.report(300_000_000).world.resized, 2);
    // A second one, in which a goroutine is gone and another is in another state: both are counted.
    let later = SchedSnapshot {
        begin_ns: 900_000_000,
        end_ns: 901_000_000,
        goroutines: vec![seen(g_at(1), s::WAITING, 0, 1), seen(g_at(2), s::WAITING, 0, 2)],
        ..snapshot
    };
    sched.observe(&at(Kind::Scheduler(Box::new(later))));
    assert_eq!(sched.anomalies().snapshot_differs, 2);
    assert_eq!(sched.goroutine_of(g_at(3)).unwrap().state, State::Dead);
    let report = sched.report(1_000_000_000);
    assert_eq!(
        (report.processors.len(), report.living[State::Waiting as usize]),
        (1, 2)
    );
}

#[test]
fn go_statements_past_the_limit_share_a_histogram() {
    let mut waits = Waits::default();
    for gopc in 1..=70_000 {
        waits.site(gopc).created += 1;
    }
    let sites: Vec<(u64, u64)> = waits.sites().map(|(gopc, site)| (gopc, site.created)).collect();
    assert_eq!(sites.len(), 65_537);
    assert_eq!(sites.iter().map(|(_, created)| created).sum::<u64>(), 70_000);
}

#[test]
fn a_coroutine_that_ends_does_so_after_it_has_switched() {
    let mut sched = sched(27);
    sched.apply(&status_change(10, g_at(1), 7, s::RUNNABLE, s::RUNNING, 0));
    sched.apply(&status_change(11, g_at(2), 7, s::DEAD, s::WAITING, COROUTINE));
    let switch = |at_ns, next, before| Transition {
        at_ns,
        subject: next,
        detail: before,
        tid: 7,
        what: What::Coroutine as u8,
        ..Transition::default()
    };
    sched.apply(&switch(20, g_at(2), g_at(1)));
    assert_eq!(sched.goroutine_of(g_at(2)).unwrap().state, State::Running);
    sched.apply(&switch(30, g_at(1), g_at(2)));
    sched.apply(&status_change(31, g_at(2), 7, s::RUNNING, s::DEAD, 0));
    assert_eq!(sched.goroutine_of(g_at(1)).unwrap().state, State::Running);
    assert_eq!(sched.anomalies().total(), 0, "{:?}", sched.anomalies());
    check_invariants(&sched);
}

#[test]
fn a_displaced_goroutine_changes_before_the_one_that_takes_its_thread() {
    let mut sched = sched(27);
    sched.keep_changes();
    sched.apply(&status_change(10, g_at(1), 7, s::RUNNABLE, s::RUNNING, 0));
    sched.apply(&status_change(20, g_at(2), 7, s::RUNNABLE, s::RUNNING, 0));
    let changes = sched.take_changes();
    let seen: Vec<(u64, State, State)> = changes
        .iter()
        .map(|change| (change.g, change.from, change.to))
        .collect();
    assert_eq!(
        seen,
        [
            (g_at(1), State::Dead, State::Runnable),
            (g_at(1), State::Runnable, State::Running),
            (g_at(2), State::Dead, State::Runnable),
            (g_at(1), State::Running, State::Unknown),
            (g_at(2), State::Runnable, State::Running),
        ]
    );
    // Since when they were runnable was not seen: none of these is a wait of known length.
    assert!(changes.iter().all(|change| !change.exact), "{changes:?}");
    assert_eq!(sched.anomalies().displaced, 1);
}
