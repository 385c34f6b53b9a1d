//! A recording through the same door as a live capture: the same steps and observations, handed to a [`Consumer`].

use std::{collections::BTreeMap, io::Read};

use super::can_be_split;
use crate::{
    binary::Frame,
    error::{Error, Result},
    escape::Untrusted,
    process::limits::Limits,
    session::options::ReplayOptions,
    stream::{
        Consumer, EndedBy, Flow, Observation, Step, Symbolizer,
        recording::{Ended, Entry, Reader},
        step::{LatencyStep, StartStep},
    },
};

/// Most notes of a recording that was written by us.
const MOST_NOTES: u32 = 10_000;
/// More intervals than these without anything in them become one.
const MOST_EMPTY: u64 = 100_000;

/// How a replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// There is a result.
    Concluded {
        /// Whether it is complete.
        is_complete: bool,
    },
    /// Nobody read the output any more.
    ReaderGone,
}

/// Hands what `reader` reads to `consumer`, and has it conclude.
///
/// # Errors
/// The recording cannot be read, is not one that gmpscope writes, or holds no capture; or the consumer fails.
pub fn replay<R: Read>(
    mut reader: Reader<R>,
    options: &ReplayOptions,
    consumer: &mut dyn Consumer,
) -> Result<Replayed> {
    let mut replay = Replay {
        options,
        consumer,
        stage: Stage::Nothing,
        names: Names::default(),
        intervals: Intervals::default(),
        last_ns: 0,
        opened: false,
        unknown: 0,
        notes: 0,
        complete: None,
    };
    while let Some(entry) = reader.next()? {
        replay.unknown = replay.unknown.max(reader.unknown());
        if replay.take(entry, reader.name())? == Flow::ReaderGone {
            return Ok(Replayed::ReaderGone);
        }
    }
    let cut = match reader.ended() {
        Some(Ended::Cut { why }) => Some(*why),
        Some(Ended::Whole) | None => None,
    };
    replay.finish(cut, reader.name())?;
    Ok(Replayed::Concluded {
        is_complete: replay.complete == Some(true),
    })
}

struct Replay<'o> {
    options: &'o ReplayOptions,
    consumer: &'o mut dyn Consumer,
    stage: Stage,
    names: Names,
    intervals: Intervals,
    /// The latest moment that was seen.
    last_ns: u64,
    /// Whether a window was opened.
    opened: bool,
    /// What a later gmpscope has written.
    unknown: u64,
    notes: u32,
    complete: Option<bool>,
}

/// The part of the capture that the steps read last belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No step was read yet.
    Nothing,
    /// A capture of starts.
    Starts,
    /// A capture of latencies.
    Latencies {
        /// Of a process whose start was captured before.
        after_start: bool,
    },
}

