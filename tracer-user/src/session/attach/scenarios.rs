//! Scenarios: sequences of inputs, each with the effects that are expected.

use super::*;
use crate::{
    error::{Error, Failure},
    plan::Mode,
    stream::EndedBy,
};

const AUTO: Policy = Policy {
    mode: None,
    bounded: true,
};
const ENDLESS: Policy = Policy {
    mode: None,
    bounded: false,
};

fn fixed(mode: Mode) -> Policy {
    Policy {
        mode: Some(mode),
        bounded: true,
    }
}

fn planned(possible: &[Mode]) -> Input {
    let offer = |mode| Offer {
        mode,
        obstacle: (!possible.contains(&mode)).then(|| Error::not_traceable(format!("no site for {mode}"))),
    };
    Input::Planned {
        offers: Mode::ALL.map(offer).to_vec(),
    }
}

fn attached(mode: Mode) -> Input {
    Input::Attached {
        mode,
        sites: usize::from(mode.has_probes()),
        slow_to_detach: false,
    }
}

/// A session that is live in `mode`.
fn live(policy: Policy, mode: Mode) -> Session {
    let mut session = Session::new(policy);
    assert_eq!(session.handle(planned(&Mode::ALL)), [Effect::Attach { mode }]);
    let sites = usize::from(mode.has_probes());
    assert_eq!(
        session.handle(attached(mode)),
        [Effect::OpenWindow { mode, sites }, Effect::Snapshot]
    );
    session
}

fn whole(ended_by: EndedBy) -> Effect {
    Effect::Finish {
        ended_by,
        whole: true,
    }
}

fn cut(ended_by: EndedBy) -> Effect {
    Effect::Finish {
        ended_by,
        whole: false,
    }
}

#[test]
fn a_capture_of_ten_seconds_runs_its_course() {
    let mut session = live(AUTO, Mode::Sampled);
    assert_eq!(session.handle(Input::Tick), [Effect::Collect]);
    assert_eq!(
        session.handle(Input::IntervalElapsed),
        [Effect::Collect, Effect::Snapshot, Effect::PrintInterval]
    );
    assert_eq!(
        session.handle(Input::DurationElapsed),
        [
            Effect::CloseWindow,
            Effect::Collect,
            Effect::Snapshot,
            whole(EndedBy::Duration),
            Effect::Detach,
            Effect::PrintResult
        ]
    );
    assert!(!session.is_done());
    assert_eq!(session.handle(Input::Detached), []);
    assert!(session.is_done());
}

#[test]
fn the_probes_go_before_the_result_is_printed_unless_the_kernel_takes_its_time() {
    for end in [
        Input::DurationElapsed,
        Input::Signal,
        Input::TargetExited,
        Input::TargetExeced,
        Input::SourceFailed {
            why: "map gone".into(),
        },
        Input::BudgetExceeded { why: "3 %".into() },
    ] {
        for slow_to_detach in [false, true] {
            let mut session = Session::new(fixed(Mode::Exact));
            session.handle(planned(&Mode::ALL));
            session.handle(Input::Attached {
                mode: Mode::Exact,
                sites: 1,
                slow_to_detach,
            });
            let effects = session.handle(end.clone());
            let at = |wanted: &Effect| effects.iter().position(|effect| effect == wanted);
            assert_eq!(
                at(&Effect::PrintResult).unwrap() < at(&Effect::Detach).unwrap(),
                slow_to_detach,
                "{end:?}: {effects:?}"
            );
            assert!(at(&Effect::CloseWindow).unwrap() < at(&Effect::Detach).unwrap());
        }
    }
}

#[test]
fn auto_takes_passive_and_says_why_where_sampled_cannot_be_had() {
    let mut session = Session::new(AUTO);
    assert_eq!(
        session.handle(planned(&[Mode::Passive, Mode::Exact])),
        [
            Effect::FallBack {
                from: Mode::Sampled,
                to: Mode::Passive,
                why: "no site for sampled".into()
            },
            Effect::Attach { mode: Mode::Passive }
        ]
    );
}

#[test]
fn auto_takes_passive_and_says_why_where_attaching_fails() {
    let mut session = Session::new(AUTO);
    session.handle(planned(&Mode::ALL));
    assert_eq!(
        session.handle(Input::AttachFailed {
            mode: Mode::Sampled,
            error: Error::not_permitted("EPERM")
        }),
        [
            Effect::FallBack {
                from: Mode::Sampled,
                to: Mode::Passive,
                why: "EPERM".into()
            },
            Effect::Attach { mode: Mode::Passive }
        ]
    );
    session.handle(attached(Mode::Passive));
    assert_eq!(session.handle(Input::Tick), [Effect::Collect]);
}

