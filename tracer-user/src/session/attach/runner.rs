//! Carries out the effects of a [`Session`] and reports their outcome to it. It waits only for its clocks (`clocks.rs`).

use std::collections::VecDeque;

use super::{
    Effect, Input, Policy, Session,
    attachment::Attachment,
    clocks::CaptureClocks,
    cpu::CpuWatch,
    halts::{self, Halts},
    limits::LimitsRead,
    live::Live,
    prepare::Prepared,
    sampling,
};
use crate::{
    clock::now_ns,
    error::Result,
    escape::Untrusted,
    output::{notice, sink::Sink},
    plan::Mode,
    process::{Fate, Halt, HaltWatch},
    session::{
        consumers::{Consumers, Destinations},
        delivery::first_error,
        neighbours::Presence,
        options::{AttachOptions, Chatter},
        signals::Signals,
    },
    stream::{
        Flow, Observation, SchedConfig, Step,
        step::{AttachInfo, LatencyBegin, LatencyStep, MeasuredBy, Opening},
    },
};

/// How often other captures are looked for, at most: `full` collects more often.
const NEIGHBOURS_EVERY_NS: u64 = 90_000_000;

/// Traces one process from its plan to the printed result.
///
/// # Errors
/// The error that ended the capture; [`Failure::Incomplete`](crate::error::Failure::Incomplete) without a message where
/// the result was printed but is not complete.
pub async fn run(options: AttachOptions) -> Result<()> {
    // Before anything is attached: a file that cannot be written fails here.
    let consumers = Consumers::open(Destinations {
        render: options.render(),
        sink: Sink::open(options.output.as_deref())?,
        record: options.record.as_deref(),
        stacks: options.full.stacks.is_some(),
    })?;
    // Installed after the analysis: until then a signal may end the process.
    let target = Prepared::new(&options)?;
    let mut signals = Signals::install()?;
    let captured = capture(options, target, consumers.clone(), &mut signals).await;
    first_error(captured, consumers.close(&mut signals).await)
}

/// Traces a process that was analysed. On return nothing is attached any more, and the consumers have concluded if
/// anything was captured.
///
/// # Errors
/// See [`run`].
pub(in crate::session) async fn capture(
    options: AttachOptions,
    target: Prepared,
    consumers: Consumers,
    signals: &mut Signals,
) -> Result<()> {
    let mut clocks = CaptureClocks::new(&options, signals);
    let policy = Policy {
        mode: options.mode,
        bounded: options.duration.is_some(),
    };
    let mut session = Session::new(policy);
    let begin = LatencyBegin {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        target: target.info(),
        notes: target.notes().into_iter().map(Untrusted::from).collect(),
        interval_ns: options.interval.map(|d| d.as_nanos() as u64),
    };
    let mut runner = Runner {
        presence: Presence::announce(target.pid(), target.start_time()),
        attachment: Attachment::of(&options),
        neighbours_read_ns: 0,
        halts: Halts::new(HaltWatch::new(target.pid())),
        limits: LimitsRead::default(),
        cpu: CpuWatch::new(),
        chatter: options.chatter,
        consumers,
        is_finished: false,
        target,
        live: None,
        source_failed: false,
        outcome: Ok(()),
    };
    let mut inputs = VecDeque::from([Input::Planned {
        offers: runner.target.offers(),
    }]);
    inputs.extend(runner.step(LatencyStep::Begin(begin)));
    while !session.is_done() {
        let input = match inputs.pop_front() {
            Some(input) => input,
            None => clocks.next(&runner.target).await,
        };
        for effect in session.handle(input) {
            if let Some(answer) = runner.carry_out(effect, &mut clocks) {
                inputs.extend(runner.end_explaining(&answer));
                inputs.push_back(answer);
            }
        }
    }
    runner.outcome
}

struct Runner {
    target: Prepared,
    consumers: Consumers,
    /// Whether the last step has gone to the consumers.
    is_finished: bool,
    chatter: Chatter,
    live: Option<Live>,
    presence: Presence,
    attachment: Attachment,
    /// When neighbours were looked for the last time, CLOCK_MONOTONIC.
    neighbours_read_ns: u64,
    /// When the target did not run at all.
    halts: Halts,
    limits: LimitsRead,
    cpu: CpuWatch,
    /// Whether a source has failed: then the capture is not complete.
    source_failed: bool,
    outcome: Result<()>,
}

