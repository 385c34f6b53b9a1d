//! A recording through the same door as a live capture: the same steps and observations, told to the same
//! [`Capturing`] and [`Starting`].

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read},
};

use super::{
    EndedBy,
    attach::capturing::{Capturing, Form},
    options::{Chatter, ReplayOptions, SplitBy},
    start::{self, Starting},
    step::{LatencyStep, StartStep, Step},
};
use crate::{
    error::{Error, Failure, Result},
    escape::Untrusted,
    model::{Frame, Symbolizer},
    output::sink::{Flow, Sink},
    plan::Mode,
    stream::{
        Observation,
        recording::{Ended, Entry, Reader},
    },
};

/// Most notes of a recording that was written by us.
const MOST_NOTES: u32 = 10_000;
/// Most goroutines, Ps and threads of a recording that was written by us.
const MOST_KNOWN: usize = 1 << 24;
/// More intervals than these without anything in them become one.
const MOST_EMPTY: u64 = 100_000;

/// Makes the result of a recording.
///
/// # Errors
/// It cannot be read, or is none; [`Failure::Incomplete`] without a message where the result was printed but is not
/// whole.
pub fn run(options: &ReplayOptions) -> Result<()> {
    let (file, name): (Box<dyn Read>, String) = match &options.file {
        None => (Box::new(io::stdin().lock()), "the recording on stdin".to_owned()),
        Some(path) => {
            let name = Untrusted::path(path).to_string();
            let file = File::open(path)
                .map_err(|e| Error::failed(format!("the recording {name} cannot be opened: {e}")))?;
            (Box::new(BufReader::new(file)), name)
        }
    };
    let reader = Reader::new(file, &name)?;
    let sink = Sink::open(options.output.as_deref())?.waiting();
    replay(reader, options, sink)
}

/// Makes the result of what `reader` reads.
///
/// # Errors
/// As [`run`].
pub fn replay<R: Read>(mut reader: Reader<R>, options: &ReplayOptions, sink: Sink) -> Result<()> {
    let mut replay = Replay {
        options,
        sink: Some(sink),
        telling: Telling::Nothing,
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
            return Ok(());
        }
    }
    let cut = match reader.ended() {
        Some(Ended::Cut { why }) => Some(*why),
        Some(Ended::Whole) | None => None,
    };
    replay.finish(cut, reader.name())
}

struct Replay<'o> {
    options: &'o ReplayOptions,
    /// Until somebody has it.
    sink: Option<Sink>,
    telling: Telling,
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

/// Who is told.
enum Telling {
    /// The first step has not come.
    Nothing,
    /// Starts.
    Starts(Box<Starting>),
    /// Latencies, with what was told of the start before them.
    Latencies(Box<Capturing>, Option<Box<Starting>>),
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
            Entry::Observations(seen) => self.observe(&seen, name),
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

