//! Carries out what a [`Session`] wants, and tells it what came of it: the only place where clocks, signals
//! and a target's end are waited for.

use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, Interval};

use super::{
    Effect, Happening, Policy, Session,
    capturing::{Began, Capturing, Form},
    live::Live,
    prepare::Prepared,
};
use crate::{
    clock::now_ns,
    error::{Error, Failure, Result},
    escape::Untrusted,
    model::{Symbolizer as _, sched::SchedConfig},
    output::sink::{Flow, Sink},
    plan::Mode,
    process::Fate,
    session::{
        delivery,
        neighbours::Presence,
        options::{AttachOptions, Chatter, FullOptions},
        signals::{Interrupts as _, Signals},
        step::{Holding, LatencyBegin, LatencyStep, Opening, Step},
        timers::{every, tick_of, until},
    },
    stream::{Observation, recording::Recorder},
    writing::stderr,
};

/// How often the kernel's tables are emptied.
const TICK: Duration = Duration::from_millis(500);
/// The same while slow waits are to be shown as they happen.
const TICK_FOR_SLOW: Duration = Duration::from_millis(100);
/// How often neighbours are looked for, and the line on the terminal is drawn, at most: `full` collects more often.
const LOOK_EVERY_NS: u64 = 90_000_000;
/// The same as [`TICK`] of `full`, whose ring buffer holds half a second of what a busy program does.
const TICK_FOR_FULL: Duration = Duration::from_millis(5);

/// Traces one process from its plan to the printed result.
///
/// # Errors
/// Whatever ended it; [`Failure::Incomplete`] without a message where the result was printed but is not
/// whole.
pub async fn run(options: AttachOptions) -> Result<()> {
    // Before anything is attached: a file that cannot be written fails here.
    let sink = Sink::open(options.output.as_deref())?;
    let recorder = Recorder::open(options.record.as_deref())?;
    // Handlers come after the analysis, which a signal may just end.
    let target = Prepared::new(&options)?;
    let signals = Signals::install()?;
    let Captured {
        outcome,
        printed,
        sink,
        mut signals,
    } = capture(options, target, sink, None, recorder.clone(), signals).await;
    // Whatever the reader of the result does, what was recorded is whole.
    recorder.close();
    let outcome = match printed {
        // One that is not whole is printed all the same.
        true => delivery::deliver(sink, &mut signals).await.and(outcome),
        // A file stays as it was.
        false => outcome,
    };
    delivery::record(&recorder, outcome, &mut signals).await
}

/// What a capture has left, when nothing is attached any more.
pub(in crate::session) struct Captured {
    /// How it ended.
    pub outcome: Result<()>,
    /// Whether there is a result, which is on its way.
    pub printed: bool,
    /// The output.
    pub sink: Sink,
    /// Those that it has listened to.
    pub signals: Signals,
}

/// Traces a process that was analysed; `began` is how it started, where that is to be told with it.
pub(in crate::session) async fn capture(
    options: AttachOptions,
    target: Prepared,
    sink: Sink,
    began: Option<Began>,
    recorder: Recorder,
    signals: Signals,
) -> Captured {
    let mut clocks = Clocks::new(&options, signals);
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
        slower_ns: options.slower.map(|d| d.as_nanos() as u64),
        full: options.full,
        looked_ns: 0,
        chatter: options.chatter,
        capturing: Capturing::new(Form::of(&options), begin.clone(), sink, began),
        recorder,
        target,
        live: None,
        source_failed: false,
        outcome: Ok(()),
    };
    let mut happenings = VecDeque::from([Happening::Planned {
        offers: runner.target.offers(),
    }]);
    happenings.extend(runner.step(LatencyStep::Begin(begin)));
    while !session.is_done() {
        let happening = match happenings.pop_front() {
            Some(happening) => happening,
            None => clocks.next(&runner.target).await,
        };
        for effect in session.handle(happening) {
            if let Some(answer) = runner.carry_out(effect, &mut clocks) {
                happenings.extend(runner.end_behind(&answer));
                happenings.push_back(answer);
            }
        }
    }
    let printed = runner.has_printed();
    Captured {
        outcome: runner.outcome,
        printed,
        sink: runner.capturing.into_sink(),
        signals: clocks.signals,
    }
}

struct Runner {
    target: Prepared,
    capturing: Capturing,
    recorder: Recorder,
    chatter: Chatter,
    live: Option<Live>,
    presence: Presence,
    slower_ns: Option<u64>,
    full: FullOptions,
    /// When neighbours were looked for the last time, CLOCK_MONOTONIC.
    looked_ns: u64,
    /// A source failed, at whatever moment: the capture is not whole.
    source_failed: bool,
    outcome: Result<()>,
}

