//! What is known of threads: whether they have a CPU, and how they look for goroutines.

use super::story::{BEGIN_US, Story, US, p};
use super::*;

/// A process with one P, whose thread 1 runs goroutine 1: a reading of memory has found that, and no event.
fn found_running() -> Story {
    let mut story = Story::unread(1);
    story.sched.observe(&Observation {
        at_ns: BEGIN_US * US,
        kind: Kind::Scheduler(Box::new(SchedSnapshot {
            begin_ns: BEGIN_US * US,
            end_ns: BEGIN_US * US,
            goroutines: vec![GoroutineSeen {
                g: g_at(1),
                goid: 1,
                status: s::RUNNING,
                m: 0x11,
                ..GoroutineSeen::default()
            }],
            processors: vec![ProcessorSeen {
                p: p(0),
                status: 1,
                m: 0x11,
                ..ProcessorSeen::default()
            }],
            machines: vec![MachineSeen {
                m: 0x11,
                tid: 1,
                ..MachineSeen::default()
            }],
            ..SchedSnapshot::default()
        })),
    });
    story
}

fn causes(story: &Story) -> Vec<(&'static str, u64)> {
    story.causes().into_iter().collect()
}

#[test]
fn a_p_whose_thread_was_not_seen_yet_is_not_taken_for_a_busy_one() {
    let mut story = found_running();
    // What a thread without a P does says nothing about thread 1.
    story.create(3, 9).pass(10);
    assert_eq!(causes(&story), [("unknown", 10)]);
    // A thread that hits a probe has a CPU.
    story.create(4, 1).pass(5);
    assert_eq!(causes(&story), [("p_busy", 10), ("unknown", 10)]);
    // One that is woken before it has left its CPU continues there.
    story.event(What::ThreadWoken, 1, 0, 0, 0).pass(1);
    assert_eq!(causes(&story), [("p_busy", 12), ("unknown", 10)]);
    assert_eq!(story.report().before_known_ns, 0);
}

#[test]
fn a_quota_that_was_used_up_before_anything_was_seen_of_the_thread() {
    // The thread gets a CPU at last: it had none until then, and the kernel has counted why.
    let mut story = found_running();
    story
        .create(3, 9)
        .pass(58_000)
        .throttled(60_000)
        .pass(2_000)
        .on(1)
        .pass(7);
    assert_eq!(causes(&story), [("cgroup_throttled", 60_000), ("p_busy", 7)]);
    // Nothing says that it was throttled.
    let mut story = found_running();
    story.create(3, 9).pass(60_000).on(1).pass(7);
    assert_eq!(causes(&story), [("p_busy", 7), ("unknown", 60_000)]);
    // It was on a CPU: what the kernel has counted is that of another process of the cgroup.
    for ends in [0, 1] {
        let mut story = found_running();
        story.create(3, 9).pass(58_000).throttled(60_000).pass(2_000);
        match ends {
            0 => story.off(1, 0).on(1),
            _ => story.create(4, 1),
        };
        assert_eq!(causes(&story), [("unknown", 60_000)]);
    }
}

#[test]
fn what_the_kernel_does_with_a_thread_makes_it_known() {
    let mut story = found_running();
    story.create(3, 9).pass(10).off(1, 0).pass(4).on(1).pass(3);
    assert_eq!(
        causes(&story),
        [("os_preempted", 4), ("p_busy", 3), ("unknown", 10)]
    );
}

#[test]
fn a_search_is_in_vain_if_its_thread_falls_asleep_without_a_p() {
    let mut story = Story::with_ps(1);
    story.on(1).acquire(1, 0).create(1, 1).run(1, 1);
    story.block(1, 1, CHAN_RECEIVE).pass(3);
    // Time without a CPU is not part of it: another process runs, or the thread pauses while it has the P.
    story.off(1, 0).pass(50).on(1).pass(4);
    story.off(1, 1).pass(60).on(1).pass(1);
    story.release(1, 0).pass(2).off(1, 1);
    let first = Searches {
        found: 1,
        in_vain: 1,
        in_vain_ns: 10 * US,
    };
    assert_eq!(story.sched.machines.searches, first);
    story.pass(100).on(1).acquire(1, 0).pass(1);
    story.wake(1, 1, Origin::Unblocked).run(1, 1);
    assert_eq!(story.sched.machines.searches, Searches { found: 2, ..first });
}

#[test]
fn who_hands_its_p_over_has_not_searched() {
    for (what, subject) in [(What::ProcessorHandedOff, p(0)), (What::GoroutineLocked, g_at(2))] {
        let mut story = Story::with_ps(1);
        story.on(1).acquire(1, 0).create(1, 1).create(2, 1).run(1, 1);
        story.block(1, 1, CHAN_RECEIVE).pass(5);
        story.event(what, 1, subject, 0, 0);
        story.release(1, 0).pass(1).off(1, 1);
        let searches = story.sched.machines.searches;
        assert_eq!((searches.found, searches.in_vain), (1, 0), "{}", what.name());
    }
}

#[test]
fn a_search_that_something_was_lost_from_is_not_counted() {
    let mut story = Story::with_ps(1);
    story.on(1).acquire(1, 0).create(1, 1).run(1, 1);
    story.block(1, 1, CHAN_RECEIVE).pass(5).lose();
    story.release(1, 0).pass(1).off(1, 1);
    assert_eq!(story.sched.machines.searches.in_vain, 0);
}
