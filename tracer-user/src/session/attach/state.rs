//! The machine itself. Every pair of state and input has its arm; what cannot be is ignored and
//! logged, since a session must come to its end whatever it is told.

use std::collections::VecDeque;

use super::{Effect, Input, Offer};
use crate::{
    error::{Error, Failure},
    plan::Mode,
    stream::EndedBy,
};

/// What the user agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// One mode and no other; `None`: `auto`.
    pub mode: Option<Mode>,
    /// Whether a duration was asked for: then a target that ends before it cuts the window short.
    pub bounded: bool,
}

impl Policy {
    /// The modes to try, in this order.
    fn ladder(self) -> VecDeque<Mode> {
        match self.mode {
            Some(mode) => [mode].into(),
            None => [Mode::Sampled, Mode::Passive].into(),
        }
    }
}

/// The life of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    policy: Policy,
    state: State,
    /// Modes that may still be tried after the present one, the next first.
    cheaper: VecDeque<Mode>,
    /// Whether the window was ever opened: from then on there is something to print.
    captured: bool,
    /// Whether what is attached takes a while to be removed.
    slow_to_detach: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waiting for the plan.
    New,
    /// `Attach` is under way. It cannot be called back: an end that comes meanwhile waits for its answer.
    Attaching { mode: Mode, end: Option<EndedBy> },
    /// Attached, window open.
    Live { mode: Mode },
    /// `Detach` is under way, and `to` comes after it unless an end has come first.
    SteppingDown { to: Mode, end: Option<EndedBy> },
    /// All is said; `Detach` is under way.
    Draining,
    /// Nothing is attached, nothing is left to do.
    Done,
}