impl Runner {
    fn carry_out(&mut self, effect: Effect, clocks: &mut Clocks) -> Option<Happening> {
        let now = now_ns();
        match effect {
            Effect::Attach { mode } => {
                return Some(
                    match Live::attach(&self.target, mode, self.slower_ns, self.full, now) {
                        Ok(live) => {
                            let (sites, slow_to_detach) = (live.sites(), live.is_slow_to_detach());
                            self.live = Some(live);
                            Happening::Attached {
                                mode,
                                sites,
                                slow_to_detach,
                            }
                        }
                        Err(error) => Happening::AttachFailed { mode, error },
                    },
                );
            }
            Effect::FallBack { from, to, why } => {
                let why = why.into();
                return self.step(LatencyStep::FallBack { from, to, why });
            }
            Effect::OpenWindow { mode, sites } => {
                let opening = Opening {
                    at_ns: now,
                    started_at: jiff::Timestamp::now(),
                    mode,
                    scheme: self.live.as_ref()?.scheme(),
                    cpu_ns: self.target.cpu_ns(),
                    scheduler: (mode == Mode::Full).then(|| SchedConfig {
                        minor: self.target.minor(),
                        syscalls: self.full.syscalls,
                        slower_ns: self.slower_ns,
                    }),
                };
                self.recorder.begin();
                let opened = self.step(LatencyStep::Open(opening));
                self.say_attached(mode, sites);
                clocks.open_window();
                self.live.as_mut()?.calibrate();
                let held = self.step(LatencyStep::Hold(self.holding()));
                return opened.or(held);
            }
            Effect::Collect => return self.collect(now),
            Effect::Snapshot => {
                let seen = self.live.as_mut()?.snapshot(now)?;
                if self.target.has_execed() {
                    // It may be of the other program.
                    return Some(Happening::TargetExeced);
                }
                return self.take(&[seen]);
            }
            Effect::PrintInterval => {
                return self.step(LatencyStep::Interval { at_ns: now });
            }
            Effect::CloseWindow => {
                if let Some(live) = &mut self.live
                    && let Err(e) = live.stop()
                {
                    log::warn!("{e}");
                }
                let close = LatencyStep::Close {
                    // What came while the probes were switched off was taken in.
                    at_ns: now_ns(),
                    cpu_ns: self.target.cpu_ns(),
                    concurrent_captures: self.presence.others(),
                };
                return self.step(close);
            }
            Effect::Finish { ended_by, whole } => {
                let notes = self.live.as_ref().map(Live::notes).unwrap_or_default();
                let mut answer = None;
                for note in notes {
                    answer = answer.or(self.step(LatencyStep::Note { note: note.into() }));
                }
                let whole = whole && !self.source_failed;
                let held = self.step(LatencyStep::Hold(self.holding()));
                let finished = self.step(LatencyStep::Finish { ended_by, whole });
                return answer.or(held).or(finished);
            }
            Effect::PrintResult => {
                if self.outcome.is_err() || !self.capturing.is_finished() {
                    return None;
                }
                self.outcome = match self.capturing.print(&self.target) {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(Error {
                        failure: Failure::Incomplete,
                        message: String::new(),
                    }),
                    Err(e) => Err(e),
                };
            }
            Effect::Detach => {
                if let Some(mut live) = self.live.take() {
                    live.detach();
                }
                return Some(Happening::Detached);
            }
            Effect::Fail { error } => self.outcome = Err(error),
            Effect::Quit => {}
        }
        None
    }

    fn collect(&mut self, now: u64) -> Option<Happening> {
        let seen = match self.live.as_mut()?.observe(now) {
            // Without probes it was read from memory, which may be another program's.
            Ok(_) if self.live.as_ref()?.attached_by().is_none() && self.target.has_execed() => {
                return Some(Happening::TargetExeced);
            }
            Ok(seen) => seen,
            Err(e) => {
                self.source_failed = true;
                if let Some(end) = self.target_end() {
                    return Some(end);
                }
                let _ = self.step(LatencyStep::Note {
                    note: e.to_string().into(),
                });
                return Some(Happening::SourceFailed { why: e.to_string() });
            }
        };
        let answer = self.take(&seen);
        if now.saturating_sub(self.looked_ns) >= LOOK_EVERY_NS {
            self.looked_ns = now;
            // Others that come and go are met in passing.
            self.presence.others();
            self.capturing.show_progress(now);
        }
        let needs_snapshot = self.live.as_mut().is_some_and(|live| live.needs_snapshot(now));
        // Who reads may also go away between two lines.
        let flow = self.capturing.flow();
        let answer = answer.or(self.written(flow));
        answer.or(needs_snapshot.then_some(Happening::EventsLost))
    }

