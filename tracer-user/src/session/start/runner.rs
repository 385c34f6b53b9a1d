//! Carries out what a [`Session`] wants, and tells it what came of it.

use std::{collections::VecDeque, process::ExitCode};

use rustix::process::Signal;

use super::{
    Effect, Happening, Policy, Session,
    behind::Behind,
    child::{Held, Invocation},
    clocks::{Clocks, Woken},
    programs::Programs,
    starting::{Form, Starting},
    surroundings::Surroundings,
};
use crate::{
    clock::now_ns,
    error::{Error, Failure, Result},
    escape::{Untrusted, escape, lines},
    output::{
        sink::{Flow, Sink},
        text::layout,
    },
    session::{
        EndedBy,
        attach::runner::Captured,
        delivery,
        options::{Chatter, OutputOptions},
        signals,
        step::{StartBegin, StartStep, Step},
    },
    sources::starts::{StartSource, gate::Question},
    stream::{Observation, recording::Recorder},
    writing::stderr,
};

/// The clocks, the command, what is attached, and what was seen.
pub struct Runner {
    pub(super) programs: Programs,
    pub(super) clocks: Clocks,
    pub(super) policy: Policy,
    pub(super) source: Option<StartSource>,
    pub(super) starting: Starting,
    recorder: Recorder,
    chatter: Chatter,
    pub(super) invocation: Option<Invocation>,
    pub(super) held: Option<Held>,
    pub(super) around: Surroundings,
    /// What comes behind `main.main`.
    pub behind: Behind,
    /// The command was not waited for.
    is_deaf: bool,
    outcome: Result<u8>,
}

impl Runner {
    /// One that has done nothing yet.
    pub fn new(
        mut programs: Programs,
        clocks: Clocks,
        policy: Policy,
        output: &OutputOptions,
        (sink, recorder): (Sink, Recorder),
        several: bool,
        invocation: Option<Invocation>,
    ) -> Self {
        let form = Form {
            format: output.format,
            sink,
            by_interval: output.interval.is_some() && !policy.goes_on,
        };
        let (dynamic, missing) = match &programs {
            Programs::One(program) => (
                program.plan.dynamic,
                program.untold().map(Untrusted::from).collect(),
            ),
            Programs::Tree(_) => (false, vec![]),
        };
        let begin = StartBegin {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            target: programs.subject(),
            tree: programs.tree().is_some(),
            dynamic,
            // Of a tree there may be thousands.
            several: several && !policy.tree,
            goes_on: policy.goes_on,
            missing,
            interval_ns: output.interval.map(|d| d.as_nanos() as u64),
        };
        recorder.step(|| Step::Starts(StartStep::Begin(begin.clone())).to_json());
        Self {
            programs,
            clocks,
            policy,
            source: None,
            starting: Starting::new(form, begin),
            recorder,
            chatter: output.chatter,
            invocation,
            held: None,
            around: Surroundings::default(),
            behind: Behind::default(),
            is_deaf: false,
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
                        captured = self.behind.ended() => self.latencies_ended(captured),
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
            // The command has ended, which ends that, too, unless it was not waited for.
            if self.is_deaf {
                self.behind.interrupt();
            }
            let captured = self.behind.ended().await;
            self.latencies_ended(captured);
        }
        // Whatever the reader of the result does, what was recorded is whole.
        self.recorder.close();
        let incomplete = self.starting.complete() == Some(false);
        let delivered = match &self.outcome {
            Ok(_) => delivery::deliver(self.starting.into_sink(), &mut self.clocks).await,
            // A file stays as it was.
            Err(_) => Ok(()),
        };
        let written = delivery::record(&self.recorder, delivered, &mut self.clocks).await;
        let code = match (self.outcome?, written) {
            // The command's own status is what its caller waits for.
            (code, Err(e)) if self.invocation.is_some() => {
                if !e.message.is_empty() {
                    log::error!("{e}");
                }
                code
            }
            (_, Err(e)) => return Err(e),
            (0, Ok(())) if incomplete && self.invocation.is_none() => Failure::Incomplete as u8,
            (code, Ok(())) => code,
        };
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
                if !signals::ENDING.contains(&number) {
                    return vec![];
                }
                self.clocks.passed_on(number, sent);
                vec![Happening::Signal]
            }
            Woken::Interrupted => vec![Happening::Signal],
            Woken::Deaf { number } => {
                let pid = self.held.as_ref().map_or(0, |held| held.pid);
                log::warn!("process {pid} does not end behind a second signal, and is left alone");
                self.is_deaf = true;
                let code = u8::try_from(128 + number).unwrap_or(u8::MAX);
                vec![Happening::CommandIsDeaf { code }]
            }
            Woken::CommandEnded => {
                // What it has sent comes before its end.
                let mut happenings = self.collect();
                happenings.push(self.command_ended());
                happenings
            }
            Woken::Tick => {
                let mut happenings = self.collect();
                // Who reads may also go away between two lines.
                happenings.extend(written_as(self.starting.flow()));
                happenings
            }
            Woken::Interval => {
                let at_ns = now_ns();
                self.step(StartStep::Interval { at_ns }).into_iter().collect()
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
                let observed = self.observe(&unfinished).map(|(_, flow)| flow);
                let cut = self.step(StartStep::Cut { at_ns: now_ns() });
                written_as(observed).into_iter().chain(cut).collect()
            }
            Effect::GoOn => vec![self.go_on()],
            Effect::Settle => {
                self.clocks.settle();
                vec![]
            }
            Effect::Print { ended_by, whole } => {
                self.look_around();
                self.count_passed();
                self.count_missed();
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
        let Some(pid) = self.held.as_ref().map(|held| held.pid) else {
            self.note(
                "latencies were not traced: the command ended right after it had come to main.main"
                    .to_owned(),
            );
            return Happening::Settled;
        };
        let program = match &self.programs {
            Programs::One(program) => Some(program.target.file.id()),
            Programs::Tree(_) => None,
        };
        match self.behind.analyse(pid, program) {
            Ok(Some((options, target))) => {
                self.tell(StartStep::GoOn);
                let began = self.starting.began();
                let sink = self.starting.take_sink();
                self.behind
                    .go_on(options, target, sink, began, self.recorder.clone());
                Happening::GoesOn
            }
            Ok(None) => Happening::Settled,
            Err(e) => {
                self.note(format!("latencies were not traced: {e}"));
                Happening::Settled
            }
        }
    }