impl Session {
    /// A session that waits for its plan.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::New,
            cheaper: policy.ladder(),
            captured: false,
            slow_to_detach: false,
        }
    }

    /// Whether all is done.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What is to be done about `input`, in this order.
    pub fn handle(&mut self, input: Input) -> Vec<Effect> {
        match self.state {
            State::New => self.when_new(input),
            State::Attaching { mode, end } => self.when_attaching(mode, end, input),
            State::Live { mode } => self.when_live(mode, input),
            State::SteppingDown { to, end } => self.when_stepping_down(to, end, input),
            State::Draining => match input {
                Input::Detached => self.become_done(vec![]),
                // The result is out and the kernel is slow: the user need not wait for it.
                Input::Signal => self.become_done(vec![Effect::Quit]),
                // The target may well end while its probes are being removed, and clocks still tick.
                _ => vec![],
            },
            State::Done => vec![],
        }
    }

    fn when_new(&mut self, input: Input) -> Vec<Effect> {
        match input {
            Input::Planned { offers } => self.choose(&offers),
            other => match end_of(&other) {
                Some(end) => self.become_done(vec![nothing_captured(end)]),
                None => self.ignore(&other),
            },
        }
    }

    /// Attaches in the first mode of the ladder that nothing stands in the way of.
    fn choose(&mut self, offers: &[Offer]) -> Vec<Effect> {
        let obstacle = |mode: Mode| match offers.iter().find(|offer| offer.mode == mode) {
            Some(offer) => offer.obstacle.clone(),
            None => Some(Error::failed(format!("mode {mode} was not looked into"))),
        };
        let mut refused: Vec<(Mode, Error)> = Vec::new();
        while let Some(mode) = self.cheaper.pop_front() {
            let Some(error) = obstacle(mode) else {
                // A mode that may follow later must be possible, too.
                self.cheaper.retain(|&cheaper| obstacle(cheaper).is_none());
                let fall_back = |(from, error): (Mode, Error)| Effect::FallBack {
                    from,
                    to: mode,
                    why: error.message,
                };
                let mut effects: Vec<Effect> = refused.into_iter().map(fall_back).collect();
                effects.push(self.attach(mode));
                return effects;
            };
            refused.push((mode, error));
        }
        self.become_done(vec![Effect::Fail {
            error: all_of(refused),
        }])
    }

    fn when_attaching(&mut self, mode: Mode, end: Option<EndedBy>, input: Input) -> Vec<Effect> {
        match (input, end) {
            (
                Input::Attached {
                    mode: attached,
                    sites,
                    slow_to_detach,
                },
                None,
            ) if attached == mode => {
                self.state = State::Live { mode };
                self.slow_to_detach = slow_to_detach;
                // After stepping down the window goes on.
                let open = (!self.captured).then_some(Effect::OpenWindow { mode, sites });
                self.captured = true;
                open.into_iter().chain([Effect::Snapshot]).collect()
            }
            (
                Input::Attached {
                    mode: attached,
                    slow_to_detach,
                    ..
                },
                Some(end),
            ) if attached == mode => {
                self.state = State::Draining;
                self.slow_to_detach = slow_to_detach;
                let verdict = self.verdict(end);
                self.and_detach(verdict)
            }
            (Input::AttachFailed { mode: failed, error }, None) if failed == mode => {
                match self.cheaper.pop_front() {
                    Some(to) => vec![
                        Effect::FallBack {
                            from: mode,
                            to,
                            why: error.message,
                        },
                        self.attach(to),
                    ],
                    None if self.captured => {
                        let effects = self.verdict(EndedBy::SourceFailed);
                        self.become_done(effects)
                    }
                    None => self.become_done(vec![Effect::Fail { error }]),
                }
            }
            (Input::AttachFailed { mode: failed, .. }, Some(end)) if failed == mode => {
                let effects = self.verdict(end);
                self.become_done(effects)
            }
            (Input::Signal, Some(_)) => self.become_done(vec![Effect::Quit]),
            (other, None) => {
                match end_of(&other) {
                    Some(end) => self.state = State::Attaching { mode, end: Some(end) },
                    None => return self.ignore(&other),
                }
                vec![]
            }
            (other, Some(_)) => self.ignore(&other),
        }
    }

    fn when_live(&mut self, mode: Mode, input: Input) -> Vec<Effect> {
        match input {
            Input::Tick => vec![Effect::Collect],
            Input::EventsLost => vec![Effect::Snapshot],
            Input::IntervalElapsed => vec![Effect::Collect, Effect::Snapshot, Effect::PrintInterval],
            Input::BudgetExceeded { why } => match self.cheaper.pop_front() {
                Some(to) => {
                    self.state = State::SteppingDown { to, end: None };
                    vec![
                        Effect::Collect,
                        Effect::FallBack { from: mode, to, why },
                        Effect::Detach,
                    ]
                }
                None => self.drain(mode, EndedBy::Budget),
            },
            Input::SourceFailed { .. } => self.drain(mode, EndedBy::SourceFailed),
            other => match end_of(&other) {
                Some(end) => self.drain(mode, end),
                None => self.ignore(&other),
            },
        }
    }

    fn when_stepping_down(&mut self, to: Mode, end: Option<EndedBy>, input: Input) -> Vec<Effect> {
        match (input, end) {
            (Input::Detached, None) => vec![self.attach(to)],
            (Input::Detached, Some(end)) => {
                let effects = self.verdict(end);
                self.become_done(effects)
            }
            (Input::Signal, Some(_)) => self.become_done(vec![Effect::Quit]),
            (other, None) => {
                match end_of(&other) {
                    Some(end) => self.state = State::SteppingDown { to, end: Some(end) },
                    None => return self.ignore(&other),
                }
                vec![]
            }
            (other, Some(_)) => self.ignore(&other),
        }
    }

    fn attach(&mut self, mode: Mode) -> Effect {
        self.state = State::Attaching { mode, end: None };
        Effect::Attach { mode }
    }

    /// The orderly end of a live capture.
    fn drain(&mut self, mode: Mode, end: EndedBy) -> Vec<Effect> {
        self.state = State::Draining;
        let mut effects = vec![Effect::CloseWindow];
        // The kernel still has the counts of a process that is gone; its memory has nothing.
        if end.target_is_there() || mode.has_probes() {
            effects.push(Effect::Collect);
        }
        if end.target_is_there() {
            effects.push(Effect::Snapshot);
        }
        effects.extend(self.finish(mode, end));
        self.and_detach(effects)
    }

    /// The same effects with the one that detaches. The target comes first: only where it would be waited for long is the
    /// result out before, since its probes do nothing any more.
    fn and_detach(&self, mut effects: Vec<Effect>) -> Vec<Effect> {
        let at = match effects.iter().position(|effect| *effect == Effect::PrintResult) {
            Some(print) if !self.slow_to_detach => print,
            _ => effects.len(),
        };
        effects.insert(at, Effect::Detach);
        effects
    }

    /// What is said at the end when nothing is live: the capture so far, or that there is none.
    fn verdict(&self, end: EndedBy) -> Vec<Effect> {
        if self.captured {
            // Only stepping down leads here, and its end is passive.
            [Effect::CloseWindow]
                .into_iter()
                .chain(self.finish(Mode::Passive, end))
                .collect()
        } else {
            vec![nothing_captured(end)]
        }
    }

    fn finish(&self, mode: Mode, ended_by: EndedBy) -> Vec<Effect> {
        let whole = match ended_by {
            EndedBy::Duration | EndedBy::Signal | EndedBy::ReaderGone | EndedBy::Starts => true,
            // Without a duration the target's end is the window's end; but what a passive capture had
            // not read by then is lost.
            EndedBy::TargetExit | EndedBy::TargetExec => !self.policy.bounded && mode.has_probes(),
            EndedBy::SourceFailed | EndedBy::Budget | EndedBy::RecordingCut => false,
        };
        let finish = Effect::Finish { ended_by, whole };
        match ended_by {
            EndedBy::ReaderGone => vec![finish],
            _ => vec![finish, Effect::PrintResult],
        }
    }

    fn become_done(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        self.state = State::Done;
        effects
    }

    fn ignore(&self, input: &Input) -> Vec<Effect> {
        // Timers that fire early or late are no news; anything else would be the runner's mistake.
        if !matches!(input, Input::Tick | Input::IntervalElapsed | Input::EventsLost) {
            log::debug!("session: {input:?} means nothing while {:?}", self.state);
        }
        vec![]
    }
}

