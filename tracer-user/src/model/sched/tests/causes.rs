//! Why goroutines waited to run: one story for each cause, and identities that hold of any schedule.

use super::story::{BEGIN_US, Story, US, p};
use super::*;

/// Goroutine 1 runs on thread 1 with P 0, goroutine 2 on thread 2 with P 1, and both threads have a CPU.
fn both_busy() -> Story {
    let mut story = Story::with_ps(2);
    for n in 1..=2 {
        story.on(n).acquire(n, u64::from(n) - 1).create(u64::from(n), n);
        story.run(u64::from(n), n);
    }
    assert!(story.causes().is_empty());
    story
}

fn seen(story: &Story) -> Vec<(&'static str, u64)> {
    story.causes().into_iter().collect()
}

#[test]
fn where_every_p_is_busy_it_waits_behind_them() {
    let mut story = both_busy();
    story.create(3, 1).pass(10);
    assert_eq!(seen(&story), [("p_busy", 10)]);
    story.leave(1, 1, Origin::Preempted).run(3, 1).pass(5);
    assert_eq!(seen(&story), [("p_busy", 15)]);
}

#[test]
fn an_instant_is_shared_out_over_the_ps() {
    let mut story = both_busy();
    story.create(3, 1).off(2, 0).pass(10);
    assert_eq!(seen(&story), [("os_preempted", 5), ("p_busy", 5)]);
    story.on(2).pass(4).off(2, 1).pass(6);
    assert_eq!(
        seen(&story),
        [("os_preempted", 5), ("p_busy", 12), ("p_in_syscall", 3)]
    );
    story.on(2).off(2, 2).pass(8);
    let slept = [
        ("os_preempted", 5),
        ("p_busy", 16),
        ("p_in_syscall", 3),
        ("thread_blocked", 4),
    ];
    assert_eq!(seen(&story), slept);
}

#[test]
fn an_idle_p_waits_for_a_thread_that_is_on_its_way() {
    let mut story = both_busy();
    story.block(2, 2, CHAN_RECEIVE).release(2, 1);
    story.create(3, 1).pass(3);
    assert_eq!(seen(&story), [("no_thread_woken", 3)]);
    story.event(What::MachineWanted, 1, p(1), 0, 1).pass(20);
    assert_eq!(seen(&story), [("no_thread_woken", 3), ("thread_wakeup", 20)]);
    story.acquire(2, 1).pass(2);
    assert_eq!(
        seen(&story),
        [("no_thread_woken", 3), ("spinning", 2), ("thread_wakeup", 20)]
    );
    story.run(3, 2).pass(50);
    assert_eq!(
        seen(&story),
        [("no_thread_woken", 3), ("spinning", 2), ("thread_wakeup", 20)]
    );
}

#[test]
fn any_idle_p_may_be_promised() {
    let mut story = both_busy();
    story.block(2, 2, CHAN_RECEIVE).release(2, 1).create(3, 1);
    story.event(What::MachineWanted, 1, 0, 0, 1).pass(7);
    assert_eq!(seen(&story), [("thread_wakeup", 7)]);
}

#[test]
fn between_two_goroutines_it_is_the_scheduler() {
    let mut story = both_busy();
    story.create(3, 1).block(2, 2, CHAN_RECEIVE).pass(4);
    assert_eq!(seen(&story), [("p_busy", 2), ("scheduler", 2)]);
}

#[test]
fn a_voluntary_yield_is_nothing_else() {
    let mut story = both_busy();
    story.leave(1, 1, Origin::Yielded).pass(9).run(1, 1);
    assert_eq!(seen(&story), [("yielded", 9)]);
    assert!(story.report().slowest.is_empty());
}

