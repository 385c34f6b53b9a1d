//! The state machine. An input that is impossible in the present state is ignored and logged, since a session must end
//! whatever the order of its inputs.

use std::collections::VecDeque;

use super::{Effect, Input, Offer};
use crate::{
    error::{Error, Failure},
    plan::Mode,
    stream::EndedBy,
};

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The only mode allowed; `None`: `auto`.
    pub mode: Option<Mode>,
    /// Whether a duration was asked for: then the capture is incomplete if the target ends before it.
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

/// The capture of one target.
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
    /// `Attach` is under way. It cannot be cancelled: an end that comes meanwhile waits for its answer.
    Attaching { mode: Mode, end: Option<EndedBy> },
    /// Attached, window open.
    Live { mode: Mode },
    /// `Detach` is under way, and `to` comes after it unless an end has come first.
    SteppingDown { to: Mode, end: Option<EndedBy> },
    /// The result is out, or about to be; `Detach` is under way.
    Draining,
    /// Nothing is attached, and nothing is left to do.
    Done,
}

impl Session {
    /// Returns a session that waits for its plan.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::New,
            cheaper: policy.ladder(),
            captured: false,
            slow_to_detach: false,
        }
    }

    /// Whether the session is over.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Handles an input. Returns what is to be done about it, in this order.
    pub fn handle(&mut self, input: Input) -> Vec<Effect> {
        match self.state {
            State::New => self.when_new(input),
            State::Attaching { mode, end } => self.when_attaching(mode, end, input),
            State::Live { mode } => self.when_live(mode, input),
            State::SteppingDown { to, end } => self.when_stepping_down(to, end, input),
            State::Draining => match input {
                Input::Detached => self.done(vec![]),
                // The result is out and the kernel is slow: the user need not wait for it.
                Input::Signal => self.done(vec![Effect::Quit]),
                // The target may end while its probes are being removed, and clocks still tick.
                _ => vec![],
            },
            State::Done => vec![],
        }
    }

    fn when_new(&mut self, input: Input) -> Vec<Effect> {
        match input {
            Input::Planned { offers } => self.choose(&offers),
            other => match end_of(&other) {
                Some(end) => self.done(vec![nothing_captured(end)]),
                None => self.ignore(&other),
            },
        }
    }

    /// Attaches in the first mode of the ladder that is possible.
    fn choose(&mut self, offers: &[Offer]) -> Vec<Effect> {
        let obstacle = |mode: Mode| match offers.iter().find(|offer| offer.mode == mode) {
            Some(offer) => offer.obstacle.clone(),
            None => Some(Error::failed(format!("mode {mode} was not examined"))),
        };
        let mut refused: Vec<(Mode, Error)> = Vec::new();
        while let Some(mode) = self.cheaper.pop_front() {
            let Some(error) = obstacle(mode) else {
                // A mode to fall back to must be possible, too.
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
        self.done(vec![Effect::Fail {
            error: merge_errors(refused),
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
                // After stepping down, the window continues.
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
                let effects = self.finish_detached(end);
                self.insert_detach(effects)
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
                        let effects = self.finish_detached(EndedBy::SourceFailed);
                        self.done(effects)
                    }
                    None => self.done(vec![Effect::Fail { error }]),
                }
            }
            (Input::AttachFailed { mode: failed, .. }, Some(end)) if failed == mode => {
                let effects = self.finish_detached(end);
                self.done(effects)
            }
            (Input::Signal, Some(_)) => self.done(vec![Effect::Quit]),
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
            Input::MeasureDue => vec![Effect::MeasureCpu],
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
                let effects = self.finish_detached(end);
                self.done(effects)
            }
            (Input::Signal, Some(_)) => self.done(vec![Effect::Quit]),
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

    /// Ends a live capture.
    fn drain(&mut self, mode: Mode, end: EndedBy) -> Vec<Effect> {
        self.state = State::Draining;
        let mut effects = vec![Effect::CloseWindow];
        // The kernel still has the counts of a process that has ended; its memory is gone.
        if end.target_is_there() || mode.has_probes() {
            effects.push(Effect::Collect);
        }
        if end.target_is_there() {
            effects.push(Effect::Snapshot);
        }
        effects.extend(self.finish(mode, end));
        self.insert_detach(effects)
    }

    /// Inserts `Detach`: before `PrintResult`, so that the target is not disturbed for longer than necessary; but after
    /// it where the kernel is slow to detach, since the probes do nothing any more and the user would have to wait.
    fn insert_detach(&self, mut effects: Vec<Effect>) -> Vec<Effect> {
        let at = match effects.iter().position(|effect| *effect == Effect::PrintResult) {
            Some(print) if !self.slow_to_detach => print,
            _ => effects.len(),
        };
        effects.insert(at, Effect::Detach);
        effects
    }

    /// Returns the effects that end a session in which nothing is live: the capture so far, or the error that there is
    /// none.
    fn finish_detached(&self, end: EndedBy) -> Vec<Effect> {
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
            // Without a duration, the window ends with the target; but what a passive capture had not read by then is
            // lost.
            EndedBy::TargetExit | EndedBy::TargetExec => !self.policy.bounded && mode.has_probes(),
            EndedBy::SourceFailed | EndedBy::Budget | EndedBy::RecordingCut => false,
        };
        let finish = Effect::Finish { ended_by, whole };
        match ended_by {
            EndedBy::ReaderGone => vec![finish],
            _ => vec![finish, Effect::PrintResult],
        }
    }

    fn done(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        self.state = State::Done;
        effects
    }

    fn ignore(&self, input: &Input) -> Vec<Effect> {
        // Timers may fire early or late; anything else would be a bug of the runner.
        if !matches!(
            input,
            Input::Tick | Input::MeasureDue | Input::IntervalElapsed | Input::EventsLost
        ) {
            log::debug!("session: {input:?} is ignored in state {:?}", self.state);
        }
        vec![]
    }
}

/// Returns the end that an input causes in every state, if any.
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
        | Input::MeasureDue
        | Input::IntervalElapsed
        | Input::EventsLost
        | Input::SourceFailed { .. }
        | Input::BudgetExceeded { .. } => None,
    }
}

/// Merges the reasons why no mode of the ladder is possible. The exit status is that of the cheapest mode, which needs
/// the least.
fn merge_errors(mut refused: Vec<(Mode, Error)>) -> Error {
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

/// Returns the error for an end that came before the window was open.
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
