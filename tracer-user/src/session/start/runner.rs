//! Carries out what a [`Session`] wants, and tells it what came of it.

use std::{collections::VecDeque, process::ExitCode};

use rustix::process::Signal;

use super::{
    Effect, Happening, Policy, Session,
    behind::Behind,
    child::{Held, Invocation},
    clocks::{Clocks, Woken},
    programs::{ONLY, Programs},
    recording::{Form, Recording},
    surroundings::Surroundings,
};
use crate::{
    error::{Error, Failure, Result},
    output::sink::{Flow, Sink},
    session::{EndedBy, options::OutputOptions, runner::now_ns},
    sources::starts::{StartSource, gate::Question},
};

/// The clocks, the command, what is attached, and what was seen.
pub struct Runner {
    pub(super) programs: Programs,
    pub(super) clocks: Clocks,
    pub(super) policy: Policy,
    pub(super) source: Option<StartSource>,
    pub(super) recording: Recording,
    pub(super) invocation: Option<Invocation>,
    pub(super) held: Option<Held>,
    pub(super) around: Surroundings,
    /// What comes behind `main.main`.
    pub behind: Behind,
    outcome: Result<u8>,
}

impl Runner {
    /// One that has done nothing yet.
    pub fn new(
        mut programs: Programs,
        clocks: Clocks,
        policy: Policy,
        output: &OutputOptions,
        sink: Sink,
        several: bool,
        invocation: Option<Invocation>,
    ) -> Self {
        let form = Form {
            format: output.format,
            sink,
            chatter: output.chatter,
            // Of a tree there may be thousands.
            several: several && !policy.tree,
            by_interval: output.interval.is_some() && !policy.goes_on,
        };
        let mut recording = Recording::new(form, programs.tree().is_some());
        if let Programs::One(program) = &programs
            && program.plan.dynamic
        {
            recording.loads(ONLY);
        }
        Self {
            programs,
            clocks,
            policy,
            source: None,
            recording,
            invocation,
            held: None,
            around: Surroundings::default(),
            behind: Behind::default(),
            outcome: Ok(0),
        }
    }

    /// Does it all.
    ///
    /// # Errors
    /// Whatever ended it.
    pub async fn run(mut self) -> Result<ExitCode> {
        let mut session = Session::new(self.policy);
        let mut happenings = VecDeque::from([Happening::Begin]);
        while !session.is_done() {
            let happening = match happenings.pop_front() {
                Some(happening) => happening,
                None => {
                    tokio::select! {
                        woken = self.clocks.next() => happenings.extend(self.woken(woken)),
                        result = self.behind.ended() => self.latencies_ended(result),
                        question = asked(&mut self.programs) => happenings.extend(self.asked(question)),
                    }
                    continue;
                }
            };
            for effect in session.handle(happening) {
                happenings.extend(self.carry_out(effect));
            }
        }
        if self.behind.is_running() {
            // The command has ended, which ends that, too.
            let result = self.behind.ended().await;
            self.latencies_ended(result);
        }
        let code = self.outcome?;
        self.recording.finish()?;
        Ok(ExitCode::from(code))
    }

    fn woken(&mut self, woken: Woken) -> Vec<Happening> {
        match woken {
            Woken::Stop { number, sent } => {
                self.pass_on(number, sent);
                self.stop();
                // Who has let us go on knows nothing of the command, unless it is the terminal's shell.
                self.pass_on(libc::SIGCONT, sent);
                vec![]
            }
            Woken::Signal { number, sent } => {
                self.pass_on(number, sent);
                vec![Happening::Signal]
            }
            Woken::CommandEnded => {
                // What it has sent comes before its end.
                let mut happenings = self.collect();
                happenings.push(self.command_ended());
                happenings
            }
            Woken::Tick => self.collect(),
            Woken::Interval => {
                let written = self.recording.print_interval(now_ns());
                written_as(written).into_iter().collect()
            }
            Woken::Settled => vec![Happening::Settled],
            Woken::Duration => vec![Happening::DurationElapsed],
        }
    }

    /// Signals of the terminal reach the command as they reach us; others are for us alone.
    fn pass_on(&self, number: i32, sent: bool) {
        let Some(held) = self.held.as_ref().filter(|_| sent) else {
            return;
        };
        if let Some(signal) = Signal::from_named_raw(number)
            && let Err(e) = rustix::process::pidfd_send_signal(&held.pidfd, signal)
        {
            log::warn!(
                "signal {number} could not be passed on to process {}: {e}",
                held.pid
            );
        }
    }