#[test]
fn a_stopped_world_comes_before_what_the_ps_do() {
    let mut story = both_busy();
    story.event(What::WorldStarted, 1, 0, 0, 0).create(3, 1);
    story
        .event(What::WorldStops, 1, 0, 0, 5)
        .pass(4)
        .leave(2, 2, Origin::Preempted)
        .pass(6);
    story
        .event(What::WorldStarts, 1, 0, 0, 0)
        .pass(3)
        .event(What::WorldStarted, 1, 0, 0, 0);
    assert_eq!(seen(&story), [("stw", 13 + 9)]);
    let stops = story.report().stops;
    assert_eq!(stops.len(), 1);
    assert_eq!(
        (stops[0].stopping_ns, stops[0].total_ns, stops[0].reason),
        (4 * US, 10 * US, 5)
    );
    assert_eq!(stops[0].last.map(|who| who.gopc), Some(0x40_0002));
}

#[test]
fn a_locked_goroutine_waits_for_its_thread_once_it_was_picked() {
    let mut story = both_busy();
    story.create(3, 1).pass(4);
    story.event(What::GoroutineLocked, 1, g_at(3), 0, 0).pass(30);
    assert_eq!(seen(&story), [("locked_thread", 30), ("p_busy", 4)]);
    story.leave(1, 1, Origin::Preempted).run(3, 1);
    let slowest = &story.report().slowest[0];
    assert_eq!(
        slowest.causes,
        [(Cause::LockedThread, 30 * US), (Cause::PBusy, 4 * US)]
    );
}

#[test]
fn a_stopped_world_comes_before_the_thread_that_it_keeps_from_coming() {
    let mut story = both_busy();
    story.create(3, 1).pass(4);
    story.event(What::GoroutineLocked, 1, g_at(3), 0, 0).pass(10);
    story
        .event(What::WorldStops, 1, 0, 0, 5)
        .pass(7)
        .event(What::WorldStarts, 1, 0, 0, 0)
        .pass(3);
    assert_eq!(seen(&story), [("locked_thread", 13), ("p_busy", 4), ("stw", 7)]);
}

#[test]
fn that_a_goroutine_was_picked_is_over_when_it_has_run() {
    let mut story = both_busy();
    story.leave(1, 1, Origin::Yielded).pass(5);
    story
        .event(What::GoroutineLocked, 2, g_at(1), 0, 0)
        .pass(5)
        .run(1, 1);
    story
        .block(1, 1, CHAN_RECEIVE)
        .pass(5)
        .wake(1, 2, Origin::Unblocked)
        .pass(6)
        .run(1, 1);
    assert_eq!(seen(&story), [("p_busy", 3), ("scheduler", 3), ("yielded", 10)]);
}

#[test]
fn the_p_of_a_locked_goroutine_is_on_its_way_to_it() {
    let mut story = both_busy();
    story.create(3, 1).create(4, 1).block(2, 2, CHAN_RECEIVE);
    story
        .event(What::GoroutineLocked, 2, g_at(3), 0, 0)
        .release(2, 1)
        .pass(8);
    // 4 waits for the same P.
    assert_eq!(seen(&story), [("locked_thread", 8), ("thread_wakeup", 8)]);
}

#[test]
fn ps_that_are_gone_are_not_idle() {
    let mut story = both_busy();
    // More Ps for a while, which no reading of memory has seen.
    story
        .event(What::ProcessorsResized, 1, 4, 0, 0)
        .acquire(3, 3)
        .release(3, 3);
    story
        .acquire(2, 1)
        .event(What::ProcessorsResized, 1, 2, 0, 0)
        .acquire(2, 1);
    story.create(3, 1).pass(10);
    assert_eq!(seen(&story), [("p_busy", 10)]);
}

#[test]
fn a_p_that_was_taken_from_a_system_call_by_a_stop_is_not_held() {
    let mut story = both_busy();
    story.off(2, 1).event(What::ProcessorsResized, 1, 2, 0, 0);
    story.create(3, 1).pass(10);
    assert_eq!(seen(&story), [("no_thread_woken", 10)]);
}

