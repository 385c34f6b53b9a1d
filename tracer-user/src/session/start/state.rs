//! The state machine of a capture of starts.

use crate::{
    error::{Error, Failure},
    stream::EndedBy,
};

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whose starts are traced.
    pub starts_of: StartsOf,
    /// Whether latencies are traced from `main.main` on. Only for a single run of a command.
    pub with_latencies: bool,
    /// Whether all descendants of the command are followed, until the command ends.
    pub tree: bool,
    /// Whether the starts of a binary are traced by probes in every process that maps it, so that no process is held.
    pub whole_binary: bool,
}

/// Whose starts are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartsOf {
    /// A command that gmpscope runs.
    Command {
        /// How many times it is run.
        runs: u32,
    },
    /// A binary, whoever executes it.
    Binary {
        /// How many of its next starts.
        starts: u64,
    },
}

impl StartsOf {
    /// Whether more than one start is traced.
    pub const fn are_several(self) -> bool {
        match self {
            Self::Command { runs } => runs > 1,
            Self::Binary { starts } => starts > 1,
        }
    }
}

/// Input of the state machine: what has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The session begins.
    Begin,
    /// The command is held before its execve.
    Held,
    /// No process could be made for the command.
    NotHeld {
        /// The cause.
        error: Error,
    },
    /// [`Effect::Attach`] succeeded.
    Attached,
    /// [`Effect::Attach`] failed, and nothing of it is left attached.
    AttachFailed {
        /// The cause.
        error: Error,
    },
    /// A start has ended, in `main.main` or before.
    StartEnded,
    /// The only start has not ended for so long, or has hit its probes so often, that they are to be removed.
    StartOverdue,
    /// [`Effect::TraceLatencies`] succeeded: the result is printed with the latencies.
    LatenciesBegun,
    /// Some time has passed since [`Effect::Settle`]: a command that ends right after its start has ended.
    Settled,
    /// The command has ended.
    CommandEnded {
        /// Its status as in a shell: 128 and more for signals.
        code: u8,
    },
    /// The command was never started: its execve failed.
    NotExecuted {
        /// The cause.
        error: Error,
    },
    /// The duration that was asked for is over.
    DurationElapsed,
    /// The user or the system asks us to end. Our command gets the signal, too, and may ignore it; no other run
    /// follows.
    Signal,
    /// Our command has not ended after a second signal.
    CommandUnresponsive {
        /// The status that the signal stands for.
        code: u8,
    },
    /// A source failed, or the output cannot be written.
    SourceFailed {
        /// The cause.
        error: Error,
    },
    /// Nobody reads our output any more.
    ReaderGone,
}

/// Output of the state machine: what is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make a process that waits before its execve; answer with `Held` or `NotHeld`.
    Hold,
    /// Attach; answer with `Attached` or `AttachFailed`.
    Attach,
    /// Let the held process execute the command, and trace its start.
    Release,
    /// End the held process before it executes anything.
    Abort,
    /// Take over what the kernel has sent.
    Collect,
    /// Cut off all starts that have not ended.
    Cut,
    /// Answer with `Settled` after a while.
    Settle,
    /// Trace the latencies of the process; answer with `LatenciesBegun`, or with `Settled` if that is not possible.
    TraceLatencies,
    /// Print the result. Comes once.
    Print {
        /// What ended the tracing.
        ended_by: EndedBy,
        /// Whether all that was asked for was seen.
        whole: bool,
    },
    /// Remove all that is attached.
    Detach,
    /// End with a status. Comes last.
    Quit {
        /// The exit status.
        code: u8,
    },
    /// End with an error. Comes last.
    Fail {
        /// The cause.
        error: Error,
    },
}

/// A capture of starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    policy: Policy,
    state: State,
    /// Whether something is attached.
    attached: bool,
    /// Runs of the command that were released.
    runs: u32,
    /// Starts that have ended.
    ended: u64,
    /// The first exit status of a run that is not 0.
    code: u8,
    /// Whether a signal has come: then there is no other run.
    interrupted: bool,
    /// Whether the only start was given up before it had ended.
    gave_up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waiting for `Begin`.
    New,
    /// `Hold` is under way.
    Holding,
    /// `Attach` is under way.
    Attaching,
    /// Attached; our command is running, or somebody else may start the binary.
    Tracing,
    /// The start is not traced any more; our command is still running.
    Waiting,
    /// Nothing is left to do.
    Done,
}

