//! Readings of all states that come in parts and late, while goroutines change.

use super::*;
use crate::stream::transition::ReadingPart;

const MS: u64 = 1_000_000;
/// Factor by which the maker's times are stretched, to some 20 ms for a step: the model believes an event that is close
/// before a snapshot more than the snapshot, and not all are to be.
const STRETCH: u64 = 20_000;
/// Parts of a reading, and gs in each.
const PARTS: u64 = 5;
const IN_PART: u64 = 8;

fn m_of(tid: u32) -> u64 {
    0x7000_0000 + u64::from(tid) * 64
}

/// Reads one part as of now.
fn part_of(maker: &Maker, n: u64, begin_ns: Option<u64>) -> SchedSnapshot {
    let now_ns = maker.now_ns * STRETCH;
    let gs = (n * IN_PART..(n + 1) * IN_PART).map(g_at);
    let seen = gs.filter_map(|g| {
        let (state, tid) = *maker.goroutines.get(&g)?;
        let status = match state {
            State::Runnable => s::RUNNABLE,
            State::Running => s::RUNNING,
            State::Syscall => s::SYSCALL,
            State::Waiting => s::WAITING,
            State::Dead | State::Unknown => return None,
        };
        Some(GoroutineSeen {
            g,
            goid: g,
            status,
            reason: CHAN_RECEIVE,
            m: if tid == 0 { 0 } else { m_of(tid) },
            ..GoroutineSeen::default()
        })
    });
    let mut snapshot = SchedSnapshot {
        begin_ns: now_ns,
        end_ns: now_ns + 1,
        goroutines: seen.collect(),
        part: Some(ReadingPart {
            begin_ns: begin_ns.unwrap_or(now_ns),
            gs: PARTS * IN_PART,
            is_last: n + 1 == PARTS,
        }),
        ..SchedSnapshot::default()
    };
    if begin_ns.is_none() {
        for (tid, (p, _)) in &maker.machines {
            snapshot.machines.push(MachineSeen {
                m: m_of(*tid),
                id: u64::from(*tid),
                tid: *tid,
                p: *p,
                ..MachineSeen::default()
            });
        }
        let held = maker.machines.iter().filter(|(_, (p, _))| *p != 0);
        let held = held.map(|(tid, (p, _))| (*p, m_of(*tid)));
        for (p, m) in held.chain(maker.idle.iter().map(|p| (*p, 0))) {
            snapshot.processors.push(ProcessorSeen {
                p,
                id: ((p - P) / 0x4000) as u32,
                status: u8::from(m != 0),
                m,
                queued: 0,
            });
        }
    }
    snapshot
}

fn apply_snapshot(sched: &mut Sched, snapshot: SchedSnapshot) {
    sched.observe(&Observation {
        at_ns: snapshot.end_ns,
        kind: Kind::Scheduler(Box::new(snapshot)),
    });
}

#[test]
fn a_reading_that_takes_long_and_the_changes_beside_it_give_every_state() {
    for seed in 1..=300 {
        let minor = 22 + (seed % 6) as u32;
        let mut maker = Maker::new(seed, minor);
        let mut random = Random(seed.wrapping_mul(31) | 1);
        (0..random.below(600)).for_each(|_| maker.step());
        let (attached, created, exited) = (maker.made.len(), maker.created, maker.exited);
        (0..random.below(50)).for_each(|_| maker.step());
        // Each part with the number of transitions after which it is applied.
        let mut parts: Vec<(usize, SchedSnapshot)> = Vec::new();
        let mut begin_ns = None;
        for n in 0..PARTS {
            let part = part_of(&maker, n, begin_ns);
            begin_ns.get_or_insert(part.begin_ns);
            let late = maker.made.len() + random.below(30) as usize;
            let earliest = parts.last().map_or(0, |(after, _)| *after);
            parts.push((late.max(earliest), part));
            maker.now_ns += 1;
            (0..random.below(80)).for_each(|_| maker.step());
        }
        let mut sched = sched(minor);
        let mut parts = parts.into_iter().peekable();
        for (n, transition) in maker.made.iter().enumerate().skip(attached) {
            while let Some((_, part)) = parts.next_if(|(after, _)| *after <= n) {
                apply_snapshot(&mut sched, part);
            }
            sched.apply(&Transition {
                at_ns: transition.at_ns * STRETCH,
                ..*transition
            });
        }
        parts.for_each(|(_, part)| apply_snapshot(&mut sched, part));
        assert_eq!(*sched.anomalies(), Anomalies::default(), "seed {seed}");
        assert!(sched.valid_from_ns().is_some(), "seed {seed}");
        for (g, (state, tid)) in &maker.goroutines {
            let (known, on) = sched
                .goroutine_of(*g)
                .map_or((State::Dead, 0), |goroutine| (goroutine.state, goroutine.tid));
            assert_eq!(known, *state, "seed {seed}, {g:x}");
            if *tid != 0 {
                assert_eq!(on, *tid, "seed {seed}, {g:x}");
            }
        }
        check_invariants(&sched);
        assert_eq!(
            (sched.created, sched.exited),
            (maker.created - created, maker.exited - exited),
            "seed {seed}"
        );
    }
}