#[test]
fn one_that_returns_from_a_system_call_has_not_delayed_the_stop() {
    let mut story = both_busy();
    story
        .event(What::WorldStops, 1, 0, 0, 5)
        .pass(4)
        .leave(2, 2, Origin::Preempted)
        .pass(50);
    story.create(3, 1).run(3, 3).leave(3, 3, Origin::Syscall).pass(1);
    story.event(What::WorldStarts, 1, 0, 0, 0);
    let stop = &story.report().stops[0];
    assert_eq!(
        (stop.stopping_ns, stop.last.map(|who| who.gopc)),
        (4 * US, Some(0x40_0002))
    );
}

#[test]
fn a_worker_of_the_collector_is_not_just_busy() {
    let mut story = both_busy();
    let idle = (0..=u8::MAX)
        .find(|n| Reasons::of(27).name(*n) == "GC worker (idle)")
        .unwrap();
    story.block(2, 2, idle).wake(2, 1, Origin::Unblocked).run(2, 2);
    story.create(3, 1).pass(10);
    assert_eq!(seen(&story), [("gc", 5), ("p_busy", 5)]);
}

#[test]
fn without_a_cpu_for_any_thread_the_quota_is_asked() {
    let mut story = both_busy();
    story.create(3, 1).off(1, 0).pass(1_000).off(2, 0).pass(60_000);
    // Nothing says that it was throttled.
    story.on(1).pass(10);
    let hog = seen(&story);
    assert_eq!(hog, [("os_preempted", 60_505), ("p_busy", 505)]);
    story.off(1, 0).pass(58_000).throttled(60_000).pass(2_000).on(1);
    assert_eq!(
        seen(&story),
        [
            ("cgroup_throttled", 60_000),
            ("os_preempted", 60_505),
            ("p_busy", 505)
        ]
    );
}

#[test]
fn nothing_is_known_before_the_states_are_nor_after_a_loss() {
    let mut story = Story::unread(1);
    story.create(3, 1).pass(5);
    assert_eq!(seen(&story), [("unknown", 5)]);
    story.lose().pass(7);
    assert_eq!(seen(&story), [("unknown", 12)]);
    assert_eq!(story.report().before_known_ns, 12 * US);
}

#[test]
fn a_cause_of_the_goroutines_own_is_known_before_the_states_are() {
    let mut story = Story::unread(1);
    story.create(1, 1).run(1, 1).leave(1, 1, Origin::Yielded);
    story.create(2, 1).pass(5);
    assert_eq!(seen(&story), [("unknown", 5), ("yielded", 5)]);
    assert_eq!(story.report().before_known_ns, 5 * US);
    story.event(What::GoroutineLocked, 1, g_at(2), 0, 0);
    // One that has yielded may be picked as well.
    story.event(What::GoroutineLocked, 1, g_at(1), 0, 0).pass(3);
    assert_eq!(
        seen(&story),
        [("locked_thread", 3), ("unknown", 5), ("yielded", 8)]
    );
    assert_eq!(story.report().before_known_ns, 5 * US);
    story.run(1, 1).pass(2);
    assert_eq!(story.report().before_known_ns, 5 * US);
}

#[test]
fn a_loss_in_between_is_unknown_and_only_that() {
    let mut story = both_busy();
    // What was lost was lost after the last event before it.
    story.create(3, 1).pass(10).on(9).pass(2).lose().pass(5);
    let causes = seen(&story);
    assert_eq!(causes, [("p_busy", 10), ("unknown", 7)]);
    assert_eq!(story.report().before_known_ns, 0);
}