impl Session {
    /// Returns a session that waits for `Begin`.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::New,
            attached: false,
            runs: 0,
            ended: 0,
            code: 0,
            interrupted: false,
            gave_up: false,
        }
    }

    /// Whether the session is over.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Handles an input. Returns what is to be done about it, in this order.
    pub fn handle(&mut self, input: Input) -> Vec<Effect> {
        self.interrupted |= input == Input::Signal;
        match (self.state, input) {
            (State::New, Input::Begin) => match self.policy.starts_of {
                StartsOf::Command { .. } => self.hold(),
                StartsOf::Binary { .. } => self.attach(),
            },
            (State::Holding, Input::Held) if self.interrupted => {
                let whole = self.runs > 0 && self.ended >= u64::from(self.runs);
                let mut effects = vec![Effect::Abort];
                effects.extend(self.closing_effects(EndedBy::Signal, whole));
                self.quit(effects)
            }
            // In a tree, the gate holds whatever the command executes; without one, each run has probes of its own.
            (State::Holding, Input::Held) if self.attached && self.policy.tree => self.release(),
            (State::Holding, Input::Held) => self.attach(),
            (State::Holding, Input::NotHeld { error }) => self.fail(error),
            (State::Attaching, Input::Attached) => {
                self.attached = true;
                match self.policy.starts_of {
                    StartsOf::Command { .. } => self.release(),
                    StartsOf::Binary { .. } => {
                        self.state = State::Tracing;
                        vec![]
                    }
                }
            }
            (State::Attaching, Input::AttachFailed { .. }) if self.attached => {
                // What was seen of earlier runs is printed.
                self.record_code(Failure::NotStarted as u8);
                let mut effects = vec![Effect::Abort];
                effects.extend(self.closing_effects(EndedBy::SourceFailed, false));
                self.quit(effects)
            }
            (State::Attaching, Input::AttachFailed { error }) => {
                let mut effects = match self.policy.starts_of {
                    StartsOf::Command { .. } => vec![Effect::Abort],
                    StartsOf::Binary { .. } => vec![],
                };
                effects.extend(self.fail(error));
                effects
            }
            (State::Tracing, input) => self.when_tracing(input),
            (State::Waiting, Input::CommandEnded { code }) => {
                self.record_code(code);
                self.quit(vec![])
            }
            (State::Waiting, Input::CommandUnresponsive { code }) => {
                self.code = code;
                self.quit(vec![])
            }
            (_, _) => vec![],
        }
    }

    fn when_tracing(&mut self, input: Input) -> Vec<Effect> {
        let is_command = matches!(self.policy.starts_of, StartsOf::Command { .. });
        match input {
            Input::StartEnded => {
                self.ended += 1;
                match self.policy.starts_of {
                    // The probes would cost time for nothing. The result is printed while the command continues, but
                    // after its end if it ends at once.
                    StartsOf::Command { .. } if self.policy.tree => vec![],
                    StartsOf::Command { runs: 1 } => {
                        self.attached = false;
                        let then = if self.policy.with_latencies {
                            Effect::TraceLatencies
                        } else {
                            Effect::Settle
                        };
                        vec![Effect::Detach, then]
                    }
                    StartsOf::Binary { starts } if self.ended >= starts => self.finish(EndedBy::Starts, true),
                    _ => vec![],
                }
            }
            Input::StartOverdue if self.awaits_its_only_start() => self.give_up(),
            Input::LatenciesBegun => {
                self.state = State::Waiting;
                vec![]
            }
            Input::Settled if self.gave_up => self.finish(EndedBy::Budget, false),
            Input::Settled => self.finish(EndedBy::Starts, true),
            Input::CommandEnded { code } => {
                self.record_code(code);
                let all = matches!(self.policy.starts_of, StartsOf::Command { runs } if self.runs >= runs);
                if all || self.interrupted {
                    self.state = State::Waiting;
                    let whole = self.has_seen_every_start();
                    let ended_by = if all { EndedBy::TargetExit } else { EndedBy::Signal };
                    let effects = self.closing_effects(ended_by, whole);
                    self.quit(effects)
                } else {
                    let mut effects = vec![Effect::Collect, Effect::Cut];
                    effects.extend(self.hold());
                    effects
                }
            }
            Input::NotExecuted { error } => {
                let mut effects = vec![Effect::Detach];
                effects.extend(self.fail(error));
                effects
            }
            Input::DurationElapsed => {
                let whole = is_command && self.has_seen_every_start();
                self.finish(EndedBy::Duration, whole)
            }
            Input::Signal if !is_command => {
                let whole = self.ended > 0;
                self.finish(EndedBy::Signal, whole)
            }
            Input::CommandUnresponsive { code } => {
                let whole = self.has_seen_every_start();
                let effects = self.closing_effects(EndedBy::Signal, whole);
                self.code = code;
                self.quit(effects)
            }
            Input::ReaderGone => self.finish(EndedBy::ReaderGone, true),
            Input::SourceFailed { error } if !is_command => {
                let mut effects = vec![Effect::Detach];
                effects.extend(self.fail(error));
                effects
            }
            Input::SourceFailed { .. } => self.finish(EndedBy::SourceFailed, false),
            _ => vec![],
        }
    }

    /// Whether each run of the command has started, so that nothing is cut off. A tree may have no Go program at all.
    fn has_seen_every_start(&self) -> bool {
        self.policy.tree || self.ended >= u64::from(self.runs)
    }

    /// Whether probes are in the only run of a command, whose start has not ended.
    fn awaits_its_only_start(&self) -> bool {
        self.attached && !self.policy.tree && self.policy.starts_of == StartsOf::Command { runs: 1 }
    }

    /// Removes the probes of a start that does not end. Whatever follows, the result is not whole.
    fn give_up(&mut self) -> Vec<Effect> {
        self.gave_up = true;
        if !self.policy.with_latencies {
            return self.finish(EndedBy::Budget, false);
        }
        self.attached = false;
        vec![
            Effect::Collect,
            Effect::Cut,
            Effect::Detach,
            Effect::TraceLatencies,
        ]
    }

    fn hold(&mut self) -> Vec<Effect> {
        self.state = State::Holding;
        vec![Effect::Hold]
    }

    fn attach(&mut self) -> Vec<Effect> {
        self.state = State::Attaching;
        vec![Effect::Attach]
    }

    fn release(&mut self) -> Vec<Effect> {
        self.state = State::Tracing;
        self.runs += 1;
        vec![Effect::Release]
    }

    fn record_code(&mut self, code: u8) {
        if self.code == 0 {
            self.code = code;
        }
    }

    /// Ends the tracing. Our command continues, and its exit status is waited for.
    fn finish(&mut self, ended_by: EndedBy, whole: bool) -> Vec<Effect> {
        let effects = self.closing_effects(ended_by, whole);
        match self.policy.starts_of {
            StartsOf::Command { .. } => {
                self.state = State::Waiting;
                effects
            }
            StartsOf::Binary { .. } => {
                if !whole {
                    self.code = Failure::Incomplete as u8;
                }
                self.quit(effects)
            }
        }
    }

    /// Returns the effects that end the tracing and print the result.
    fn closing_effects(&mut self, ended_by: EndedBy, whole: bool) -> Vec<Effect> {
        let print = Effect::Print { ended_by, whole };
        if !std::mem::take(&mut self.attached) {
            return vec![print];
        }
        vec![Effect::Collect, Effect::Cut, print, Effect::Detach]
    }

    fn quit(&mut self, mut effects: Vec<Effect>) -> Vec<Effect> {
        self.state = State::Done;
        effects.push(Effect::Quit { code: self.code });
        effects
    }

    fn fail(&mut self, error: Error) -> Vec<Effect> {
        self.state = State::Done;
        vec![Effect::Fail { error }]
    }
}