    /// The end of the target that makes `answer` what it is: another mode would fail of it, too.
    fn end_behind(&self, answer: &Happening) -> Option<Happening> {
        match answer {
            Happening::AttachFailed { .. } => self.target_end(),
            _ => None,
        }
    }

    /// What a failure means that the end of the target explains, or its execve.
    fn target_end(&self) -> Option<Happening> {
        match self.target.fate() {
            Fate::Unchanged => None,
            Fate::Executed => Some(Happening::TargetExeced),
            Fate::Ended => Some(Happening::TargetExited),
        }
    }

    /// How the probes are held right now.
    fn holding(&self) -> Holding {
        let live = self.live.as_ref();
        let cost = live.and_then(|live| live.cost);
        Holding {
            attached_by: live.and_then(Live::attached_by).map(str::to_owned),
            measured_by: live.map_or("runtime", Live::measured_by).to_owned(),
            hit_ns: cost.map(|cost| cost.hit_ns),
            latency_floor_ns: cost.and_then(|cost| cost.latency_floor_ns),
        }
    }

    fn say_attached(&self, mode: Mode, sites: usize) {
        if self.chatter == Chatter::Normal {
            let how = match sites {
                0 => "no probes".to_owned(),
                n => format!("{n} probed instructions"),
            };
            let line = format!(
                "attached: process {} ({}), {mode}, {how}\n",
                self.target.pid(),
                self.target.version()
            );
            stderr::write(line.as_bytes());
        }
    }

    fn step(&mut self, step: LatencyStep) -> Option<Happening> {
        let recorded = Step::Latencies(step.clone());
        self.recorder.step(|| recorded.to_json());
        let written = self.capturing.step(&self.target, step);
        self.written(written)
    }

    fn take(&mut self, seen: &[Observation]) -> Option<Happening> {
        if self.full.stacks.is_some() {
            self.recorder.frames(seen, |pcs| self.target.frames(pcs));
        }
        self.recorder.observe(seen, |addresses| {
            self.target.prepare(addresses);
            let named = addresses
                .iter()
                .filter_map(|address| Some((*address, self.target.function_at(*address)?)));
            named.collect()
        });
        let written = self.capturing.observe(&self.target, seen);
        if let Some(why) = self.recorder.failure() {
            log::error!("{why}");
            let _ = self.step(LatencyStep::Note { note: why.into() });
        }
        self.written(written)
    }

    /// What a write means for the session.
    fn written(&mut self, written: Result<Flow>) -> Option<Happening> {
        match written {
            Ok(Flow::Written) => None,
            Ok(Flow::ReaderGone) => Some(Happening::ReaderGone),
            Err(e) => {
                // Without output there is no point in going on, but what is attached must go in order.
                let why = e.to_string();
                self.outcome = Err(e);
                Some(Happening::SourceFailed { why })
            }
        }
    }

    fn has_printed(&self) -> bool {
        let outcome = match &self.outcome {
            Ok(()) => true,
            Err(error) => error.failure == Failure::Incomplete,
        };
        self.capturing.is_finished() && outcome
    }
}

/// Everything that a capture waits for.
struct Clocks {
    tick: Interval,
    period: Option<Duration>,
    interval: Option<Interval>,
    duration: Option<Duration>,
    end: Option<Instant>,
    signals: Signals,
}

impl Clocks {
    fn new(options: &AttachOptions, signals: Signals) -> Self {
        let tick = match (options.mode, options.slower) {
            (Some(Mode::Full), _) => TICK_FOR_FULL,
            (_, Some(_)) => TICK_FOR_SLOW,
            (_, None) => TICK,
        };
        Self {
            tick: every(tick),
            period: options.interval,
            interval: None,
            duration: options.duration,
            end: None,
            signals,
        }
    }

    /// The window has begun: its length and its intervals count from here.
    fn open_window(&mut self) {
        self.end = self.duration.map(|d| Instant::now() + d);
        self.interval = self.period.map(every);
    }

    async fn next(&mut self, target: &Prepared) -> Happening {
        let end = self.end;
        tokio::select! {
            biased;
            () = self.signals.next() => Happening::Signal,
            () = target.ended() => Happening::TargetExited,
            () = until(end) => { self.end = None; Happening::DurationElapsed }
            () = tick_of(&mut self.interval) => Happening::IntervalElapsed,
            _ = self.tick.tick() => {
                if target.has_execed() { Happening::TargetExeced } else { Happening::Tick }
            }
        }
    }
}
