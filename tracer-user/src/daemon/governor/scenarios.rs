//! Scenarios, each named by the sentence that it checks.

use super::{
    budget::{SECOND, scale},
    *,
};
use crate::plan::Mode;

/// A budget of half a percent with a floor of 0.2 ms/s, in windows of a second.
const SAMPLED: Settings = Settings {
    budget: Budget {
        share: 0.005,
        floor_ns: 200_000,
    },
    highest: Some(Mode::Sampled),
    exact_ns: 0,
    window_ns: SECOND,
};
const EXACT: Settings = Settings {
    highest: Some(Mode::Exact),
    exact_ns: 10 * SECOND,
    ..SAMPLED
};
/// Cost of a hit.
const HIT: u64 = 1_000;
/// More of the host's budget than anybody needs.
const PLENTY: u64 = SECOND;

/// A governor, and the time.
struct Life {
    governor: Governor,
    now_ns: u64,
}

impl Life {
    /// A target with known prices and a share of the host's budget.
    fn begin(settings: Settings) -> Self {
        let mut life = Self::unpriced(settings);
        for mode in [Mode::Sampled, Mode::Exact] {
            assert_eq!(life.apply(Input::Priced { mode, hit_ns: HIT }), []);
        }
        life.apply(Input::Share(PLENTY));
        life
    }

    fn unpriced(settings: Settings) -> Self {
        Self {
            governor: Governor::new(settings),
            now_ns: 1_000 * SECOND,
        }
    }

    fn apply(&mut self, input: Input) -> Vec<Effect> {
        self.governor.handle(self.now_ns, input)
    }

    /// Ten seconds without probes: waits and CPU time of each of them.
    fn rest(&mut self, waits: u64, cpu_ns: u64) -> Vec<Effect> {
        self.now_ns += 10 * SECOND;
        self.apply(Input::WindowOver(Window {
            length_ns: 10 * SECOND,
            cpu_ns: 10 * cpu_ns,
            hits: 0,
            tracked_waits: Some(10 * waits),
        }))
    }

    /// Rests without a wait until an attach is asked for.
    fn rest_until_attached(&mut self) {
        for _ in 0..1_000 {
            if !self.rest(0, 0).is_empty() {
                return;
            }
        }
        panic!("it is never attached to: {:?}", self.governor);
    }

    /// A second with probes.
    fn probe(&mut self, hits: u64, cpu_ns: u64) -> Vec<Effect> {
        self.now_ns += SECOND;
        self.apply(Input::WindowOver(Window {
            length_ns: SECOND,
            cpu_ns,
            hits,
            tracked_waits: None,
        }))
    }

    /// A target in tier `sampled`: 1000 waits and one second of CPU time per second.
    fn sampled() -> Self {
        let mut life = Self::begin(SAMPLED);
        assert_eq!(life.rest(1_000, SECOND), [attach(Mode::Sampled, 5_000_000 / HIT)]);
        let step = &life.apply(Input::Attached)[0];
        assert!(
            matches!(
                step,
                Effect::Step(Step {
                    to: Some(Mode::Sampled),
                    ..
                })
            ),
            "{step:?}"
        );
        assert_eq!(life.probe(500, SECOND), [Effect::BeginWindow { hits: 5_000 }]);
        life
    }
}

fn attach(mode: Mode, hits: u64) -> Effect {
    Effect::Attach { mode, hits }
}

