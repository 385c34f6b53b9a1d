//! Properties that hold for every sequence of inputs, checked with random ones.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{error::Error, plan::Mode};

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Passive),
        Just(Mode::Sampled),
        Just(Mode::Exact),
        Just(Mode::Full)
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    (proptest::option::of(mode()), any::<bool>()).prop_map(|(mode, bounded)| Policy { mode, bounded })
}

/// Inputs that may come from outside at any moment.
fn from_outside() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => Just(Input::Tick),
        2 => Just(Input::MeasureDue),
        2 => Just(Input::IntervalElapsed),
        1 => Just(Input::EventsLost),
        1 => Just(Input::DurationElapsed),
        1 => Just(Input::Signal),
        1 => Just(Input::TargetExited),
        1 => Just(Input::TargetExeced),
        1 => Just(Input::ReaderGone),
        1 => Just(Input::SourceFailed { why: "source".into() }),
        2 => Just(Input::BudgetExceeded { why: "budget".into() }),
    ]
}

/// What the world does next.
#[derive(Clone, Debug)]
enum Step {
    Outside(Input),
    /// What is under way ends: whether it succeeds.
    Answer(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(
        prop_oneof![
            from_outside().prop_map(Step::Outside),
            any::<bool>().prop_map(Step::Answer)
        ],
        0..60,
    )
}

/// A runner without a kernel that checks the order of the effects.
struct World {
    session: Session,
    offers: Vec<Offer>,
    planned: bool,
    attaching: Option<Mode>,
    attached: Option<Mode>,
    detaching: bool,
    window: Option<bool>,
    target_is_there: bool,
    verdicts: usize,
    printed: usize,
    quit: bool,
    slow_to_detach: bool,
    history: Vec<Effect>,
}

impl World {
    fn new(policy: Policy, offers: Vec<Offer>, slow_to_detach: bool) -> Self {
        Self {
            session: Session::new(policy),
            offers,
            planned: false,
            attaching: None,
            attached: None,
            detaching: false,
            window: None,
            target_is_there: true,
            verdicts: 0,
            printed: 0,
            quit: false,
            slow_to_detach,
            history: vec![],
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Outside(input) => {
                if matches!(input, Input::TargetExited | Input::TargetExeced) {
                    self.target_is_there = false;
                }
                self.send(input);
            }
            Step::Answer(well) => {
                if let Some(mode) = self.attaching.take() {
                    if well {
                        self.attached = Some(mode);
                        let slow_to_detach = self.slow_to_detach;
                        self.send(Input::Attached {
                            mode,
                            sites: 1,
                            slow_to_detach,
                        });
                    } else {
                        self.send(Input::AttachFailed {
                            mode,
                            error: Error::failed("attach"),
                        });
                    }
                } else if self.detaching {
                    self.detaching = false;
                    self.attached = None;
                    self.send(Input::Detached);
                } else if !self.planned {
                    self.planned = true;
                    self.send(Input::Planned {
                        offers: self.offers.clone(),
                    });
                }
            }
        }
    }

    fn send(&mut self, input: Input) {
        for effect in self.session.handle(input) {
            self.carry_out(&effect);
            self.history.push(effect);
        }
    }