impl Runner {
    fn carry_out(&mut self, effect: Effect, clocks: &mut CaptureClocks<'_>) -> Option<Input> {
        let now = now_ns();
        match effect {
            Effect::Attach { mode } => {
                let attached = self
                    .attachment
                    .attach(&self.target, mode, &mut self.cpu, &mut self.presence);
                return Some(match attached {
                    Ok(live) => {
                        let (sites, slow_to_detach) = (live.sites(), live.is_slow_to_detach());
                        self.live = Some(live);
                        Input::Attached {
                            mode,
                            sites,
                            slow_to_detach,
                        }
                    }
                    Err(error) => Input::AttachFailed { mode, error },
                });
            }
            Effect::FallBack { from, to, why } => {
                let why = why.into();
                return self.step(LatencyStep::FallBack { from, to, why });
            }
            Effect::OpenWindow { mode, sites } => {
                let at_ns = self.live.as_ref()?.live_ns().unwrap_or(now);
                let opening = Opening {
                    at_ns,
                    started_at: before(jiff::Timestamp::now(), now_ns().saturating_sub(at_ns)),
                    mode,
                    scheme: self.live.as_ref()?.scheme(),
                    cpu_ns: self.target.cpu_ns(),
                    scheduler: (mode == Mode::Full).then(|| SchedConfig {
                        minor: self.target.minor(),
                        syscalls: self.attachment.full.syscalls,
                        slower_ns: self.attachment.slower_ns,
                        assists: self.target.sees_assists(),
                    }),
                    preemption_unknown: mode == Mode::Exact && !self.target.knows_preemption(),
                };
                let opened = self.step(LatencyStep::Open(opening));
                let cpu_ns = self.target.cpu_ns();
                let live = self.live.as_ref()?;
                live.if_probed(|memory| self.cpu.begin(memory, cpu_ns, now));
                self.report_attached(mode, sites);
                self.limits.read(&self.target);
                let halt = self.halts.read_now(now);
                self.report_halt(halt);
                clocks.open_window();
                self.live.as_mut()?.calibrate();
                let held = self.step(LatencyStep::Hold(self.attach_info()));
                return opened.or(held);
            }
            Effect::Collect => return self.collect(now),
            Effect::Snapshot => {
                let seen = self.live.as_mut()?.snapshot(now)?;
                if self.target.has_execed() {
                    // The gauges may be those of the other program.
                    return Some(Input::TargetExeced);
                }
                return self.take(&[seen]);
            }
            Effect::PrintInterval => {
                return self.step(LatencyStep::Interval { at_ns: now });
            }
            Effect::MeasureCpu => self.measure_cpu(now),
            Effect::CloseWindow => {
                self.measure_cpu(now);
                if let Some(live) = &mut self.live {
                    live.look_for_plugins_at_the_end(&self.target);
                    if let Err(e) = live.stop() {
                        log::warn!("{e}");
                    }
                    if self.target.has_execed() {
                        live.forget_last();
                    }
                }
                self.halts.read_now(now_ns());
                self.limits.read(&self.target);
                let close = LatencyStep::Close {
                    // Read after the probes were switched off: what came meanwhile was counted.
                    at_ns: now_ns(),
                    cpu_ns: self.target.cpu_ns(),
                    concurrent_captures: self.presence.others(),
                    halted: self.halts.seen(),
                    limits: self.limits.last(),
                };
                return self.step(close);
            }
            Effect::Finish { ended_by, whole } => {
                let notes = self.live.as_ref().map(Live::notes).unwrap_or_default();
                let plugins = self.live.as_ref().and_then(Live::plugins).cloned();
                let mut answer = plugins.and_then(|plugins| self.step(LatencyStep::Plugins(plugins)));
                if self
                    .live
                    .as_ref()
                    .is_some_and(|live| live.attached_by().is_some())
                {
                    answer = answer.or(self.step(LatencyStep::CpuUse(self.cpu.used().clone())));
                }
                for note in notes {
                    answer = answer.or(self.step(LatencyStep::Note { note: note.into() }));
                }
                let unbound = self.live.as_ref().and_then(Live::unbound);
                let mut is_lost = false;
                if let Some((note, lost)) = unbound.filter(|_| !self.target.has_ended()) {
                    is_lost = lost;
                    answer = answer.or(self.step(LatencyStep::Note { note: note.into() }));
                }
                let whole = whole && !self.source_failed && !is_lost;
                let held = self.step(LatencyStep::Hold(self.attach_info()));
                self.is_finished = true;
                let finished = self.step(LatencyStep::Finish { ended_by, whole });
                return answer.or(held).or(finished);
            }
            Effect::PrintResult => {
                if self.outcome.is_ok() && self.is_finished {
                    self.outcome = self.consumers.conclude(&self.target);
                }
            }
            Effect::Detach => {
                if let Some(mut live) = self.live.take() {
                    live.detach();
                }
                return Some(Input::Detached);
            }
            Effect::Fail { error } => self.outcome = Err(error),
            Effect::Quit => {}
        }
        None
    }