/// The reason of the only step among the effects, which must lead down.
fn left(effects: &[Effect]) -> Reason {
    match effects {
        [Effect::Detach, Effect::Step(step)] => {
            assert!(step.to < step.from, "{step:?}");
            step.reason.clone()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_rule_nothing_is_ever_attached() {
    for highest in [None, Some(Mode::Passive)] {
        let mut life = Life::begin(Settings { highest, ..EXACT });
        for _ in 0..10 {
            assert_eq!(life.rest(1, SECOND), []);
        }
        assert_eq!(life.governor.obstacle(life.now_ns), Some(Obstacle::NotAllowed));
        assert_eq!(life.governor.demand(life.now_ns).need_ns, 0);
    }
}

#[test]
fn what_fits_is_attached_with_a_cap_and_keeps_running() {
    let mut life = Life::sampled();
    for _ in 0..100 {
        assert_eq!(life.probe(1_000, SECOND), [Effect::BeginWindow { hits: 5_000 }]);
    }
    assert_eq!(life.governor.tier(), Some(Mode::Sampled));
    assert_eq!(life.governor.obstacle(life.now_ns), None);
}

#[test]
fn what_would_cost_too_much_is_not_attached_and_says_so() {
    let mut life = Life::begin(SAMPLED);
    // 4.1 ms/s of 5 ms/s: more than is admitted.
    assert_eq!(life.rest(4_100, SECOND), []);
    assert_eq!(
        life.governor.obstacle(life.now_ns),
        Some(Obstacle::DoesNotFit {
            predicted_ns: 4_100_000,
            allowed_ns: 5_000_000
        })
    );
    assert_eq!(life.rest(3_900, SECOND), [attach(Mode::Sampled, 5_000)]);
}

#[test]
fn an_idle_target_has_its_floor() {
    let mut life = Life::begin(SAMPLED);
    assert_eq!(life.rest(0, 0), [attach(Mode::Sampled, 200)]);
    life.apply(Input::Attached);
    assert_eq!(life.probe(100, 0), [Effect::BeginWindow { hits: 200 }]);
}

#[test]
fn nothing_is_attached_whose_cost_cannot_be_foreseen() {
    let mut life = Life::unpriced(SAMPLED);
    life.apply(Input::Share(PLENTY));
    assert_eq!(life.rest(1, SECOND), []);
    assert_eq!(life.governor.obstacle(life.now_ns), Some(Obstacle::NotPriced));
    life.apply(Input::Priced {
        mode: Mode::Sampled,
        hit_ns: HIT,
    });
    let unread = Window {
        length_ns: SECOND,
        cpu_ns: SECOND,
        ..Window::default()
    };
    assert_eq!(life.apply(Input::WindowOver(unread)), []);
    assert_eq!(life.governor.obstacle(life.now_ns), Some(Obstacle::NotMeasured));
}

#[test]
fn a_burst_from_idle_hits_the_cap_and_is_left_for_a_while() {
    let mut life = Life::begin(SAMPLED);
    life.rest(0, 0);
    life.apply(Input::Attached);
    life.probe(0, 0);
    assert_eq!(left(&life.apply(Input::Capped)), Reason::Capped { hits: 200 });
    assert_eq!(life.apply(Input::Capped), [], "a second CPU has found out, too");
    assert_eq!(life.apply(Input::Detached), []);
    // Even if it looks idle again.
    assert_eq!(life.rest(0, 0), []);
    assert!(matches!(
        life.governor.obstacle(life.now_ns),
        Some(Obstacle::BackOff { .. })
    ));
    life.now_ns += 30 * SECOND;
    assert_eq!(life.rest(0, 0), [attach(Mode::Sampled, 200)]);
}

#[test]
fn each_time_it_waits_twice_as_long_up_to_an_hour() {
    let mut life = Life::begin(SAMPLED);
    let mut waited = Vec::new();
    for _ in 0..10 {
        let begin = life.now_ns;
        life.rest_until_attached();
        waited.push((life.now_ns - begin) / SECOND);
        life.apply(Input::Attached);
        left(&life.apply(Input::Capped));
        life.apply(Input::Detached);
    }
    assert_eq!(waited, [10, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
}

#[test]
fn who_has_behaved_is_trusted_again() {
    let mut life = Life::begin(SAMPLED);
    for _ in 0..5 {
        life.rest_until_attached();
        life.apply(Input::Attached);
        left(&life.apply(Input::Capped));
        life.apply(Input::Detached);
    }
    life.rest_until_attached();
    life.apply(Input::Attached);
    for _ in 0..600 {
        life.probe(1, 0);
    }
    left(&life.apply(Input::Capped));
    life.apply(Input::Detached);
    let begin = life.now_ns;
    life.rest_until_attached();
    assert_eq!((life.now_ns - begin) / SECOND, 30);
}

#[test]
fn one_dear_window_is_borne_and_two_are_not() {
    let mut life = Life::sampled();
    assert_eq!(life.probe(5_500, SECOND), [Effect::BeginWindow { hits: 5_000 }]);
    assert_eq!(life.probe(4_000, SECOND), [Effect::BeginWindow { hits: 5_000 }]);
    assert_eq!(life.probe(5_500, SECOND), [Effect::BeginWindow { hits: 5_000 }]);
    assert_eq!(
        left(&life.probe(5_500, SECOND)),
        Reason::OverBudget {
            cost_ns: 5_500_000,
            allowed_ns: 5_000_000
        }
    );
}

#[test]
fn a_window_beyond_all_bounds_is_not_borne_once() {
    let mut life = Life::sampled();
    let reason = left(&life.probe(7_001, SECOND));
    assert_eq!(reason.name(), "over_budget", "0.7 %: {reason:?}");
}

#[test]
fn the_cap_follows_the_cpu_that_was_seen() {
    let mut life = Life::sampled();
    assert_eq!(
        life.probe(1_000, SECOND / 2),
        [Effect::BeginWindow { hits: 2_500 }]
    );
    assert_eq!(
        life.probe(1_000, 2 * SECOND),
        [Effect::BeginWindow { hits: 10_000 }]
    );
}

#[test]
fn exact_runs_as_long_as_asked_for_and_sampled_follows() {
    let mut life = Life::begin(EXACT);
    // At most 16 hits of exact for a tracked wait.
    assert_eq!(life.rest(200, SECOND), [attach(Mode::Exact, 5_000)]);
    life.apply(Input::Attached);
    for _ in 0..9 {
        assert_eq!(life.probe(1_600, SECOND), [Effect::BeginWindow { hits: 5_000 }]);
    }
    assert_eq!(left(&life.probe(1_600, SECOND)), Reason::WindowElapsed);
    assert_eq!(life.apply(Input::Detached), [attach(Mode::Sampled, 5_000)]);
    life.apply(Input::Attached);
    for _ in 0..100 {
        assert_eq!(life.probe(200, SECOND), [Effect::BeginWindow { hits: 5_000 }]);
    }
    assert_eq!(life.governor.obstacle(life.now_ns), None, "it had its window");
}

#[test]
fn exact_that_does_not_fit_leaves_sampled() {
    let mut life = Life::begin(EXACT);
    assert_eq!(life.rest(1_000, SECOND), [attach(Mode::Sampled, 5_000)]);
    life.apply(Input::Attached);
    life.probe(1_000, SECOND);
    assert!(matches!(
        life.governor.obstacle(life.now_ns),
        Some(Obstacle::DoesNotFit { .. })
    ));
    // It fits later.
    life.probe(1_000, SECOND);
    assert_eq!(left(&life.probe(100, SECOND)), Reason::Rule);
    assert_eq!(life.apply(Input::Detached), [attach(Mode::Exact, 5_000)]);
}

#[test]
fn a_rule_that_forbids_takes_away_at_once_and_one_that_is_the_same_does_nothing() {
    let mut life = Life::sampled();
    assert_eq!(life.apply(Input::Rules(SAMPLED)), []);
    let off = Settings {
        highest: None,
        ..SAMPLED
    };
    assert_eq!(left(&life.apply(Input::Rules(off))), Reason::Rule);
    assert_eq!(life.apply(Input::Detached), []);
    assert_eq!(life.governor.tier(), None);
    assert_eq!(life.rest(1, SECOND), []);
    let [Effect::Step(step), Effect::Attach { .. }] = &life.apply(Input::Rules(SAMPLED))[..] else {
        panic!("it is read again, and probed, since nothing speaks against it");
    };
    assert_eq!((step.from, step.to), (None, Some(Mode::Passive)));
}

#[test]
fn what_comes_while_attaching_waits_for_its_answer() {
    for answer in [Input::Attached, Input::AttachFailed { why: "EPERM".into() }] {
        let mut life = Life::begin(SAMPLED);
        life.rest(1, SECOND);
        assert_eq!(
            life.apply(Input::Rules(Settings {
                highest: Some(Mode::Passive),
                ..SAMPLED
            })),
            []
        );
        let effects = life.apply(answer.clone());
        match answer {
            Input::Attached => {
                assert_eq!(effects, [Effect::Detach]);
                assert_eq!(life.apply(Input::Detached), []);
            }
            _ => assert_eq!(effects, []),
        }
        assert_eq!(life.governor.tier(), Some(Mode::Passive));
    }
}

#[test]
fn attaching_that_fails_is_tried_again_after_a_while() {
    let mut life = Life::begin(SAMPLED);
    life.rest(1, SECOND);
    let why = "out of memory".to_owned();
    assert_eq!(life.apply(Input::AttachFailed { why: why.clone() }), []);
    assert_eq!(life.rest(1, SECOND), []);
    match life.governor.obstacle(life.now_ns) {
        Some(Obstacle::BackOff { after, .. }) => assert_eq!(after, Reason::AttachFailed { why }),
        other => panic!("{other:?}"),
    }
    life.now_ns += 30 * SECOND;
    assert_eq!(life.rest(1, SECOND), [attach(Mode::Sampled, 5_000)]);
}

#[test]
fn what_cannot_be_had_is_never_tried() {
    let mut life = Life::begin(EXACT);
    let why = "no site".to_owned();
    life.apply(Input::Impossible {
        mode: Mode::Exact,
        why: why.clone(),
    });
    assert_eq!(life.rest(1, SECOND), [attach(Mode::Sampled, 5_000)]);
    assert_eq!(
        life.governor.obstacle(life.now_ns),
        Some(Obstacle::Impossible { why })
    );
}

#[test]
fn without_a_share_of_the_hosts_budget_it_waits_and_asks() {
    let mut life = Life::begin(SAMPLED);
    life.apply(Input::Share(0));
    assert_eq!(life.rest(1_000, SECOND), []);
    assert_eq!(life.governor.obstacle(life.now_ns), Some(Obstacle::HostBudget));
    let demand = life.governor.demand(life.now_ns);
    assert_eq!(
        demand,
        Demand {
            need_ns: 1_250_000,
            is_probed: false
        }
    );
    let share = allot(2_000_000, &[demand])[0];
    assert_eq!(
        life.apply(Input::Share(share)),
        [attach(Mode::Sampled, 2_000)],
        "the cap is that of the host"
    );
    life.apply(Input::Attached);
    life.probe(1_000, SECOND);
    assert!(life.governor.demand(life.now_ns).is_probed);
    assert_eq!(left(&life.apply(Input::Share(0))), Reason::HostBudget);
    life.apply(Input::Detached);
    assert_eq!(life.apply(Input::Share(PLENTY)), [], "not at once again");
}

#[test]
fn an_end_takes_everything_away_whatever_was_under_way() {
    let mut life = Life::sampled();
    assert_eq!(left(&life.apply(Input::Ended)), Reason::Ended);
    assert_eq!(life.apply(Input::Ended), []);
    assert_eq!(life.apply(Input::Detached), []);
    let mut life = Life::begin(SAMPLED);
    life.rest(1, SECOND);
    let effects = life.apply(Input::Ended);
    assert!(
        matches!(&effects[..], [Effect::Step(step)] if step.to.is_none()),
        "{effects:?}"
    );
    assert_eq!(life.apply(Input::Attached), [Effect::Detach]);
    life.apply(Input::Detached);
    assert_eq!(life.rest(1, SECOND), []);
    assert_eq!(life.apply(Input::Rules(EXACT)), []);
}

#[test]
fn a_stale_capped_or_attached_changes_nothing() {
    let mut life = Life::sampled();
    let before = life.governor.clone();
    assert_eq!(life.apply(Input::Attached), []);
    assert_eq!(life.apply(Input::AttachFailed { why: "?".into() }), []);
    assert_eq!(life.apply(Input::Detached), []);
    assert_eq!(life.governor, before);
}

#[test]
fn scaling_does_not_overflow() {
    assert_eq!(scale(u64::MAX, u64::MAX), u64::MAX);
    assert_eq!(scale(1_000, SECOND / 2), 500);
}