impl Replay<'_> {
    fn take(&mut self, entry: Entry, name: &str) -> Result<Flow> {
        match entry {
            Entry::Names(names) => {
                self.names.functions.extend(names);
                Ok(Flow::Written)
            }
            Entry::Frames(frames) => {
                self.names.frames.extend(frames);
                Ok(Flow::Written)
            }
            Entry::Observations(seen) => self.observe(&seen),
            Entry::Step(json) => match serde_json::from_str(&json) {
                Ok(step) => self.step(step, name),
                Err(e) => {
                    log::debug!("an unknown step, {e}: {}", Untrusted::from(json));
                    self.unknown += 1;
                    Ok(Flow::Written)
                }
            },
        }
    }

    /// Hands over what was seen, with intervals between where they fall.
    fn observe(&mut self, mut seen: &[Observation]) -> Result<Flow> {
        while let Some(observation) = seen.first() {
            let mut flow = self.intervals_until(observation.at_ns)?;
            let before = |observation: &&Observation| observation.at_ns <= self.intervals.next_ns;
            // The first is in this interval in any case.
            let many = 1 + seen.iter().skip(1).take_while(before).count();
            let (now, later) = seen.split_at_checked(many).unwrap_or((seen, &[]));
            let latest = now.iter().map(|observation| observation.at_ns).max();
            self.last_ns = self.last_ns.max(latest.unwrap_or(0));
            if self.stage != Stage::Nothing {
                flow = flow.and(self.consumer.observe(now, &self.names)?);
            }
            if flow == Flow::ReaderGone {
                return Ok(flow);
            }
            seen = later;
        }
        Ok(Flow::Written)
    }

    /// Ends the intervals that end before a moment, where they are not those of the capture itself.
    fn intervals_until(&mut self, at_ns: u64) -> Result<Flow> {
        while let Some(end) = self.intervals.ended_before(at_ns) {
            if self.interval(end)? == Flow::ReaderGone {
                return Ok(Flow::ReaderGone);
            }
        }
        Ok(Flow::Written)
    }

    fn interval(&mut self, at_ns: u64) -> Result<Flow> {
        match self.stage {
            Stage::Nothing => Ok(Flow::Written),
            Stage::Starts => self.hand_over(Step::Starts(StartStep::Interval { at_ns })),
            Stage::Latencies { .. } => self.hand_over(Step::Latencies(LatencyStep::Interval { at_ns })),
        }
    }

    fn hand_over(&mut self, step: Step) -> Result<Flow> {
        self.consumer.step(&step, &self.names)
    }

    /// Hands over the last step, with a note about what was left out, and has the consumer conclude.
    fn conclude(&mut self, note: impl Fn(Untrusted) -> Step, finish: impl Fn(bool) -> Step) -> Result<Flow> {
        let unknown = unknown(self.unknown);
        let understood = unknown.is_none();
        if let Some(text) = unknown {
            let _ = self.hand_over(note(text.into()))?;
        }
        let flow = self.hand_over(finish(understood))?;
        self.complete = Some(self.consumer.conclude(&self.names)?.unwrap_or(true));
        Ok(flow)
    }

    fn step(&mut self, step: Step, name: &str) -> Result<Flow> {
        match step {
            Step::Latencies(step) => self.latency_step(step, name),
            Step::Starts(step) => self.start_step(step, name),
        }
    }

    fn latency_step(&mut self, step: LatencyStep, name: &str) -> Result<Flow> {
        if let LatencyStep::Begin(begin) = step {
            let after_start = match self.stage {
                Stage::Nothing => false,
                Stage::Starts => true,
                Stage::Latencies { .. } => return Err(hostile(name)),
            };
            self.intervals.of(self.options, begin.interval_ns);
            self.stage = Stage::Latencies { after_start };
            self.opened = false;
            return self.hand_over(Step::Latencies(LatencyStep::Begin(begin)));
        }
        match &step {
            LatencyStep::Open(opening) => {
                self.opened = true;
                self.intervals.open(opening.at_ns);
                can_be_split(self.options.by, opening.mode, name)?;
            }
            LatencyStep::Note { .. } => self.count_note(name)?,
            LatencyStep::Interval { .. } if !self.intervals.recorded => return Ok(Flow::Written),
            LatencyStep::Close { at_ns, .. } if self.intervals_until(*at_ns)? == Flow::ReaderGone => {
                return Ok(Flow::ReaderGone);
            }
            _ => {}
        }
        if !matches!(self.stage, Stage::Latencies { .. }) {
            return Err(hostile(name));
        }
        if let LatencyStep::Finish { ended_by, whole } = step {
            if !self.opened || self.complete.is_some() {
                return Err(hostile(name));
            }
            return self.conclude(
                |note| Step::Latencies(LatencyStep::Note { note }),
                |understood| {
                    Step::Latencies(LatencyStep::Finish {
                        ended_by,
                        whole: whole && understood,
                    })
                },
            );
        }
        self.hand_over(Step::Latencies(step))
    }

    fn start_step(&mut self, step: StartStep, name: &str) -> Result<Flow> {
        if let StartStep::Begin(begin) = step {
            if self.stage != Stage::Nothing {
                return Err(hostile(name));
            }
            if self.options.by.is_some() {
                return Err(Error::usage(format!(
                    "{name} was recorded by run or attach --next: --by cannot split how a program started"
                )));
            }
            self.intervals.of(self.options, begin.interval_ns);
            self.stage = Stage::Starts;
            return self.hand_over(Step::Starts(StartStep::Begin(begin)));
        }
        match &step {
            StartStep::Open { at_ns, .. } => {
                if !self.opened {
                    self.intervals.open(*at_ns);
                }
                self.opened = true;
            }
            StartStep::Note { .. } => self.count_note(name)?,
            StartStep::Interval { .. } if !self.intervals.recorded => return Ok(Flow::Written),
            StartStep::Finish { at_ns, .. } if self.intervals_until(*at_ns)? == Flow::ReaderGone => {
                return Ok(Flow::ReaderGone);
            }
            _ => {}
        }
        if !matches!(self.stage, Stage::Starts | Stage::Latencies { after_start: true }) {
            return Err(hostile(name));
        }
        if let StartStep::Finish { .. } = &step {
            match (self.complete, self.stage) {
                (None, _) => {}
                // They failed when they were printed, and how the program started was printed in their place.
                (Some(_), Stage::Latencies { .. }) => return Ok(Flow::Written),
                (Some(_), _) => return Err(hostile(name)),
            }
            return self.conclude(
                |note| Step::Starts(StartStep::Note { note }),
                |_| Step::Starts(step.clone()),
            );
        }
        self.hand_over(Step::Starts(step))
    }

    fn count_note(&mut self, name: &str) -> Result<()> {
        self.notes += 1;
        if self.notes > MOST_NOTES {
            return Err(hostile(name));
        }
        Ok(())
    }

    /// The end of the file. Where it comes too early, what there is is shown.
    fn finish(&mut self, cut: Option<&str>, name: &str) -> Result<()> {
        if self.complete.is_none() {
            let why = cut.unwrap_or("its capture failed");
            if !self.opened && self.stage != (Stage::Latencies { after_start: true }) {
                return Err(Error::failed(format!(
                    "{name} holds nothing that could be shown: {why}"
                )));
            }
            let note = format!("the recording ends in the middle of its capture: {why}");
            log::warn!("{name}: {note}");
            self.end_early(note, name)?;
        }
        Ok(())
    }

    fn end_early(&mut self, note: String, name: &str) -> Result<()> {
        let (at_ns, ended_by, whole) = (self.last_ns, EndedBy::RecordingCut, false);
        // A reader that has gone needs no more.
        let _ = match self.stage {
            Stage::Nothing => return Ok(()),
            Stage::Starts => {
                let _ = self.start_step(StartStep::Note { note: note.into() }, name)?;
                let _ = self.start_step(StartStep::Cut { at_ns }, name)?;
                let finish = StartStep::Finish {
                    at_ns,
                    ended_by,
                    whole,
                };
                self.start_step(finish, name)?
            }
            Stage::Latencies { .. } => {
                let close = LatencyStep::Close {
                    at_ns,
                    cpu_ns: None,
                    concurrent_captures: 0,
                    halted: vec![],
                    limits: Limits::default(),
                };
                self.opened = true;
                let _ = self.latency_step(LatencyStep::Note { note: note.into() }, name)?;
                let _ = self.latency_step(close, name)?;
                self.latency_step(LatencyStep::Finish { ended_by, whole }, name)?
            }
        };
        Ok(())
    }
}