#[test]
fn a_slow_wait_names_who_woke_it_and_behind_whom_it_waited() {
    let mut story = both_busy();
    story
        .create(4, 1)
        .leave(1, 1, Origin::Preempted)
        .run(4, 1)
        .block(4, 1, CHAN_RECEIVE);
    story.wake(4, 1, Origin::Netpoll).pass(1).run(4, 1).pass(1);
    // 4, which the network poller has woken, wakes 2.
    story.block(2, 2, CHAN_RECEIVE).wake(2, 1, Origin::Unblocked);
    story.pass(300).block(4, 1, CHAN_RECEIVE).run(2, 1);
    let report = story.report();
    let slowest = report.slowest.iter().find(|wait| !wait.ongoing).unwrap();
    assert_eq!(slowest.duration_ns, 300 * US);
    assert_eq!(slowest.after.as_deref(), Some("chan receive"));
    let who = |n: u64| Who {
        goid: 0,
        gopc: 0x40_0000 + n,
    };
    assert_eq!(slowest.wakers, [Waker::Goroutine(who(4)), Waker::Netpoll]);
    assert_eq!(slowest.behind, Some(who(4)));
    assert_eq!(slowest.begin_ns, (BEGIN_US + 2) * US);
    // Goroutine 1 has been runnable for longer, and is still.
    assert!(report.slowest.iter().any(|wait| wait.ongoing));
}

#[test]
fn a_timer_and_a_thread_without_a_p_are_roots() {
    let mut story = both_busy();
    story
        .block(1, 1, CHAN_RECEIVE)
        .pass(1)
        .wake(1, 1, Origin::Unblocked)
        .pass(4)
        .run(1, 1);
    story
        .block(2, 2, CHAN_RECEIVE)
        .wake(2, 9, Origin::Unblocked)
        .pass(9)
        .run(2, 2);
    let wakers: Vec<_> = story
        .report()
        .slowest
        .into_iter()
        .map(|wait| wait.wakers)
        .collect();
    assert!(wakers.contains(&vec![Waker::Scheduler]), "{wakers:?}");
    assert_eq!(wakers[0], [], "a thread that was never seen: {wakers:?}");
}

#[test]
fn who_holds_a_p_while_others_wait_is_the_culprit() {
    let mut story = both_busy();
    for g in 3..6 {
        story.create(g, 1);
    }
    story.pass(10).block(1, 1, CHAN_RECEIVE);
    let report = story.report();
    let held: Vec<(u64, u64)> = report
        .culprits
        .iter()
        .map(|culprit| (culprit.gopc, culprit.held_ns))
        .collect();
    // Three waited for 10 µs; each of the two that ran held half of the Ps.
    assert_eq!(held, [(0x40_0001, 15 * US), (0x40_0002, 15 * US)]);
    let first = &report.culprits[0];
    assert_eq!(
        (first.longest_ns, first.longest_at_ns),
        (10 * US, (BEGIN_US + 10) * US)
    );
}

#[test]
fn a_running_stretch_is_without_the_time_off_the_cpu() {
    let mut story = both_busy();
    story
        .pass(10)
        .off(1, 0)
        .pass(30)
        .on(1)
        .pass(5)
        .block(1, 1, CHAN_RECEIVE);
    assert_eq!(story.report().culprits[0].longest_ns, 15 * US);
}

#[test]
fn what_was_before_the_window_is_not_counted() {
    let mut story = both_busy();
    story.create(3, 1).pass(10).on(9);
    story.sched.open_window((BEGIN_US + 25) * US);
    // Goroutine 4 waits from before the window to the end, 5 only before it.
    story
        .create(4, 1)
        .create(5, 1)
        .pass(5)
        .leave(1, 1, Origin::Preempted)
        .run(5, 1);
    story.pass(20).leave(5, 1, Origin::Preempted).run(3, 1).pass(5);
    let report = story.report();
    // From 25 to 40 µs: 1, 3 and 4 for 10, then 1, 4 and 5 for 5.
    assert_eq!(report.runnable_ns, 45 * US);
    assert_eq!(report.some_ns, 15 * US);
    let ended = report.by_cause[0].waits.as_ref().unwrap();
    assert_eq!(
        (ended.sum_ns, report.by_cause[0].cause),
        (Some(10 * US), Cause::PBusy)
    );
    let held: u64 = report.culprits.iter().map(|culprit| culprit.held_ns).sum();
    assert_eq!(held, 45 * US);
    let whole = report.slowest.iter().find(|wait| !wait.ongoing).unwrap();
    assert_eq!(whole.duration_ns, 35 * US, "a wait is as long as it was");
}