    fn collect(&mut self, now: u64) -> Option<Input> {
        let seen = match self.live.as_mut()?.observe(now) {
            // Without probes the figures were read from memory, which may be that of another program.
            Ok(_) if self.live.as_ref()?.attached_by().is_none() && self.target.has_execed() => {
                return Some(Input::TargetExeced);
            }
            Ok(mut seen) => {
                sampling::leave_out_foreign(&mut seen, || self.target.has_execed());
                seen
            }
            Err(e) => {
                self.source_failed = true;
                if let Some(end) = self.target_end() {
                    return Some(end);
                }
                let _ = self.step(LatencyStep::Note {
                    note: e.to_string().into(),
                });
                return Some(Input::SourceFailed { why: e.to_string() });
            }
        };
        let answer = self.take(&seen);
        if let Some(live) = &mut self.live {
            live.follow_plugins(&self.target, now);
        }
        if now.saturating_sub(self.neighbours_read_ns) >= NEIGHBOURS_EVERY_NS {
            self.neighbours_read_ns = now;
            // So that captures that come and go meanwhile are counted, too.
            self.presence.others();
        }
        let halt = self.halts.read(now);
        self.report_halt(halt);
        let needs_snapshot = self.live.as_ref().is_some_and(|live| live.needs_snapshot(now));
        let flow = self.consumers.poll(now);
        let answer = answer.or(self.input_of(flow));
        answer.or(needs_snapshot.then_some(Input::EventsLost))
    }

    /// Measures the target's CPU time since the last time, if it is probed.
    fn measure_cpu(&mut self, now_ns: u64) {
        let target = &self.target;
        if let Some(live) = &self.live {
            let cpu_ns = target.cpu_ns();
            live.if_probed(|memory| {
                self.cpu.read(memory, cpu_ns, now_ns, || !target.has_execed());
            });
        }
    }

    /// Returns the end of the target that explains a failure to attach: with any other mode it would fail, too.
    fn end_explaining(&self, answer: &Input) -> Option<Input> {
        match answer {
            Input::AttachFailed { .. } => self.target_end(),
            _ => None,
        }
    }

    /// Returns the input for the target's end or its execve, if that has happened.
    fn target_end(&self) -> Option<Input> {
        match self.target.fate() {
            Fate::Unchanged => None,
            Fate::Executed => Some(Input::TargetExeced),
            Fate::Ended => Some(Input::TargetExited),
        }
    }

    /// Describes how the probes are attached right now.
    fn attach_info(&self) -> AttachInfo {
        let live = self.live.as_ref();
        let cost = live.and_then(|live| live.cost);
        AttachInfo {
            attached_by: live.and_then(Live::attached_by),
            measured_by: live.map_or(MeasuredBy::Runtime, Live::measured_by),
            hit_ns: live.and_then(Live::hit_ns),
            latency_floor_ns: cost.and_then(|cost| cost.latency_floor_ns),
        }
    }

    fn report_attached(&self, mode: Mode, sites: usize) {
        if self.chatter == Chatter::Normal {
            let how = match sites {
                0 => "no probes".to_owned(),
                n => format!("{n} probed instructions"),
            };
            notice::line(&format!(
                "attached: process {} ({}), {mode}, {how}",
                self.target.pid(),
                self.target.version()
            ));
        }
    }

    /// Reports that the target has entered a state in which it does not run.
    fn report_halt(&self, halt: Option<Halt>) {
        if let Some(halt) = halt.filter(|_| self.chatter == Chatter::Normal) {
            notice::line(&format!("gmpscope: {}", halts::sentence(self.target.pid(), halt)));
        }
    }

    fn step(&mut self, step: LatencyStep) -> Option<Input> {
        let written = self.consumers.step(&Step::Latencies(step), &self.target);
        self.input_of(written)
    }

    fn take(&mut self, seen: &[Observation]) -> Option<Input> {
        let written = self.consumers.observe(seen, &self.target);
        for why in self.consumers.take_troubles() {
            let _ = self.step(LatencyStep::Note { note: why.into() });
        }
        self.input_of(written)
    }

    /// Returns the input that the outcome of a write is to the session, if any.
    fn input_of(&mut self, written: Result<Flow>) -> Option<Input> {
        match written {
            Ok(Flow::Written) => None,
            Ok(Flow::ReaderGone) => Some(Input::ReaderGone),
            Err(e) => {
                // Without output there is no point in continuing, but what is attached must be removed in order.
                let why = e.to_string();
                self.outcome = Err(e);
                Some(Input::SourceFailed { why })
            }
        }
    }
}

/// The wall-clock time this many nanoseconds before `now`.
fn before(now: jiff::Timestamp, ns: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(now.as_nanosecond() - i128::from(ns)).unwrap_or(now)
}