#[test]
fn auto_never_chooses_exact() {
    let mut session = Session::new(AUTO);
    let effects = session.handle(planned(&[Mode::Exact]));
    assert_eq!(
        effects,
        [Effect::Fail {
            error: Error::not_traceable("sampled: no site for sampled\npassive: no site for passive")
        }]
    );
    assert!(session.is_done());
}

#[test]
fn a_mode_that_was_asked_for_by_name_has_no_fallback() {
    let mut session = Session::new(fixed(Mode::Exact));
    assert_eq!(
        session.handle(planned(&[Mode::Passive, Mode::Sampled])),
        [Effect::Fail {
            error: Error::not_traceable("no site for exact")
        }]
    );
    let mut session = Session::new(fixed(Mode::Sampled));
    session.handle(planned(&Mode::ALL));
    assert_eq!(
        session.handle(Input::AttachFailed {
            mode: Mode::Sampled,
            error: Error::not_permitted("EPERM")
        }),
        [Effect::Fail {
            error: Error::not_permitted("EPERM")
        }]
    );
    assert!(session.is_done());
}

#[test]
fn an_interrupt_ends_early_and_still_prints() {
    let effects = live(AUTO, Mode::Sampled).handle(Input::Signal);
    assert!(effects.contains(&whole(EndedBy::Signal)));
    assert!(effects.contains(&Effect::PrintResult));
}

#[test]
fn a_target_that_exits_in_the_middle_is_captured_but_cut() {
    assert_eq!(
        live(AUTO, Mode::Sampled).handle(Input::TargetExited),
        [
            Effect::CloseWindow,
            Effect::Collect,
            cut(EndedBy::TargetExit),
            Effect::Detach,
            Effect::PrintResult
        ]
    );
}

#[test]
fn a_target_that_exits_ends_an_endless_capture_in_order() {
    let effects = live(ENDLESS, Mode::Sampled).handle(Input::TargetExited);
    assert!(effects.contains(&whole(EndedBy::TargetExit)));
}

#[test]
fn the_memory_of_a_target_that_is_gone_is_not_read() {
    for end in [Input::TargetExited, Input::TargetExeced] {
        let effects = live(fixed(Mode::Passive), Mode::Passive).handle(end);
        assert!(
            !effects.contains(&Effect::Collect) && !effects.contains(&Effect::Snapshot),
            "{effects:?}"
        );
    }
    let mut endless = live(
        Policy {
            mode: Some(Mode::Passive),
            bounded: false,
        },
        Mode::Passive,
    );
    assert!(
        endless
            .handle(Input::TargetExited)
            .contains(&cut(EndedBy::TargetExit))
    );
}

#[test]
fn a_target_that_execs_something_else_ends_the_capture() {
    let effects = live(AUTO, Mode::Sampled).handle(Input::TargetExeced);
    assert!(effects.contains(&cut(EndedBy::TargetExec)));
}

#[test]
fn an_interrupt_during_attaching_waits_for_the_attaching_and_detaches() {
    let mut session = Session::new(AUTO);
    session.handle(planned(&Mode::ALL));
    assert_eq!(session.handle(Input::Signal), []);
    let effects = session.handle(attached(Mode::Sampled));
    assert!(matches!(
        effects.as_slice(),
        [
            Effect::Fail {
                error: Error {
                    failure: Failure::Failed,
                    ..
                }
            },
            Effect::Detach
        ]
    ));
    session.handle(Input::Detached);
    assert!(session.is_done());
}

#[test]
fn a_target_that_exits_during_a_failing_attaching_is_not_traceable_and_nothing_else_is_tried() {
    let mut session = Session::new(AUTO);
    session.handle(planned(&Mode::ALL));
    session.handle(Input::TargetExited);
    let effects = session.handle(Input::AttachFailed {
        mode: Mode::Sampled,
        error: Error::not_traceable("ESRCH"),
    });
    assert!(matches!(
        effects.as_slice(),
        [Effect::Fail {
            error: Error {
                failure: Failure::NotTraceable,
                ..
            }
        }]
    ));
    assert!(session.is_done());
}