    /// Tells what was seen, with intervals between where they fall.
    fn observe(&mut self, mut seen: &[Observation], name: &str) -> Result<Flow> {
        while let Some(observation) = seen.first() {
            let mut flow = self.intervals_until(observation.at_ns)?;
            let before = |observation: &&Observation| observation.at_ns <= self.intervals.next_ns;
            // The first is in this interval in any case.
            let many = 1 + seen.iter().skip(1).take_while(before).count();
            let (now, later) = seen.split_at_checked(many).unwrap_or((seen, &[]));
            let latest = now.iter().map(|observation| observation.at_ns).max();
            self.last_ns = self.last_ns.max(latest.unwrap_or(0));
            let told = match &mut self.telling {
                Telling::Nothing => Flow::Written,
                Telling::Starts(starting) => starting.observe(now)?.1,
                Telling::Latencies(capturing, _) => {
                    let flow = capturing.observe(&self.names, now)?;
                    if capturing.known() > MOST_KNOWN {
                        return Err(Error::failed(format!(
                            "{name} is not a recording as gmpscope writes it: it has more goroutines than there can be"
                        )));
                    }
                    flow
                }
            };
            if told == Flow::ReaderGone {
                flow = told;
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
        match &mut self.telling {
            Telling::Nothing => Ok(Flow::Written),
            Telling::Starts(starting) => starting.step(StartStep::Interval { at_ns }),
            Telling::Latencies(capturing, _) => capturing.step(&self.names, LatencyStep::Interval { at_ns }),
        }
    }

    fn step(&mut self, step: Step, name: &str) -> Result<Flow> {
        match step {
            Step::Latencies(step) => self.latency_step(step, name),
            Step::Starts(step) => self.start_step(step, name),
        }
    }

    fn latency_step(&mut self, step: LatencyStep, name: &str) -> Result<Flow> {
        if let LatencyStep::Begin(begin) = step {
            let (sink, starting) = match std::mem::replace(&mut self.telling, Telling::Nothing) {
                Telling::Starts(mut starting) => (starting.take_sink(), Some(starting)),
                _ => (self.sink.take().ok_or_else(|| hostile(name))?, None),
            };
            self.intervals.of(self.options, begin.interval_ns);
            let form = Form {
                format: self.options.format,
                by: self.options.by,
                by_interval: self.options.interval.is_some(),
                chatter: Chatter::Quiet,
                progress: None,
            };
            let began = starting.as_ref().map(|starting| starting.began());
            let capturing = Capturing::new(form, begin, sink, began);
            self.telling = Telling::Latencies(Box::new(capturing), starting);
            self.opened = false;
            return Ok(Flow::Written);
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
        let Telling::Latencies(capturing, _) = &mut self.telling else {
            return Err(hostile(name));
        };
        if let LatencyStep::Finish { ended_by, whole } = step {
            if !self.opened || capturing.is_finished() {
                return Err(hostile(name));
            }
            let mut whole = whole;
            if let Some(note) = unknown(self.unknown) {
                whole = false;
                let _ = capturing.step(&self.names, LatencyStep::Note { note: note.into() })?;
            }
            let flow = capturing.step(&self.names, LatencyStep::Finish { ended_by, whole })?;
            self.complete = Some(capturing.print(&self.names)?);
            return Ok(flow);
        }
        capturing.step(&self.names, step)
    }

    fn start_step(&mut self, step: StartStep, name: &str) -> Result<Flow> {
        if let StartStep::Begin(begin) = step {
            let sink = self.sink.take().ok_or_else(|| hostile(name))?;
            if self.options.by.is_some() {
                return Err(Error::usage(format!(
                    "{name} was recorded by run or attach --next: how a program started is not told apart by --by"
                )));
            }
            self.intervals.of(self.options, begin.interval_ns);
            let form = start::Form {
                format: self.options.format,
                sink,
                by_interval: self.options.interval.is_some() && !begin.goes_on,
            };
            self.telling = Telling::Starts(Box::new(Starting::new(form, begin)));
            return Ok(Flow::Written);
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
        let starting = match &mut self.telling {
            Telling::Starts(starting) | Telling::Latencies(_, Some(starting)) => starting,
            _ => return Err(hostile(name)),
        };
        if matches!(step, StartStep::Finish { .. })
            && let Some(note) = unknown(self.unknown)
        {
            let _ = starting.step(StartStep::Note { note: note.into() })?;
        }
        let flow = starting.step(step)?;
        self.complete = starting.complete().or(self.complete);
        Ok(flow)
    }

    fn count_note(&mut self, name: &str) -> Result<()> {
        self.notes += 1;
        if self.notes > MOST_NOTES {
            return Err(hostile(name));
        }
        Ok(())
    }

    /// The end of the file. Where it comes too early, what there is is shown.
    fn finish(mut self, cut: Option<&str>, name: &str) -> Result<()> {
        if self.complete.is_none() {
            let why = cut.unwrap_or("its capture failed");
            if !self.opened && !matches!(self.telling, Telling::Latencies(_, Some(_))) {
                return Err(Error::failed(format!(
                    "{name} holds nothing that could be shown: {why}"
                )));
            }
            let note = format!("the recording ends in the middle of its capture: {why}");
            log::warn!("{name}: {note}");
            self.end_early(note, name)?;
        }
        match self.telling {
            Telling::Nothing => {}
            Telling::Starts(starting) => starting.into_sink().finish_now()?,
            Telling::Latencies(capturing, _) => capturing.into_sink().finish_now()?,
        }
        if self.complete == Some(true) {
            Ok(())
        } else {
            Err(Error {
                failure: Failure::Incomplete,
                message: String::new(),
            })
        }
    }

    fn end_early(&mut self, note: String, name: &str) -> Result<()> {
        let (at_ns, ended_by, whole) = (self.last_ns, EndedBy::RecordingCut, false);
        // Who has stopped to read needs no more.
        let _ = match &self.telling {
            Telling::Nothing => return Ok(()),
            Telling::Starts(_) => {
                let _ = self.start_step(StartStep::Note { note: note.into() }, name)?;
                let _ = self.start_step(StartStep::Cut { at_ns }, name)?;
                let finish = StartStep::Finish {
                    at_ns,
                    ended_by,
                    whole,
                };
                self.start_step(finish, name)?
            }
            Telling::Latencies(..) => {
                let close = LatencyStep::Close {
                    at_ns,
                    cpu_ns: None,
                    concurrent_captures: 0,
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

fn can_be_split(by: Option<SplitBy>, mode: Mode, name: &str) -> Result<()> {
    match (by, mode) {
        (Some(SplitBy::Origin), Mode::Passive | Mode::Sampled) => Err(Error::usage(format!(
            "--by origin needs a recording of --mode exact or full, and {name} is of {mode}"
        ))),
        (Some(SplitBy::CreationSite), Mode::Exact) => Err(Error::usage(format!(
            "--by creation-site needs a recording of --mode sampled or full, and {name} is of exact"
        ))),
        _ => Ok(()),
    }
}

fn hostile(name: &str) -> Error {
    Error::failed(format!(
        "{name} is not a recording as gmpscope writes it: its steps do not come in order"
    ))
}
