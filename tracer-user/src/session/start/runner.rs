//! Carries out what a [`Session`] wants, and tells it what came of it.

use std::{collections::VecDeque, process::ExitCode, time::Duration};

use rustix::process::Signal;

use super::{
    Effect, Happening, Policy, Session, Whose,
    behind::Behind,
    child::{Held, Invocation},
    clocks::{Clocks, Woken},
    identity::Identity,
    program::{self, Program},
    starting::{Form, Starting},
    surroundings::Surroundings,
};
use crate::{
    error::{Error, Failure, Result},
    output::{
        layout,
        sink::{Flow, Sink},
    },
    session::{
        EndedBy,
        options::{AttachOptions, Chatter, NextOptions, OutputOptions, RunOptions, TargetSelector},
        runner::{self, now_ns},
        step::{StartBegin, StartStep, Step},
    },
    sources::starts::{self, Request, StartSource},
    stream::{Observation, recording::Recorder},
};

/// System calls of at least this length are told.
const SLOW_CALL: Duration = Duration::from_millis(1);

/// Runs a command, and traces how it starts. The status is the command's own.
///
/// # Errors
/// [`Failure::NotStarted`], [`Failure::NotExecutable`] and [`Failure::NotFound`] where the command was not
/// started.
pub async fn run(options: RunOptions) -> Result<ExitCode> {
    let before = |e: Error| Error {
        failure: Failure::NotStarted,
        ..e
    };
    let identity = Identity::chosen(options.user.as_deref())?;
    let (name, arguments) = options
        .command
        .split_first()
        .ok_or_else(|| Error::usage("name the command to run behind `--`"))?;
    let path = program::find(name)?;
    let several = options.repeat > 1;
    let sink = match &options.output.path {
        Some(path) => Sink::open(Some(path)).map_err(before)?,
        None => Sink::stderr(),
    };
    let recorder = Recorder::open(options.output.record.as_deref()).map_err(before)?;
    let program = Program::open(&path).map_err(before)?;
    // With latencies, duration and intervals are theirs.
    let ours = options.latencies.is_none();
    let (clocks, signal_mask) = Clocks::new(
        options.duration.filter(|_| ours),
        options.output.interval.filter(|_| ours),
    )
    .map_err(before)?;
    let invocation = Invocation {
        program: path,
        name: name.clone(),
        arguments: arguments.to_vec(),
        identity,
        signal_mask,
    };
    let policy = Policy {
        whose: Whose::Ours { runs: options.repeat },
        goes_on: options.latencies.is_some(),
    };
    let mut runner = Runner::new(
        program,
        clocks,
        policy,
        &options.output,
        (sink, recorder),
        several,
        Some(invocation),
    );
    runner.behind = Behind::new(options.latencies.map(|latencies| AttachOptions {
        target: TargetSelector::Pid(0),
        duration: options.duration,
        mode: latencies.mode,
        format: options.output.format,
        output: options.output.path,
        interval: options.output.interval,
        slower: latencies.slower,
        by: latencies.by,
        record: None,
        force: false,
        chatter: options.output.chatter,
    }));
    runner.run().await
}

/// Waits for the next starts of a binary, whoever makes them.
///
/// # Errors
/// Whatever ended it.
pub async fn next(options: NextOptions) -> Result<ExitCode> {
    let sink = Sink::open(options.output.path.as_deref())?;
    let recorder = Recorder::open(options.output.record.as_deref())?;
    let program = Program::open(&options.exe)?;
    let (clocks, _) = Clocks::new(options.duration, options.output.interval)?;
    let policy = Policy {
        whose: Whose::Next {
            starts: options.starts,
        },
        goes_on: false,
    };
    let several = options.starts > 1;
    let outputs = (sink, recorder);
    Runner::new(program, clocks, policy, &options.output, outputs, several, None)
        .run()
        .await
}

