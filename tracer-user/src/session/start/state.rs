//! The machine itself.

use crate::{
    error::{Error, Failure},
    stream::EndedBy,
};

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whose starts.
    pub whose: Whose,
    /// Behind `main.main` its latencies are wanted, too. Only of one run of ours.
    pub goes_on: bool,
    /// All that descends from a command of ours is followed, until it ends.
    pub tree: bool,
    /// Starts of others are seen by probes in every process that maps the binary, and none is held.
    pub whole_binary: bool,
}

/// Whose starts are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those of a command that we run so many times.
    Ours {
        /// How many times.
        runs: u32,
    },
    /// The next so many of a binary.
    Next {
        /// How many.
        starts: u64,
    },
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing yet.
    Begin,
    /// The command is held before its execve.
    Held,
    /// There is no process for the command.
    NotHeld {
        /// Why.
        error: Error,
    },
    /// [`Effect::Attach`] succeeded.
    Attached,
    /// [`Effect::Attach`] failed, and nothing of it is left attached.
    AttachFailed {
        /// Why.
        error: Error,
    },
    /// A start came to its end, in `main.main` or before.
    StartEnded,
    /// [`Effect::GoOn`] succeeded: the result is printed with the latencies.
    GoesOn,
    /// Some time has passed since: a command that ends at once has ended.
    Settled,
    /// The command has ended.
    CommandEnded {
        /// Its status as a shell has it: 128 and more for signals.
        code: u8,
    },
    /// The command was never started: its execve failed.
    NotExecuted {
        /// Why.
        error: Error,
    },
    /// Tracing has lasted as long as was asked for.
    DurationElapsed,
    /// The user or the system wants us to end. A command of ours gets it, too, and ends by it or not; it is the last.
    Signal,
    /// A command of ours has not ended behind a second signal.
    CommandIsDeaf {
        /// The status that the signal stands for.
        code: u8,
    },
    /// What was attached yields nothing any more, or its output cannot be written.
    SourceFailed {
        /// Why.
        error: Error,
    },
    /// Nobody reads our output any more.
    ReaderGone,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make a process that waits before its execve; answer with `Held` or `NotHeld`.
    Hold,
    /// Attach; answer with `Attached` or `AttachFailed`.
    Attach,
    /// Let the held process execute the command, and follow its start.
    Release,
    /// End the held process before it executes anything.
    Abort,
    /// Take over what the kernel has sent.
    Collect,
    /// Starts that are not ended end now.
    Cut,
    /// Answer with `Settled` after a while.
    Settle,
    /// Trace the latencies of the process; answer with `GoesOn`, or with `Settled` if they cannot be had.
    GoOn,
    /// Print the result. Comes once.
    Print {
        /// What ended the tracing.
        ended_by: EndedBy,
        /// Whether all that was asked for was seen.
        whole: bool,
    },
    /// Remove all that is attached.
    Detach,
    /// All is done: end with this status.
    Quit {
        /// It.
        code: u8,
    },
    /// All is done: it failed.
    Fail {
        /// Why.
        error: Error,
    },
}

/// The tracing of starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    policy: Policy,
    state: State,
    /// Something is attached.
    attached: bool,
    /// Commands that were let go.
    runs: u32,
    /// Starts that came to their end.
    ended: u64,
    /// The first status of a command that is not 0.
    code: u8,
    /// A signal has come: no command is run any more.
    interrupted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was done.
    New,
    /// A process is being made that waits.
    Holding,
    /// Attaching.
    Attaching,
    /// Attached; a command of ours runs, or anybody's may.
    Tracing,
    /// Nothing is traced any more; a command of ours still runs.
    Waiting,
    /// All is done.
    Done,
}