    /// One that failed has printed nothing; how it started is told all the same.
    fn latencies_ended(&mut self, captured: Captured) {
        drop(self.starting.give_sink(captured.sink));
        match captured.outcome {
            Ok(()) => {}
            Err(e) if e.failure == Failure::Incomplete => {}
            Err(e) => {
                self.note(format!("latencies were not traced: {e}"));
                self.print(EndedBy::TargetExit, true);
            }
        }
    }

    fn print(&mut self, ended_by: EndedBy, whole: bool) {
        let notes = self.programs.tree().map(|tree| tree.notes());
        notes
            .unwrap_or_default()
            .into_iter()
            .for_each(|note| self.note(note));
        let finish = StartStep::Finish {
            at_ns: now_ns(),
            ended_by,
            whole,
        };
        if let Some(Happening::SourceFailed { error }) = self.step(finish) {
            self.outcome = Err(error);
        }
    }

    fn look_around(&mut self) {
        if self.invocation.is_some() {
            self.around.settle();
            self.tell_around();
        }
    }

    /// Goes through the same door as a recording's.
    pub(super) fn step(&mut self, step: StartStep) -> Option<Happening> {
        let recorded = Step::Starts(step.clone());
        self.recorder.step(|| recorded.to_json());
        written_as(self.starting.step(step))
    }

    /// A step that writes no output.
    pub(super) fn tell(&mut self, step: StartStep) {
        let _ = self.step(step);
    }

    pub(super) fn note(&mut self, note: String) {
        self.tell(StartStep::Note { note: note.into() });
    }

    pub(super) fn tell_around(&mut self) {
        self.tell(StartStep::Around(self.around.known.clone()));
    }

    /// The window begins, unless it has.
    pub(super) fn open_window(&mut self) {
        self.recorder.begin();
        self.tell(StartStep::Open {
            at_ns: now_ns(),
            started_at: jiff::Timestamp::now(),
        });
        self.tell_around();
        self.clocks.open_window();
    }

    /// As [`Starting::observe`], of what was seen live.
    pub(super) fn observe(&mut self, seen: &[Observation]) -> Result<(Vec<(u32, u32)>, Flow)> {
        self.recorder.observe(seen, |_| Vec::new());
        let observed = self.starting.observe(seen);
        if let Some(why) = self.recorder.failure() {
            log::error!("{why}");
            self.note(why);
        }
        observed
    }

    /// Says on stderr that all is attached.
    pub(super) fn say_attached(&self, what: &str) {
        if self.chatter == Chatter::Normal {
            stderr::write(
                format!(
                    "{}\n",
                    lines(&layout::wrap(&escape(&format!("attached: {what}")), 0))
                )
                .as_bytes(),
            );
            // Before what the command itself has to say.
            stderr::settle();
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
