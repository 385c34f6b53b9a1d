use tracer_ebpf::full::{status as s, statuses};

use super::*;
use crate::model::sched::{Reasons, Sched};
use crate::stream::SchedConfig;
use crate::stream::transition::{Transition, What, end};
use crate::stream::{Kind, Observation};

const G: u64 = 0xc000_0000_0000;
const SLEEP: u8 = 19;

fn change(at_ns: u64, g: u64, (old, new): (u8, u8), detail: u64) -> Transition {
    Transition {
        at_ns,
        subject: g,
        detail,
        tid: 7,
        what: What::Goroutine as u8,
        status: statuses(u32::from(old), u32::from(new)),
        reason: if new == s::WAITING { SLEEP } else { 0 },
        flags: 0,
    }
}

fn observe(sched: &mut Sched, kind: Kind) {
    sched.observe(&Observation { at_ns: 0, kind });
}

fn stack(id: u32) -> StackSeen {
    StackSeen {
        id,
        pcs: vec![u64::from(id) * 16],
        end: end::WHOLE,
    }
}

/// A goroutine that is made, runs, blocks at each of these places for so long, and then runs again.
fn life(g: u64, gopc: u64, from_ns: u64, waits: &[(u64, u64)]) -> (Vec<Transition>, u64) {
    let mut now_ns = from_ns;
    let mut made = vec![
        change(now_ns, g, (s::DEAD, s::RUNNABLE), gopc),
        change(now_ns + 1, g, (s::RUNNABLE, s::RUNNING), 0),
    ];
    for &(stack, ns) in waits {
        now_ns += 10;
        made.push(change(now_ns, g, (s::RUNNING, s::WAITING), stack));
        now_ns += ns;
        made.push(change(now_ns, g, (s::WAITING, s::RUNNABLE), 0));
        made.push(change(now_ns + 1, g, (s::RUNNABLE, s::RUNNING), 0));
    }
    (made, now_ns + 10)
}

fn sched() -> Sched {
    Sched::new(SchedConfig {
        minor: 27,
        syscalls: false,
        slower_ns: None,
        assists: false,
    })
}

#[test]
fn waits_are_counted_by_place() {
    let mut sched = sched();
    let new = vec![stack(1), stack(2)];
    observe(&mut sched, Kind::Stacks(StacksSeen { new, walked: 7 }));
    let (mut made, now_ns) = life(G, 0x40, 1_000, &[(1, 100), (2, 5_000), (1, 300), (0, 7)]);
    // One that waits still; and one made elsewhere, of a stack that was never seen.
    made.push(change(now_ns, G, (s::RUNNING, s::WAITING), 2));
    let (more, now_ns) = life(G + 512, 0x80, now_ns + 10, &[(99, 11)]);
    made.extend(more);
    // It says that it waits, and stops the world: it does not block.
    let stopping = (0..=u8::MAX).find(|n| Reasons::of(27).name(*n) == "stopping the world");
    made.push(Transition {
        reason: stopping.unwrap(),
        ..change(now_ns, G + 512, (s::RUNNING, s::WAITING), 1)
    });
    observe(&mut sched, Kind::Transitions(made));
    let report = sched.report(now_ns + 1_000);
    let stacks = report.stacks.unwrap();
    assert_eq!((stacks.walked, stacks.different), (6, 2));
    let places: Vec<_> = stacks
        .places
        .iter()
        .map(|place| {
            (
                place.stack.id,
                place.gopc,
                place.blocked.count,
                place.blocked.ongoing,
            )
        })
        .collect();
    assert_eq!(places, [(2, 0x40, 1, 1), (1, 0x40, 2, 0)]);
    let [second, first] = stacks.places.as_slice() else {
        panic!("{stacks:?}");
    };
    assert_eq!((first.blocked.total_ns, first.blocked.max_ns), (400, 300));
    assert!(second.blocked.total_ns > 6_000, "{second:?}");
    let elsewhere = stacks.elsewhere;
    assert_eq!(
        (elsewhere.count, elsewhere.total_ns, elsewhere.max_ns),
        (2, 18, 11)
    );
    // As many waits are counted by place as by reason.
    let waits: u64 = stacks.places.iter().map(|place| place.blocked.count).sum();
    let [(_, by_reason)] = report.by_reason.as_slice() else {
        panic!("{:?}", report.by_reason);
    };
    assert_eq!(
        waits + elsewhere.count,
        by_reason.counts.iter().map(|(_, count)| count).sum::<u64>()
    );
}

#[test]
fn a_stack_does_not_stay_for_the_next_wait() {
    let mut sched = sched();
    let new = vec![stack(1)];
    observe(&mut sched, Kind::Stacks(StacksSeen { new, walked: 1 }));
    let (made, now_ns) = life(G, 0x40, 1_000, &[(1, 100), (0, 50)]);
    observe(&mut sched, Kind::Transitions(made));
    // A g that is used anew begins without one.
    let (mut made, now_ns) = life(G, 0x80, now_ns + 10, &[]);
    made.push(change(now_ns, G, (s::RUNNING, s::WAITING), 0));
    observe(&mut sched, Kind::Transitions(made));
    let stacks = sched.report(now_ns + 5).stacks.unwrap();
    assert_eq!(stacks.places.len(), 1);
    assert_eq!(stacks.places[0].blocked.total_ns, 100);
    assert_eq!((stacks.elsewhere.count, stacks.elsewhere.ongoing), (1, 1));
}

#[test]
fn without_stacks_there_is_no_report() {
    let mut sched = sched();
    let (made, now_ns) = life(G, 0x40, 1_000, &[(0, 100)]);
    observe(&mut sched, Kind::Transitions(made));
    assert!(sched.report(now_ns).stacks.is_none());
}

/// A damaged recording might hold such numbers.
#[test]
fn impossible_numbers_do_no_harm() {
    let mut sched = sched();
    let new = vec![stack(u32::MAX), stack(0)];
    observe(
        &mut sched,
        Kind::Stacks(StacksSeen {
            new,
            walked: u64::MAX,
        }),
    );
    observe(
        &mut sched,
        Kind::Stacks(StacksSeen {
            new: Vec::new(),
            walked: 2,
        }),
    );
    let (made, now_ns) = life(G, 0x40, 1_000, &[(u64::MAX, 100), (1 << 33, 100)]);
    observe(&mut sched, Kind::Transitions(made));
    let stacks = sched.report(now_ns).stacks.unwrap();
    assert_eq!(stacks.walked, u64::MAX);
    assert!(stacks.places.is_empty());
    assert_eq!(stacks.elsewhere.count, 2);
}