/// Names of addresses, as they were found when the process ran.
#[derive(Debug, Default)]
struct Names {
    functions: BTreeMap<u64, Untrusted>,
    /// Calls at addresses in stacks.
    frames: BTreeMap<u64, Vec<Frame>>,
}

impl Symbolizer for Names {
    fn function_at(&self, gopc: u64) -> Option<Untrusted> {
        self.functions.get(&gopc).cloned()
    }

    fn frames(&self, pcs: &[u64]) -> BTreeMap<u64, Vec<Frame>> {
        let known = |pc: &u64| Some((*pc, self.frames.get(pc)?.clone()));
        pcs.iter().filter_map(known).collect()
    }
}

/// Where intervals end. If the capture had intervals of the same length, where its own did: by the clock of the
/// capture, a little behind each multiple.
#[derive(Debug, Default)]
struct Intervals {
    period_ns: Option<u64>,
    recorded: bool,
    next_ns: u64,
}

impl Intervals {
    fn of(&mut self, options: &ReplayOptions, recorded_ns: Option<u64>) {
        let wanted = options
            .interval
            .map(|d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
        self.recorded = wanted == recorded_ns;
        self.period_ns = wanted.filter(|ns| *ns > 0 && !self.recorded);
        self.next_ns = u64::MAX;
    }

    fn open(&mut self, at_ns: u64) {
        self.next_ns = self.period_ns.map_or(u64::MAX, |ns| at_ns.saturating_add(ns));
    }

    /// The end of the present interval, if that is before a moment.
    fn ended_before(&mut self, at_ns: u64) -> Option<u64> {
        let period = self.period_ns?;
        let ended = self.next_ns;
        if ended >= at_ns {
            return None;
        }
        let empty = (at_ns - ended) / period;
        let next = if empty > MOST_EMPTY {
            ended.saturating_add(empty.saturating_mul(period))
        } else {
            ended.saturating_add(period)
        };
        self.next_ns = next;
        Some(ended)
    }
}

/// What was left out because a later gmpscope has written it.
fn unknown(records: u64) -> Option<String> {
    (records > 0).then(|| {
        format!("{records} records were written by a later gmpscope, are not understood, and are left out")
    })
}

fn hostile(name: &str) -> Error {
    Error::failed(format!(
        "{name} is not a recording as gmpscope writes it: its steps do not come in order"
    ))
}