impl Session {
    /// One that waits for `Begin`.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::New,
            attached: false,
            runs: 0,
            ended: 0,
            code: 0,
            interrupted: false,
        }
    }

    /// Whether all is done.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What is to be done about `input`, in this order.
    pub fn handle(&mut self, input: Input) -> Vec<Effect> {
        self.interrupted |= input == Input::Signal;
        match (self.state, input) {
            (State::New, Input::Begin) => match self.policy.whose {
                Whose::Ours { .. } => self.hold(),
                Whose::Next { .. } => self.attach(),
            },
            (State::Holding, Input::Held) if self.interrupted => {
                let whole = self.runs > 0 && self.ended >= u64::from(self.runs);
                let mut effects = vec![Effect::Abort];
                effects.extend(self.last_words(EndedBy::Signal, whole));
                self.quit(effects)
            }
            // The gate is closed for every command; each other is probed by itself.
            (State::Holding, Input::Held) if self.attached && self.policy.tree => self.release(),
            (State::Holding, Input::Held) => self.attach(),
            (State::Holding, Input::NotHeld { error }) => self.fail(error),
            (State::Attaching, Input::Attached) => {
                self.attached = true;
                match self.policy.whose {
                    Whose::Ours { .. } => self.release(),
                    Whose::Next { .. } => {
                        self.state = State::Tracing;
                        vec![]
                    }
                }
            }
            (State::Attaching, Input::AttachFailed { .. }) if self.attached => {
                // What was seen of the commands before is not lost.
                self.note(Failure::NotStarted as u8);
                let mut effects = vec![Effect::Abort];
                effects.extend(self.last_words(EndedBy::SourceFailed, false));
                self.quit(effects)
            }
            (State::Attaching, Input::AttachFailed { error }) => {
                let mut effects = match self.policy.whose {
                    Whose::Ours { .. } => vec![Effect::Abort],
                    Whose::Next { .. } => vec![],
                };
                effects.extend(self.fail(error));
                effects
            }
            (State::Tracing, input) => self.when_tracing(input),
            (State::Waiting, Input::CommandEnded { code }) => {
                self.note(code);
                self.quit(vec![])
            }
            (State::Waiting, Input::CommandIsDeaf { code }) => {
                self.code = code;
                self.quit(vec![])
            }
            (_, _) => vec![],
        }
    }

    fn when_tracing(&mut self, input: Input) -> Vec<Effect> {
        let ours = matches!(self.policy.whose, Whose::Ours { .. });
        match input {
            Input::StartEnded => {
                self.ended += 1;
                match self.policy.whose {
                    // Nothing of what comes is looked at, and the probes cost. A command that runs on is shown
                    // how it started; one that ends at once is let end first.
                    Whose::Ours { .. } if self.policy.tree => vec![],
                    Whose::Ours { runs: 1 } => {
                        self.attached = false;
                        let then = if self.policy.goes_on {
                            Effect::GoOn
                        } else {
                            Effect::Settle
                        };
                        vec![Effect::Detach, then]
                    }
                    Whose::Next { starts } if self.ended >= starts => self.finish(EndedBy::Starts, true),
                    _ => vec![],
                }
            }
            Input::GoesOn => {
                self.state = State::Waiting;
                vec![]
            }
            Input::Settled => self.finish(EndedBy::Starts, true),
            Input::CommandEnded { code } => {
                self.note(code);
                let all = matches!(self.policy.whose, Whose::Ours { runs } if self.runs >= runs);
                if all || self.interrupted {
                    self.state = State::Waiting;
                    let whole = self.policy.tree || self.ended >= u64::from(self.runs);
                    let ended_by = if all { EndedBy::TargetExit } else { EndedBy::Signal };
                    let effects = self.last_words(ended_by, whole);
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
            Input::DurationElapsed => self.finish(EndedBy::Duration, ours),
            Input::Signal if !ours => {
                let whole = self.ended > 0;
                self.finish(EndedBy::Signal, whole)
            }
            Input::CommandIsDeaf { code } => {
                let whole = self.policy.tree || self.ended >= u64::from(self.runs);
                let effects = self.last_words(EndedBy::Signal, whole);
                self.code = code;
                self.quit(effects)
            }
            Input::ReaderGone => self.finish(EndedBy::ReaderGone, true),
            Input::SourceFailed { error } if !ours => {
                let mut effects = vec![Effect::Detach];
                effects.extend(self.fail(error));
                effects
            }
            Input::SourceFailed { .. } => self.finish(EndedBy::SourceFailed, false),
            _ => vec![],
        }
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

    fn note(&mut self, code: u8) {
        if self.code == 0 {
            self.code = code;
        }
    }

    /// Ends the tracing. A command of ours runs on, and its status is waited for.
    fn finish(&mut self, ended_by: EndedBy, whole: bool) -> Vec<Effect> {
        let effects = self.last_words(ended_by, whole);
        match self.policy.whose {
            Whose::Ours { .. } => {
                self.state = State::Waiting;
                effects
            }
            Whose::Next { .. } => {
                if !whole {
                    self.code = Failure::Incomplete as u8;
                }
                self.quit(effects)
            }
        }
    }

    fn last_words(&mut self, ended_by: EndedBy, whole: bool) -> Vec<Effect> {
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
