//! Scenarios: sequences of inputs, each with the effects that are expected.

use super::{
    Effect::{Abort, Attach, Collect, Cut, Detach, Fail, Hold, Print, Quit, Release, Settle, TraceLatencies},
    Input::{
        AttachFailed, Attached, Begin, CommandEnded, CommandUnresponsive, DurationElapsed, Held,
        LatenciesBegun, NotExecuted, Settled, Signal, SourceFailed, StartEnded, StartOverdue,
    },
    *,
};
use crate::{error::Error, stream::EndedBy};

fn ours(runs: u32) -> Session {
    Session::new(Policy {
        starts_of: StartsOf::Command { runs },
        with_latencies: false,
        tree: false,
        whole_binary: false,
    })
}

fn next(starts: u64) -> Session {
    Session::new(Policy {
        starts_of: StartsOf::Binary { starts },
        with_latencies: false,
        tree: false,
        whole_binary: false,
    })
}

/// A session whose command was released.
fn running(runs: u32) -> Session {
    let mut session = ours(runs);
    assert_eq!(session.handle(Begin), [Hold]);
    assert_eq!(session.handle(Held), [Attach]);
    assert_eq!(session.handle(Attached), [Release]);
    session
}

/// A session that waits for starts of a binary.
fn waiting(starts: u64) -> Session {
    let mut session = next(starts);
    assert_eq!(session.handle(Begin), [Attach]);
    assert_eq!(session.handle(Attached), []);
    session
}

fn printed(ended_by: EndedBy, whole: bool) -> Vec<Effect> {
    vec![Collect, Cut, Print { ended_by, whole }, Detach]
}

fn and(mut effects: Vec<Effect>, last: Effect) -> Vec<Effect> {
    effects.push(last);
    effects
}

#[test]
fn a_command_that_ends_at_once_is_printed_when_it_has_ended() {
    let mut session = running(1);
    assert_eq!(session.handle(StartEnded), [Detach, Settle]);
    let ended_by = EndedBy::TargetExit;
    assert_eq!(
        session.handle(CommandEnded { code: 3 }),
        [
            Print {
                ended_by,
                whole: true
            },
            Quit { code: 3 }
        ]
    );
    assert!(session.is_done());
}

#[test]
fn a_command_that_runs_on_is_printed_soon_and_waited_for() {
    let mut session = running(1);
    session.handle(StartEnded);
    let ended_by = EndedBy::Starts;
    assert_eq!(
        session.handle(Settled),
        [Print {
            ended_by,
            whole: true
        }]
    );
    assert_eq!(session.handle(DurationElapsed), []);
    assert_eq!(session.handle(CommandEnded { code: 143 }), [Quit { code: 143 }]);
}

#[test]
fn a_command_that_never_came_to_main_is_not_whole() {
    let mut session = running(1);
    assert_eq!(
        session.handle(CommandEnded { code: 2 }),
        and(printed(EndedBy::TargetExit, false), Quit { code: 2 })
    );
}

#[test]
fn each_of_several_runs_has_probes_of_its_own() {
    let mut session = running(3);
    for _ in 0..2 {
        assert_eq!(session.handle(StartEnded), []);
        assert_eq!(session.handle(CommandEnded { code: 0 }), [Collect, Cut, Hold]);
        assert_eq!(session.handle(Held), [Attach]);
        assert_eq!(session.handle(Attached), [Release]);
    }
    session.handle(StartEnded);
    assert_eq!(
        session.handle(CommandEnded { code: 0 }),
        and(printed(EndedBy::TargetExit, true), Quit { code: 0 })
    );
}

#[test]
fn the_first_failure_of_several_runs_is_the_status() {
    let mut session = running(2);
    session.handle(StartEnded);
    session.handle(CommandEnded { code: 7 });
    session.handle(Held);
    session.handle(Attached);
    session.handle(StartEnded);
    let effects = session.handle(CommandEnded { code: 0 });
    assert_eq!(effects.last(), Some(&Quit { code: 7 }));
}

