//! Carries out the effects of a [`Session`] and reports their outcome to it.

use std::{collections::VecDeque, process::ExitCode, time::Instant};

use super::{
    Effect, Input, Policy, Session,
    child::{Held, Invocation},
    clocks::Clocks,
    post_start::PostStart,
    programs::Programs,
    surroundings::Surroundings,
};
use crate::{
    clock::now_ns,
    error::{Error, Failure, Result},
    escape::Untrusted,
    model::start::Starts,
    output::notice,
    session::{
        consumers::Consumers,
        options::{Chatter, OutputOptions},
    },
    sources::starts::{StartSource, gate::Question},
    stream::{
        EndedBy, Flow, Kind, NoNames, Observation, Step,
        step::{ONLY_BINARY, StartBegin, StartStep},
    },
};

/// Runs one capture of starts.
pub struct Runner {
    pub(super) programs: Programs,
    pub(super) clocks: Clocks,
    pub(super) policy: Policy,
    pub(super) source: Option<StartSource>,
    pub(super) consumers: Consumers,
    /// Starts that have not ended yet.
    pub(super) open: Starts,
    chatter: Chatter,
    pub(super) invocation: Option<Invocation>,
    pub(super) held: Option<Held>,
    pub(super) environment: Surroundings,
    /// The capture of latencies from `main.main` on.
    pub post_start: PostStart,
    /// When the last run was released.
    pub(super) released: Option<Instant>,
    /// Probe hits so far.
    pub(super) hits: u64,
    /// Whether it was noted that the start goes on in another process.
    pub(super) is_fork_noted: bool,
    /// Whether we have given up waiting for the command to end.
    pub(super) is_unresponsive: bool,
    /// Whether the result of starts is complete, once there is one.
    is_complete: Option<bool>,
    outcome: Result<u8>,
}

impl Runner {
    /// Returns a runner, and reports to the consumers what is to be captured.
    pub fn new(
        mut programs: Programs,
        clocks: Clocks,
        policy: Policy,
        output: &OutputOptions,
        consumers: Consumers,
        invocation: Option<Invocation>,
    ) -> Self {
        let (dynamic, missing, merged) = match &programs {
            Programs::One(program) => (
                program.plan.dynamic,
                program.missing_probes().map(Untrusted::from).collect(),
                program.merged_phases(),
            ),
            Programs::Tree(_) => (false, vec![], vec![]),
        };
        let begin = StartBegin {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            target: programs.subject(),
            tree: programs.tree().is_some(),
            dynamic,
            // In a tree there may be thousands of starts.
            several: policy.starts_of.are_several() && !policy.tree,
            latencies_follow: policy.with_latencies,
            missing,
            merged,
            interval_ns: output.interval.map(|d| d.as_nanos() as u64),
        };
        let mut open = Starts::default();
        if dynamic {
            open.set_dynamic(ONLY_BINARY);
        }
        // It cannot fail, since it prints nothing.
        let _ = consumers.step(&Step::Starts(StartStep::Begin(begin)), &NoNames);
        Self {
            programs,
            clocks,
            policy,
            source: None,
            consumers,
            open,
            chatter: output.chatter,
            invocation,
            held: None,
            environment: Surroundings::default(),
            post_start: PostStart::default(),
            released: None,
            hits: 0,
            is_fork_noted: false,
            is_unresponsive: false,
            is_complete: None,
            outcome: Ok(0),
        }
    }