    fn command_ended(&mut self) -> Happening {
        if let (Some(source), Some(held)) = (&mut self.source, &self.held)
            && let Err(e) = source.let_go(held.pid)
        {
            log::warn!("{e}");
        }
        self.let_tree_go();
        match self.held.take().map(|mut held| held.status()) {
            Some(Ok(code)) => Happening::CommandEnded { code },
            Some(Err(error)) => Happening::NotExecuted { error },
            None => Happening::CommandEnded { code: 0 },
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Vec<Happening> {
        match effect {
            Effect::Hold => vec![match self.hold() {
                Ok(()) => Happening::Held,
                Err(error) => Happening::NotHeld { error },
            }],
            Effect::Attach => vec![match self.attach() {
                Ok(()) => Happening::Attached,
                Err(error) => Happening::AttachFailed { error },
            }],
            Effect::Release => self.release(),
            Effect::Abort => {
                if let Some(held) = &mut self.held {
                    held.abort();
                }
                vec![]
            }
            Effect::Collect => {
                // A start that ends here is in the result that comes.
                let answers = self.collect();
                answers
                    .into_iter()
                    .filter(|happening| *happening != Happening::StartEnded)
                    .collect()
            }
            Effect::Cut => {
                let unfinished = self.unfinished();
                let observed = self.recording.observe(&unfinished).map(|(_, flow)| flow);
                let cut = self.recording.cut(now_ns());
                [observed, cut].into_iter().filter_map(written_as).collect()
            }
            Effect::GoOn => vec![self.go_on()],
            Effect::Settle => {
                self.clocks.settle();
                vec![]
            }
            Effect::Print { ended_by, whole } => {
                self.look_around();
                self.count_passed();
                self.print(ended_by, whole);
                vec![]
            }
            Effect::Detach => {
                if let Some(mut source) = self.source.take() {
                    source.detach();
                }
                if let Some(tree) = self.programs.tree() {
                    tree.deafen();
                }
                vec![]
            }
            Effect::Quit { code } => {
                self.outcome = match std::mem::replace(&mut self.outcome, Ok(0)) {
                    Ok(_) => Ok(code),
                    // The command's own status is what its caller waits for.
                    Err(e) if self.invocation.is_some() => {
                        log::error!("{e}");
                        Ok(code)
                    }
                    Err(e) => Err(e),
                };
                vec![]
            }
            Effect::Fail { error } => {
                let failure = match error.failure {
                    Failure::NotFound | Failure::NotExecutable => error.failure,
                    _ if self.invocation.is_some() => Failure::NotStarted,
                    failure => failure,
                };
                self.outcome = Err(Error { failure, ..error });
                vec![]
            }
        }
    }

    /// Goes on with the latencies of the process that has come to `main.main`.
    fn go_on(&mut self) -> Happening {
        self.look_around();
        let pid = self.held.as_ref().map_or(0, |held| held.pid);
        match self.behind.analyse(pid) {
            Ok(Some((options, target))) => {
                let began = self.recording.began(&self.around);
                let sink = self.recording.take_sink();
                self.behind.go_on(options, target, sink, began);
                Happening::GoesOn
            }
            Ok(None) => Happening::Settled,
            Err(e) => {
                self.recording.note(format!("latencies were not traced: {e}"));
                Happening::Settled
            }
        }
    }

    /// One that failed has printed nothing; how it started is told all the same.
    fn latencies_ended(&mut self, result: Result<()>) {
        match result {
            Ok(()) => {}
            Err(e) if e.failure == Failure::Incomplete => {}
            Err(e) => {
                self.recording.note(format!("latencies were not traced: {e}"));
                self.print(EndedBy::TargetExit, true);
            }
        }
    }

    fn print(&mut self, ended_by: EndedBy, whole: bool) {
        let subject = self.programs.subject(self.recording.own_binary());
        let printed = self
            .recording
            .print(subject, &self.around, ended_by, whole, now_ns());
        if let Err(e) = printed {
            self.outcome = Err(e);
        }
    }

    fn look_around(&mut self) {
        if self.invocation.is_some() {
            self.around.settle();
        }
    }
}

/// What a write means for the session.
pub(super) fn written_as(written: Result<Flow>) -> Option<Happening> {
    match written {
        Ok(Flow::Written) => None,
        Ok(Flow::ReaderGone) => Some(Happening::ReaderGone),
        Err(error) => Some(Happening::SourceFailed { error }),
    }
}

/// What the gate asks next.
async fn asked(programs: &mut Programs) -> Question {
    match programs.tree() {
        Some(tree) => tree.asked().await,
        None => std::future::pending().await,
    }
}