/// A part of a reading that began at 1 s, in which one goroutine waits, or none.
fn waiting(begin_ns: u64, end_ns: u64, seen: Option<(u64, u64)>, is_last: bool) -> SchedSnapshot {
    let seen = seen.map(|(g, goid)| GoroutineSeen {
        g: g_at(g),
        goid,
        status: s::WAITING,
        reason: CHAN_RECEIVE,
        ..GoroutineSeen::default()
    });
    SchedSnapshot {
        begin_ns,
        end_ns,
        goroutines: seen.into_iter().collect(),
        part: Some(ReadingPart {
            begin_ns: 1000 * MS,
            gs: 2,
            is_last,
        }),
        ..SchedSnapshot::default()
    }
}

#[test]
fn only_all_parts_together_say_what_has_ended_and_that_all_is_known() {
    let whole = [
        waiting(1000 * MS, 1001 * MS, Some((1, 1)), false),
        waiting(1002 * MS, 1003 * MS, Some((2, 2)), true),
    ];
    let without_first = [whole[1].clone()];
    let cut_short = [
        SchedSnapshot {
            cut_short: true,
            ..whole[0].clone()
        },
        whole[1].clone(),
    ];
    for (parts, is_known) in [
        (whole.as_slice(), true),
        (&whole[..1], false),
        (without_first.as_slice(), false),
        (cut_short.as_slice(), false),
    ] {
        let mut sched = sched(27);
        sched.apply(&status_change(
            500 * MS,
            g_at(3),
            7,
            s::RUNNING,
            s::WAITING,
            CHAN_RECEIVE,
        ));
        parts
            .iter()
            .for_each(|part| apply_snapshot(&mut sched, part.clone()));
        assert_eq!(sched.valid_from_ns().is_some(), is_known, "{parts:?}");
        let ended = sched.goroutine_of(g_at(3)).map(|g| g.state) == Some(State::Dead);
        assert_eq!(ended, is_known, "{parts:?}");
    }
}

#[test]
fn a_loss_while_all_states_are_read_spoils_the_reading() {
    let mut sched = sched(27);
    apply_snapshot(&mut sched, waiting(1000 * MS, 1001 * MS, Some((1, 1)), false));
    sched.observe(&Observation {
        at_ns: 1002 * MS,
        kind: Kind::Loss(Loss {
            cause: LossCause::TransitionsDropped,
            count: 1,
        }),
    });
    apply_snapshot(&mut sched, waiting(1003 * MS, 1004 * MS, Some((2, 2)), true));
    assert_eq!(sched.valid_from_ns(), None);
    let again = SchedSnapshot {
        part: None,
        ..waiting(2000 * MS, 2001 * MS, Some((1, 1)), true)
    };
    apply_snapshot(&mut sched, again);
    assert_eq!(sched.valid_from_ns(), Some(2001 * MS));
    assert_eq!(sched.goroutine_of(g_at(2)).unwrap().state, State::Dead);
}

#[test]
fn a_part_that_comes_late_does_not_turn_a_goroutine_back() {
    let mut sched = sched(27);
    let woken = status_change(1010 * MS, g_at(1), 7, s::WAITING, s::RUNNABLE, 1);
    sched.apply(&woken);
    // Lost since then: what is known of it is not certain, but not older than what was read before.
    sched.observe(&Observation {
        at_ns: 1050 * MS,
        kind: Kind::Loss(Loss {
            cause: LossCause::TransitionsDropped,
            count: 1,
        }),
    });
    apply_snapshot(&mut sched, waiting(1000 * MS, 1001 * MS, Some((1, 1)), false));
    let goroutine = sched.goroutine_of(g_at(1)).unwrap();
    assert_eq!((goroutine.state, goroutine.goid), (State::Runnable, 1));
    assert_eq!(sched.anomalies().backwards, 0);
}

#[test]
fn the_id_of_a_goroutine_whose_g_was_read_before_it_was_made_is_not_believed() {
    let mut sched = sched(27);
    // Its g was read while the goroutine 7 had it, which then ended.
    sched.apply(&status_change(1001 * MS, g_at(1), 7, s::RUNNING, s::DEAD, 0));
    sched.apply(&status_change(1002 * MS, g_at(1), 7, s::DEAD, s::RUNNABLE, 0));
    apply_snapshot(&mut sched, waiting(1000 * MS, 1003 * MS, Some((1, 7)), true));
    assert_eq!(sched.goroutine_of(g_at(1)).unwrap().goid, 0);
    let again = SchedSnapshot {
        part: None,
        ..waiting(1004 * MS, 1005 * MS, Some((1, 8)), true)
    };
    apply_snapshot(&mut sched, again);
    let goroutine = sched.goroutine_of(g_at(1)).unwrap();
    assert_eq!((goroutine.state, goroutine.goid), (State::Runnable, 8));
}