/// The end that a input brings in whatever state, if any.
fn end_of(input: &Input) -> Option<EndedBy> {
    match input {
        Input::DurationElapsed => Some(EndedBy::Duration),
        Input::Signal => Some(EndedBy::Signal),
        Input::TargetExited => Some(EndedBy::TargetExit),
        Input::TargetExeced => Some(EndedBy::TargetExec),
        Input::ReaderGone => Some(EndedBy::ReaderGone),
        Input::Planned { .. }
        | Input::Attached { .. }
        | Input::AttachFailed { .. }
        | Input::Detached
        | Input::Tick
        | Input::IntervalElapsed
        | Input::EventsLost
        | Input::SourceFailed { .. }
        | Input::BudgetExceeded { .. } => None,
    }
}

/// Why no mode of the ladder can be had; the exit status is that of the cheapest, since it asks the least.
fn all_of(mut refused: Vec<(Mode, Error)>) -> Error {
    match refused.len() {
        0 => Error::failed("no mode is left to try"),
        1 => refused.remove(0).1,
        _ => Error {
            failure: refused.last().map_or(Failure::Failed, |(_, error)| error.failure),
            message: refused
                .iter()
                .map(|(mode, error)| format!("{mode}: {}", error.message))
                .collect::<Vec<_>>()
                .join("\n"),
        },
    }
}

/// The end came before the window.
fn nothing_captured(end: EndedBy) -> Effect {
    let error = match end {
        EndedBy::TargetExit => {
            Error::not_traceable("the process ended before the capture began; nothing was captured")
        }
        EndedBy::TargetExec => Error::not_traceable(
            "the process executed another program before the capture began; nothing was captured: if that is one to trace, \
             attach again",
        ),
        _ => Error::failed("interrupted before the capture began; nothing was captured"),
    };
    Effect::Fail { error }
}