struct Runner {
    program: Program,
    clocks: Clocks,
    policy: Policy,
    source: Option<StartSource>,
    starting: Starting,
    recorder: Recorder,
    chatter: Chatter,
    invocation: Option<Invocation>,
    held: Option<Held>,
    around: Surroundings,
    behind: Behind,
    outcome: Result<u8>,
}

impl Runner {
    fn new(
        program: Program,
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
        let missing = program.plan.missing.iter();
        let begin = StartBegin {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            target: program.info(),
            dynamic: program.plan.dynamic,
            several,
            goes_on: policy.goes_on,
            missing: missing
                .map(|attempt| format!("not told apart: {}: {}", attempt.what, attempt.outcome))
                .collect(),
            interval_ns: output.interval.map(|d| d.as_nanos() as u64),
        };
        recorder.step(|| Step::Starts(StartStep::Begin(begin.clone())).to_json());
        Self {
            starting: Starting::new(form, begin),
            recorder,
            chatter: output.chatter,
            program,
            clocks,
            policy,
            source: None,
            invocation,
            held: None,
            around: Surroundings::default(),
            behind: Behind::default(),
            outcome: Ok(0),
        }
    }

    async fn run(mut self) -> Result<ExitCode> {
        let mut session = Session::new(self.policy);
        let mut happenings = VecDeque::from([Happening::Begin]);
        while !session.is_done() {
            let happening = match happenings.pop_front() {
                Some(happening) => happening,
                None => {
                    tokio::select! {
                        woken = self.clocks.next() => happenings.extend(self.woken(woken)),
                        result = self.behind.ended() => self.latencies_ended(result),
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
        let commands = self.outcome.as_ref().ok().filter(|_| self.invocation.is_some());
        let commands = commands.copied();
        let recorded = runner::finish(&self.recorder, self.outcome);
        // The command's own status is what its caller waits for.
        let code = commands.map_or(recorded, Ok)?;
        self.starting.finish()?;
        Ok(ExitCode::from(code))
    }

    fn woken(&mut self, woken: Woken) -> Vec<Happening> {
        match woken {
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
                self.print(ended_by, whole);
                vec![]
            }
            Effect::Detach => {
                if let Some(mut source) = self.source.take() {
                    source.detach();
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
                self.step(StartStep::GoOn);
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
    fn latencies_ended(&mut self, result: Result<()>) {
        match result {
            Ok(()) => {}
            Err(e) if e.failure == Failure::Incomplete => {}
            Err(e) => {
                self.note(format!("latencies were not traced: {e}"));
                self.print(EndedBy::TargetExit, true);
            }
        }
    }

    fn print(&mut self, ended_by: EndedBy, whole: bool) {
        let finish = StartStep::Finish {
            at_ns: now_ns(),
            ended_by,
            whole,
        };
        if let Some(Happening::SourceFailed { error }) = self.step(finish) {
            self.outcome = Err(error);
        }
    }

    fn note(&mut self, note: String) {
        // A note writes nothing.
        let _ = self.step(StartStep::Note { note });
    }

    /// Goes through the same door as a recording's.
    fn step(&mut self, step: StartStep) -> Option<Happening> {
        let recorded = Step::Starts(step.clone());
        self.recorder.step(|| recorded.to_json());
        written_as(self.starting.step(step))
    }

    fn observe(&mut self, seen: &[Observation]) -> Result<(Vec<u32>, Flow)> {
        self.recorder.observe(seen, |_| Vec::new());
        let observed = self.starting.observe(seen);
        if let Some(why) = self.recorder.failure() {
            log::error!("{why}");
            self.note(why);
        }
        observed
    }

    fn say_attached(&self, sites: usize) {
        if self.chatter == Chatter::Normal {
            let said = format!(
                "attached: {} ({}), starts, {sites} probed instructions",
                self.program.target.file.name(),
                self.program.target.facts.version.raw
            );
            eprint!("{}", layout::wrap(&said, 0));
        }
    }

    fn hold(&mut self) -> Result<()> {
        let invocation = self
            .invocation
            .as_ref()
            .ok_or_else(|| Error::failed("there is no command to hold"))?;
        let held = Held::spawn(invocation)?;
        held.pidfd
            .try_clone()
            .and_then(|pidfd| self.clocks.watch_command(pidfd))
            .map_err(|e| Error::failed(format!("process {} cannot be watched: {e}", held.pid)))?;
        self.around.of_held(held.pid);
        self.held = Some(held);
        Ok(())
    }

    fn attach(&mut self) -> Result<()> {
        let whose = match (self.policy.whose, &self.held) {
            (Whose::Ours { runs: 1 }, Some(held)) => starts::Whose::Held(held.pid),
            (Whose::Ours { .. }, _) => starts::Whose::HeldInTurn,
            (Whose::Next { .. }, _) => starts::Whose::Any,
        };
        let source = StartSource::attach(&Request {
            whose,
            file: self.program.target.file.file(),
            plan: &self.program.plan,
            slow_call: SLOW_CALL,
        })?;
        if let Some(why) = source.without_usage() {
            self.note(format!("time off the CPU and page faults are not known: {why}"));
        }
        for attempt in &self.program.plan.missing {
            log::info!("not probed: {}: {}", attempt.what, attempt.outcome);
        }
        let by = source.link_kind().map(|kind| kind.name().to_owned());
        let _ = self.step(StartStep::Attached { by });
        self.say_attached(source.sites());
        self.source = Some(source);
        if matches!(self.policy.whose, Whose::Next { .. }) {
            self.open_window();
        }
        Ok(())
    }

    fn open_window(&mut self) {
        self.recorder.begin();
        let open = StartStep::Open {
            at_ns: now_ns(),
            started_at: jiff::Timestamp::now(),
        };
        let _ = self.step(open);
        self.tell_around();
        self.clocks.open_window();
    }

    fn tell_around(&mut self) {
        let _ = self.step(StartStep::Around(self.around.known.clone()));
    }

    fn release(&mut self) -> Vec<Happening> {
        let (Some(held), Some(source)) = (&mut self.held, &mut self.source) else {
            return vec![];
        };
        let followed = source.hold(held.pid);
        self.open_window();
        // Whatever fails on our side, the command is to run.
        if let Some(held) = &mut self.held {
            held.release();
        }
        followed
            .err()
            .map(|error| Happening::SourceFailed { error })
            .into_iter()
            .collect()
    }

    fn collect(&mut self) -> Vec<Happening> {
        let Some(source) = &mut self.source else {
            return vec![];
        };
        let seen = match source.observe(now_ns(), &self.program) {
            Ok(seen) => seen,
            Err(error) => return vec![Happening::SourceFailed { error }],
        };
        match self.observe(&seen) {
            Ok((ended, flow)) => {
                let happenings = ended.iter().map(|pid| self.start_ended(*pid)).collect::<Vec<_>>();
                happenings.into_iter().chain(written_as(Ok(flow))).collect()
            }
            Err(error) => vec![Happening::SourceFailed { error }],
        }
    }

    fn start_ended(&mut self, pid: u32) -> Happening {
        if self.invocation.is_none() {
            self.around.of_other(pid);
            self.tell_around();
        }
        Happening::StartEnded
    }

    /// System calls that hold up starts right now.
    fn unfinished(&mut self) -> Vec<Observation> {
        let pids = self.starting.on_their_way();
        let Some(source) = &mut self.source else {
            return vec![];
        };
        let calls = pids.into_iter().map(|pid| source.unfinished(pid, now_ns()));
        calls.filter_map(|call| call.ok().flatten()).collect()
    }

    fn look_around(&mut self) {
        if self.invocation.is_some() {
            self.around.settle();
            self.tell_around();
        }
    }
}

/// What a write means for the session.
fn written_as(written: Result<Flow>) -> Option<Happening> {
    match written {
        Ok(Flow::Written) => None,
        Ok(Flow::ReaderGone) => Some(Happening::ReaderGone),
        Err(error) => Some(Happening::SourceFailed { error }),
    }
}