    fn carry_out(&mut self, effect: &Effect) {
        assert!(!self.quit, "{effect:?} after Quit");
        match effect {
            Effect::Attach { mode } => {
                assert_eq!((self.attaching, self.attached), (None, None), "two attaches");
                assert!(
                    self.offers
                        .iter()
                        .any(|o| o.mode == *mode && o.obstacle.is_none()),
                    "{mode} impossible"
                );
                assert_eq!(self.verdicts, 0, "attach after the end");
                self.attaching = Some(*mode);
            }
            Effect::Detach => {
                assert!(self.attached.is_some() && !self.detaching, "detach of nothing");
                self.detaching = true;
            }
            Effect::OpenWindow { mode, .. } => {
                assert_eq!(self.window, None, "window opened twice");
                assert_eq!(self.attached, Some(*mode));
                self.window = Some(true);
            }
            Effect::CloseWindow => assert_eq!(self.window.replace(false), Some(true), "no open window"),
            Effect::Snapshot | Effect::PrintInterval => {
                assert!(self.attached.is_some() && !self.detaching && self.verdicts == 0);
            }
            Effect::MeasureCpu => assert!(self.attached.is_some() && self.window.is_some()),
            Effect::Collect => {
                let mode = self.attached.expect("collecting from nothing");
                assert!(!self.detaching && self.verdicts == 0);
                assert!(self.window.is_some());
                // The target's end is reported at once, so that none can have been missed here.
                assert!(
                    mode.has_probes() || self.target_is_there,
                    "reads a process that is gone"
                );
            }
            Effect::Finish { .. } => {
                assert_eq!(self.window, Some(false));
                self.verdicts += 1;
            }
            Effect::Fail { .. } => {
                assert_eq!(self.window, None, "a capture was thrown away");
                self.verdicts += 1;
            }
            Effect::PrintResult => {
                assert_eq!(self.verdicts, 1);
                assert_eq!(
                    self.attached.is_some() && !self.detaching,
                    self.attached.is_some() && self.slow_to_detach,
                    "printed too early, or too late"
                );
                self.printed += 1;
            }
            Effect::FallBack { from, to, .. } => assert!(to < from, "{from} to {to} is not a step down"),
            Effect::Quit => self.quit = true,
        }
        assert!(self.verdicts <= 1, "two ends");
        assert!(self.printed <= 1, "printed twice");
    }

    /// Lets everything end.
    fn rest(&mut self) {
        self.step(Step::Outside(Input::DurationElapsed));
        for _ in 0..8 {
            self.step(Step::Answer(true));
        }
    }
}

proptest! {
    #[test]
    fn every_life_ends_once_and_leaves_nothing_attached(
        policy in policy(), possible in any::<[bool; 3]>(), slow_to_detach in any::<bool>(), steps in steps()
    ) {
        let offers: Vec<Offer> = Mode::ALL
            .iter()
            .zip(possible)
            .map(|(&mode, possible)| Offer { mode, obstacle: (!possible).then(|| Error::failed("obstacle")) })
            .collect();
        let mut world = World::new(policy, offers.clone(), slow_to_detach);
        let mut again = World::new(policy, offers, slow_to_detach);
        for step in steps {
            world.step(step.clone());
            again.step(step);
        }
        world.rest();
        again.rest();
        assert!(world.session.is_done());
        assert!(world.quit || world.verdicts == 1);
        assert!(world.quit || (world.attaching, world.attached) == (None, None), "left attached");
        assert_eq!(world.history, again.history, "not deterministic");
    }

    #[test]
    fn nonsense_neither_panics_nor_attaches_twice(policy in policy(), inputs in vec(nonsense(), 0..60)) {
        let mut session = Session::new(policy);
        let mut under_way = 0i32;
        for input in inputs {
            let ends_one =
                matches!(input, Input::AttachFailed { .. } | Input::Detached) as i32;
            let before = session.clone();
            let effects = session.handle(input);
            if session != before {
                under_way -= ends_one;
            }
            for effect in effects {
                under_way += i32::from(matches!(effect, Effect::Attach { .. }));
            }
            prop_assert!(under_way <= 1, "two attaches");
        }
    }
}

/// Any input at all, including answers to effects that there never were.
fn nonsense() -> impl Strategy<Value = Input> {
    prop_oneof![
        from_outside(),
        Just(Input::Detached),
        (mode(), any::<bool>()).prop_map(|(mode, slow_to_detach)| Input::Attached {
            mode,
            sites: 3,
            slow_to_detach
        }),
        mode().prop_map(|mode| Input::AttachFailed {
            mode,
            error: Error::failed("why")
        }),
        vec((mode(), any::<bool>()), 0..4).prop_map(|offers| Input::Planned {
            offers: offers
                .into_iter()
                .map(|(mode, possible)| Offer {
                    mode,
                    obstacle: (!possible).then(|| Error::failed("obstacle"))
                })
                .collect()
        }),
    ]
}