#[test]
fn a_tree_is_followed_until_its_command_ends() {
    let mut session = Session::new(Policy {
        starts_of: StartsOf::Command { runs: 2 },
        with_latencies: false,
        tree: true,
        whole_binary: false,
    });
    for input in [Begin, Held, Attached] {
        session.handle(input);
    }
    for _ in 0..3 {
        assert_eq!(session.handle(StartEnded), []);
    }
    assert_eq!(session.handle(CommandEnded { code: 0 }), [Collect, Cut, Hold]);
    assert_eq!(session.handle(Held), [Release]);
    // A shell that starts no Go program is not a failure.
    assert_eq!(
        session.handle(CommandEnded { code: 4 }),
        and(printed(EndedBy::TargetExit, true), Quit { code: 4 })
    );
}

#[test]
fn what_cannot_be_traced_is_never_started() {
    let mut session = ours(1);
    session.handle(Begin);
    session.handle(Held);
    let error = Error::not_permitted("no");
    assert_eq!(
        session.handle(AttachFailed { error: error.clone() }),
        [Abort, Fail { error }]
    );
    assert!(session.is_done());
}

#[test]
fn what_was_seen_of_runs_before_is_printed_when_one_cannot_be_probed() {
    let mut session = running(3);
    for input in [StartEnded, CommandEnded { code: 0 }, Held] {
        session.handle(input);
    }
    let error = Error::failed("no room");
    let mut expected = vec![Abort];
    expected.extend(printed(EndedBy::SourceFailed, false));
    assert_eq!(
        session.handle(AttachFailed { error }),
        and(expected, Quit { code: 125 })
    );
    assert!(session.is_done());
}

#[test]
fn a_command_that_cannot_be_executed_fails() {
    let mut session = running(1);
    let error = Error::failed("not found");
    assert_eq!(
        session.handle(NotExecuted { error: error.clone() }),
        [Detach, Fail { error }]
    );
}

#[test]
fn the_duration_ends_tracing_and_not_the_command() {
    let mut session = running(5);
    session.handle(StartEnded);
    assert_eq!(session.handle(DurationElapsed), printed(EndedBy::Duration, true));
    assert_eq!(session.handle(StartEnded), []);
    assert_eq!(session.handle(CommandEnded { code: 0 }), [Quit { code: 0 }]);
}

#[test]
fn a_start_that_the_duration_cuts_off_is_not_whole() {
    for runs in [1, 5] {
        let mut session = running(runs);
        assert_eq!(session.handle(DurationElapsed), printed(EndedBy::Duration, false));
    }
}

#[test]
fn a_start_that_does_not_end_loses_its_probes_and_is_not_whole() {
    let mut session = running(1);
    assert_eq!(session.handle(StartOverdue), printed(EndedBy::Budget, false));
    assert_eq!(session.handle(StartOverdue), []);
    assert_eq!(session.handle(CommandEnded { code: 3 }), [Quit { code: 3 }]);
    // One that has ended meanwhile is not given up, nor is one of several runs, whose probes have a limit of their own.
    let mut session = running(1);
    session.handle(StartEnded);
    assert_eq!(session.handle(StartOverdue), []);
    assert_eq!(running(2).handle(StartOverdue), []);
    assert_eq!(waiting(1).handle(StartOverdue), []);
}

#[test]
fn latencies_follow_a_start_that_was_given_up() {
    let mut session = Session::new(Policy {
        starts_of: StartsOf::Command { runs: 1 },
        with_latencies: true,
        tree: false,
        whole_binary: false,
    });
    for input in [Begin, Held, Attached] {
        session.handle(input);
    }
    let mut not_traced = session.clone();
    assert_eq!(
        session.handle(StartOverdue),
        [Collect, Cut, Detach, TraceLatencies]
    );
    assert_eq!(session.handle(LatenciesBegun), []);
    assert_eq!(session.handle(CommandEnded { code: 1 }), [Quit { code: 1 }]);
    not_traced.handle(StartOverdue);
    let (ended_by, whole) = (EndedBy::Budget, false);
    assert_eq!(not_traced.handle(Settled), [Print { ended_by, whole }]);
}