    /// Captures starts until they are printed and the command has ended. Returns the status to end with.
    ///
    /// # Errors
    /// The error that ended the capture.
    pub async fn run(mut self) -> Result<ExitCode> {
        let mut session = Session::new(self.policy);
        let mut inputs = VecDeque::from([Input::Begin]);
        while !session.is_done() {
            let input = match inputs.pop_front() {
                Some(input) => input,
                None => {
                    tokio::select! {
                        woken = self.clocks.next() => inputs.extend(self.handle_woken(woken)),
                        captured = self.post_start.ended() => self.latencies_ended(captured),
                        question = next_question(&mut self.programs) => inputs.extend(self.answer(question)),
                    }
                    continue;
                }
            };
            for effect in session.handle(input) {
                inputs.extend(self.carry_out(effect));
            }
        }
        if self.post_start.is_running() {
            // The command's end has ended the capture of latencies, too, unless we have given up waiting for the
            // command.
            if self.is_unresponsive {
                self.post_start.interrupt();
            }
            let captured = self.post_start.ended().await;
            self.latencies_ended(captured);
        }
        let incomplete = self.is_complete == Some(false);
        let written = self.consumers.close(&mut self.clocks).await;
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

    fn carry_out(&mut self, effect: Effect) -> Vec<Input> {
        match effect {
            Effect::Hold => vec![match self.hold() {
                Ok(()) => Input::Held,
                Err(error) => Input::NotHeld { error },
            }],
            Effect::Attach => vec![match self.attach() {
                Ok(()) => Input::Attached,
                Err(error) => Input::AttachFailed { error },
            }],
            Effect::Release => self.release(),
            Effect::Abort => {
                if let Some(held) = &mut self.held {
                    held.abort();
                }
                vec![]
            }
            Effect::Collect => {
                // A start that ends here is part of the result already.
                let answers = self.collect();
                answers
                    .into_iter()
                    .filter(|input| *input != Input::StartEnded)
                    .collect()
            }
            Effect::Cut => {
                let unfinished = self.unfinished();
                let (_, written) = self.observe(&unfinished);
                let at_ns = now_ns();
                for pid in self.open.open() {
                    self.open.cut(pid, at_ns);
                }
                let cut = self.step(StartStep::Cut { at_ns });
                input_of(written).into_iter().chain(cut).collect()
            }
            Effect::TraceLatencies => vec![self.trace_latencies()],
            Effect::Settle => {
                self.clocks.settle();
                vec![]
            }
            Effect::Print { ended_by, whole } => {
                self.read_environment();
                self.record_gate();
                self.record_missed();
                self.print(ended_by, whole);
                vec![]
            }
            Effect::Detach => {
                if let Some(mut source) = self.source.take() {
                    source.detach();
                }
                if let Some(tree) = self.programs.tree() {
                    tree.stop_listening();
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

    /// Begins to trace the latencies of the process whose start has ended, or was given up.
    fn trace_latencies(&mut self) -> Input {
        self.read_environment();
        let Some(pid) = self.held.as_ref().map(|held| held.pid) else {
            self.note("latencies were not traced: the command ended right after its start".to_owned());
            return Input::Settled;
        };
        let program = match &self.programs {
            Programs::One(program) => Some(program.target.file.id()),
            Programs::Tree(_) => None,
        };
        match self.post_start.analyse(pid, program) {
            Ok(Some((options, target))) => {
                self.record(StartStep::Continue);
                self.post_start.begin(options, target, self.consumers.clone());
                Input::LatenciesBegun
            }
            Ok(None) => Input::Settled,
            Err(e) => {
                self.note(format!("latencies were not traced: {e}"));
                Input::Settled
            }
        }
    }

    /// Handles the end of the capture of latencies. If that failed it has printed nothing, and the start is printed
    /// here.
    fn latencies_ended(&mut self, captured: Result<()>) {
        match captured {
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
        if let Some(Input::SourceFailed { error }) = self.step(finish) {
            self.outcome = Err(error);
            return;
        }
        match self.consumers.conclude(&NoNames) {
            Ok(()) => self.is_complete = Some(true),
            Err(e) if e.failure == Failure::Incomplete => self.is_complete = Some(false),
            Err(e) => self.outcome = Err(e),
        }
    }

    /// Reads what has changed in the environment since the command was held, and records it.
    fn read_environment(&mut self) {
        if self.invocation.is_some() {
            self.environment.read_throttled();
            self.record_environment();
        }
    }

    /// Hands a step to the consumers.
    pub(super) fn step(&mut self, step: StartStep) -> Option<Input> {
        input_of(self.consumers.step(&Step::Starts(step), &NoNames))
    }

    /// Hands over a step that prints nothing, so that it cannot fail.
    pub(super) fn record(&mut self, step: StartStep) {
        let _ = self.step(step);
    }

    /// Records a remark for the reader of the figures.
    pub(super) fn note(&mut self, note: String) {
        self.record(StartStep::Note { note: note.into() });
    }

    pub(super) fn record_environment(&mut self) {
        self.record(StartStep::Environment(self.environment.known.clone()));
    }

    /// Opens the window, unless it is open.
    pub(super) fn open_window(&mut self) {
        self.record(StartStep::Open {
            at_ns: now_ns(),
            started_at: jiff::Timestamp::now(),
        });
        self.record_environment();
        self.clocks.open_window();
    }

    /// Hands over what was observed. Returns (process, binary) of the starts that have ended by it.
    pub(super) fn observe(&mut self, seen: &[Observation]) -> (Vec<(u32, u32)>, Result<Flow>) {
        let hits = seen.iter().map(|observation| match observation.kind {
            Kind::Hits(hits) => hits,
            _ => 0,
        });
        self.hits = hits.fold(self.hits, u64::saturating_add);
        let ended = seen
            .iter()
            .filter_map(|observation| self.open.observe(observation));
        let ended = ended.map(|start| (start.pid, start.binary)).collect();
        let written = self.consumers.observe(seen, &NoNames);
        for why in self.consumers.take_troubles() {
            self.note(why);
        }
        (ended, written)
    }

    /// Prints what was attached.
    pub(super) fn report_attached(&self, what: &str) {
        if self.chatter == Chatter::Normal {
            notice::paragraph(&format!("attached: {what}"));
        }
    }
}

/// Returns the input that the outcome of a write is to the session, if any.
pub(super) fn input_of(written: Result<Flow>) -> Option<Input> {
    match written {
        Ok(Flow::Written) => None,
        Ok(Flow::ReaderGone) => Some(Input::ReaderGone),
        Err(error) => Some(Input::SourceFailed { error }),
    }
}

/// Waits for the next question of the gate; for ever without one.
async fn next_question(programs: &mut Programs) -> Question {
    match programs.tree() {
        Some(tree) => tree.next_question().await,
        None => std::future::pending().await,
    }
}