#[test]
fn a_second_interrupt_does_not_wait_for_the_kernel() {
    let mut session = live(fixed(Mode::Exact), Mode::Exact);
    session.handle(Input::Signal);
    assert_eq!(session.handle(Input::Signal), [Effect::Quit]);
    assert!(session.is_done());

    let mut session = Session::new(AUTO);
    session.handle(planned(&Mode::ALL));
    session.handle(Input::Signal);
    assert_eq!(session.handle(Input::Signal), [Effect::Quit]);
}

#[test]
fn over_budget_auto_steps_down_to_passive_within_the_same_window() {
    let mut session = live(AUTO, Mode::Sampled);
    assert_eq!(
        session.handle(Input::BudgetExceeded {
            why: "4 % of CPU".into()
        }),
        [
            Effect::Collect,
            Effect::FallBack {
                from: Mode::Sampled,
                to: Mode::Passive,
                why: "4 % of CPU".into()
            },
            Effect::Detach
        ]
    );
    assert_eq!(session.handle(Input::Tick), []);
    assert_eq!(
        session.handle(Input::Detached),
        [Effect::Attach { mode: Mode::Passive }]
    );
    assert_eq!(session.handle(attached(Mode::Passive)), [Effect::Snapshot]);
    let effects = session.handle(Input::DurationElapsed);
    assert!(effects.contains(&whole(EndedBy::Duration)));
}

#[test]
fn an_end_while_stepping_down_prints_what_was_captured() {
    let mut session = live(AUTO, Mode::Sampled);
    session.handle(Input::BudgetExceeded { why: String::new() });
    assert_eq!(session.handle(Input::DurationElapsed), []);
    assert_eq!(
        session.handle(Input::Detached),
        [Effect::CloseWindow, whole(EndedBy::Duration), Effect::PrintResult]
    );
    assert!(session.is_done());
}

#[test]
fn an_end_while_the_cheaper_mode_is_attached_detaches_before_it_prints() {
    let mut session = live(AUTO, Mode::Sampled);
    session.handle(Input::BudgetExceeded { why: String::new() });
    session.handle(Input::Detached);
    assert_eq!(session.handle(Input::DurationElapsed), []);
    assert_eq!(
        session.handle(attached(Mode::Passive)),
        [
            Effect::CloseWindow,
            whole(EndedBy::Duration),
            Effect::Detach,
            Effect::PrintResult
        ]
    );
}

#[test]
fn over_budget_with_nothing_cheaper_ends_the_capture() {
    let effects = live(fixed(Mode::Exact), Mode::Exact).handle(Input::BudgetExceeded { why: String::new() });
    assert!(effects.contains(&cut(EndedBy::Budget)));
}

#[test]
fn nothing_is_printed_when_nobody_reads() {
    let effects = live(AUTO, Mode::Sampled).handle(Input::ReaderGone);
    assert!(effects.contains(&whole(EndedBy::ReaderGone)));
    assert!(!effects.contains(&Effect::PrintResult));
    assert_eq!(effects.last(), Some(&Effect::Detach));
}

#[test]
fn an_interrupt_before_the_plan_ends_at_once() {
    let mut session = Session::new(AUTO);
    let effects = session.handle(Input::Signal);
    assert!(matches!(
        effects.as_slice(),
        [Effect::Fail {
            error: Error {
                failure: Failure::Failed,
                ..
            }
        }]
    ));
    assert_eq!(session.handle(planned(&Mode::ALL)), []);
}

#[test]
fn events_that_were_lost_are_answered_by_reading_the_states_anew() {
    let mut session = live(fixed(Mode::Full), Mode::Full);
    assert_eq!(session.handle(Input::EventsLost), [Effect::Snapshot]);
    assert_eq!(session.handle(Input::Tick), [Effect::Collect]);
    assert_eq!(session.handle(Input::EventsLost), [Effect::Snapshot]);
    // What was lost is in the counts: the capture ends as any other.
    let effects = session.handle(Input::DurationElapsed);
    assert!(effects.contains(&whole(EndedBy::Duration)));
}

#[test]
fn lost_events_mean_nothing_before_and_behind_the_window() {
    let mut session = Session::new(fixed(Mode::Full));
    assert_eq!(session.handle(Input::EventsLost), []);
    session.handle(planned(&Mode::ALL));
    assert_eq!(session.handle(Input::EventsLost), []);
    session.handle(attached(Mode::Full));
    session.handle(Input::DurationElapsed);
    assert_eq!(session.handle(Input::EventsLost), []);
}