#[test]
fn latencies_follow_the_start_and_are_printed_with_it() {
    let mut session = Session::new(Policy {
        starts_of: StartsOf::Command { runs: 1 },
        with_latencies: true,
        tree: false,
        whole_binary: false,
    });
    for input in [Begin, Held, Attached] {
        session.handle(input);
    }
    let mut too_late = session.clone();
    assert_eq!(session.handle(StartEnded), [Detach, TraceLatencies]);
    assert_eq!(session.handle(LatenciesBegun), []);
    assert_eq!(session.handle(DurationElapsed), []);
    assert_eq!(session.handle(CommandEnded { code: 1 }), [Quit { code: 1 }]);
    // If the command ends before they could be traced, its start is printed.
    too_late.handle(StartEnded);
    let effects = too_late.handle(Settled);
    assert!(
        matches!(effects.as_slice(), [Print { whole: true, .. }]),
        "{effects:?}"
    );
}

#[test]
fn a_signal_is_the_commands_own_business() {
    let mut session = running(1);
    assert_eq!(session.handle(Signal), []);
    session.handle(StartEnded);
    assert_eq!(
        session.handle(CommandEnded { code: 143 }).last(),
        Some(&Quit { code: 143 })
    );
}

#[test]
fn a_signal_ends_the_repetition_with_the_run_that_is_on() {
    let mut session = running(100);
    session.handle(StartEnded);
    session.handle(CommandEnded { code: 0 });
    session.handle(Held);
    session.handle(Attached);
    session.handle(StartEnded);
    assert_eq!(session.handle(Signal), []);
    // The command may react to it as it likes.
    assert_eq!(
        session.handle(CommandEnded { code: 130 }),
        and(printed(EndedBy::Signal, true), Quit { code: 130 })
    );
}

#[test]
fn a_signal_between_two_runs_keeps_the_next_from_being_executed() {
    let mut session = running(100);
    session.handle(StartEnded);
    assert_eq!(session.handle(CommandEnded { code: 0 }), [Collect, Cut, Hold]);
    assert_eq!(session.handle(Signal), []);
    let mut effects = vec![Abort];
    effects.extend(printed(EndedBy::Signal, true));
    assert_eq!(session.handle(Held), and(effects, Quit { code: 0 }));
    assert!(session.is_done());
}

#[test]
fn a_command_that_does_not_end_by_two_signals_is_left_alone() {
    let mut session = running(3);
    session.handle(Signal);
    assert_eq!(
        session.handle(CommandUnresponsive { code: 143 }),
        and(printed(EndedBy::Signal, false), Quit { code: 143 })
    );
    let mut shown = running(1);
    shown.handle(StartEnded);
    shown.handle(Settled);
    shown.handle(Signal);
    assert_eq!(
        shown.handle(CommandUnresponsive { code: 130 }),
        [Quit { code: 130 }]
    );
}

#[test]
fn a_command_outlives_its_tracer() {
    let mut session = running(1);
    let error = Error::failed("the map is gone");
    assert_eq!(
        session.handle(SourceFailed { error }),
        printed(EndedBy::SourceFailed, false)
    );
    assert_eq!(session.handle(CommandEnded { code: 0 }), [Quit { code: 0 }]);
}

#[test]
fn so_many_starts_are_waited_for_as_were_asked_for() {
    let mut session = waiting(2);
    assert_eq!(session.handle(StartEnded), []);
    assert_eq!(
        session.handle(StartEnded),
        and(printed(EndedBy::Starts, true), Quit { code: 0 })
    );
}

#[test]
fn fewer_starts_than_asked_for_are_incomplete() {
    let mut session = waiting(2);
    session.handle(StartEnded);
    assert_eq!(
        session.handle(DurationElapsed),
        and(printed(EndedBy::Duration, false), Quit { code: 5 })
    );
}

#[test]
fn a_signal_ends_the_waiting() {
    let mut session = waiting(2);
    session.handle(StartEnded);
    assert_eq!(
        session.handle(Signal),
        and(printed(EndedBy::Signal, true), Quit { code: 0 })
    );
}
