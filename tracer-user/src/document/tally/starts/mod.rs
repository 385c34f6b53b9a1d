//! The starts of a capture: of one program, or of all that a command executes.

use super::followed::Followed;
use crate::{
    document::{
        capture::{Capture, CaptureInfo, CaptureMode},
        init::{self, Init, Short},
        interval::StartsInterval,
        ongoing::Ongoing,
    },
    escape::Untrusted,
    findings::{
        Finding,
        start::{self as findings, Evidence},
    },
    latency::start::PhaseTimes,
    model::start::{Ended, Start, Starts},
    stream::{
        EndedBy, Kind, Observation, TargetInfo,
        step::{AttachedBy, Environment, ONLY_BINARY, StartBegin, StartStep},
    },
};

/// Most starts that are kept whole.
const MOST_KEPT: usize = 10_000;

/// What is known of starts by now.
pub struct StartTally {
    program: StartBegin,
    environment: Environment,
    open: Starts,
    /// The first of those that have ended.
    ended: Vec<Start>,
    /// All that have ended: those that came to their end, and the others.
    runs: u64,
    unfinished: u64,
    /// Of the others, those that had not ended when the capture did.
    cut: u64,
    times: PhaseTimes,
    interval: PhaseTimes,
    interval_from_ns: u64,
    begin_ns: u64,
    started_at: jiff::Timestamp,
    hits: u64,
    attached_by: Option<AttachedBy>,
    lost: u64,
    /// Starts that continued without their probes. Of a tree they are among those that were not seen.
    missed: u64,
    notes: Vec<Untrusted>,
    /// The command's first process.
    command: Option<u32>,
    /// Starts of a command's tree, which are kept here and not in `ended`, `times` and `interval`.
    followed: Option<Followed>,
    ending: Option<Ending>,
}

/// The last step.
#[derive(Clone, Copy)]
struct Ending {
    at_ns: u64,
    ended_by: EndedBy,
    whole: bool,
}

impl StartTally {
    /// Returns the tally of a window that is not open yet.
    pub fn new(program: StartBegin) -> Self {
        let mut open = Starts::default();
        if program.dynamic {
            open.set_dynamic(ONLY_BINARY);
        }
        Self {
            followed: program.tree.then(Followed::default),
            program,
            environment: Environment::default(),
            open,
            ended: Vec::new(),
            runs: 0,
            unfinished: 0,
            cut: 0,
            times: PhaseTimes::default(),
            interval: PhaseTimes::default(),
            interval_from_ns: 0,
            begin_ns: 0,
            started_at: jiff::Timestamp::now(),
            hits: 0,
            attached_by: None,
            lost: 0,
            missed: 0,
            notes: Vec::new(),
            command: None,
            ending: None,
        }
    }

    /// Takes a step. Returns the starts that it ends, where each is worth a line of its own. An interval's end is only
    /// noted when it is asked for: see [`Self::interval`].
    pub fn step(&mut self, step: &StartStep) -> Vec<Short> {
        match step {
            StartStep::Begin(program) => self.program = program.clone(),
            StartStep::Attached { by } => self.attached_by = self.attached_by.or(*by),
            StartStep::Open { at_ns, started_at } => self.open(*at_ns, *started_at),
            StartStep::Environment(environment) => self.environment = environment.clone(),
            StartStep::Cut { at_ns } => return self.cut(*at_ns),
            StartStep::Interval { .. } | StartStep::Continue => {}
            StartStep::Note { note } => self.notes.push(note.clone()),
            StartStep::Missed { starts } => self.missed = *starts,
            StartStep::Command { pid } => {
                self.command.get_or_insert(*pid);
                self.tree_step(step);
            }
            StartStep::Binary { .. } | StartStep::Outlived { .. } | StartStep::Gate { .. } => {
                self.tree_step(step)
            }
            StartStep::Finish {
                at_ns,
                ended_by,
                whole,
            } => {
                self.ending = Some(Ending {
                    at_ns: *at_ns,
                    ended_by: *ended_by,
                    whole: *whole,
                });
            }
        }
        Vec::new()
    }

    /// Takes a step that only a tree has.
    fn tree_step(&mut self, step: &StartStep) {
        let Some(followed) = &mut self.followed else {
            return;
        };
        match step {
            StartStep::Command { pid } => followed.command(*pid),
            StartStep::Binary {
                number,
                info,
                dynamic,
                merged,
            } => {
                if *dynamic {
                    self.open.set_dynamic(*number);
                }
                followed.set_program(*number, info.clone(), merged.clone());
            }
            StartStep::Outlived { processes } => {
                followed.tree.outlived = followed.tree.outlived.saturating_add(*processes);
            }
            StartStep::Gate {
                watched_file_systems,
                not_watched,
                execs_of_others,
                released_unprobed,
            } => {
                followed.tree.watched_file_systems = *watched_file_systems;
                followed.tree.not_watched = not_watched.clone();
                followed.tree.execs_of_others = *execs_of_others;
                followed.tree.released_unprobed = *released_unprobed;
            }
            _ => {}
        }
    }

    /// Opens the window, unless it is open.
    fn open(&mut self, now_ns: u64, started_at: jiff::Timestamp) {
        if self.begin_ns == 0 {
            self.started_at = started_at;
            (self.begin_ns, self.interval_from_ns) = (now_ns, now_ns);
        }
    }

    /// Takes what was observed. Returns the starts that have ended by it, where each is worth a line of its own.
    pub fn observe(&mut self, observations: &[Observation]) -> Vec<Short> {
        let mut ended = Vec::new();
        for observation in observations {
            if let Some(followed) = &mut self.followed {
                followed.executed(observation);
            }
            match &observation.kind {
                Kind::Hits(hits) => self.hits = self.hits.saturating_add(*hits),
                Kind::Loss(loss) => self.lost = self.lost.saturating_add(loss.count),
                _ => ended.extend(self.open.observe(observation)),
            }
        }
        self.take(ended)
    }

    /// Ends the starts that are open.
    fn cut(&mut self, now_ns: u64) -> Vec<Short> {
        let open = self.open.open();
        let cut = open
            .into_iter()
            .filter_map(|pid| self.open.cut(pid, now_ns))
            .collect();
        self.take(cut)
    }

    fn take(&mut self, ended: Vec<Start>) -> Vec<Short> {
        let mut shorts = Vec::new();
        for start in ended {
            if let Some(followed) = &mut self.followed {
                followed.add(start, self.begin_ns);
                continue;
            }
            match start.ended.is_whole() {
                true => self.runs += 1,
                false => self.unfinished += 1,
            }
            self.cut += u64::from(start.ended == Ended::Unfinished);
            self.times.add(&start);
            self.interval.add(&start);
            if self.program.several {
                shorts.push(init::short(&start, self.begin_ns));
            }
            if self.ended.len() < MOST_KEPT {
                self.ended.push(start);
            }
        }
        shorts
    }

    /// Whether the starts are those of a command's tree.
    pub fn is_followed(&self) -> bool {
        self.followed.is_some()
    }

    /// Whether the latencies of the process are captured afterwards, which intervals are of then.
    pub fn latencies_follow(&self) -> bool {
        self.program.latencies_follow
    }

    /// Ends the interval that is open, and returns it.
    pub fn interval(&mut self, now_ns: u64) -> StartsInterval {
        let (begin_ns, from_ns) = (self.begin_ns, self.interval_from_ns);
        self.interval_from_ns = now_ns;
        match &mut self.followed {
            Some(followed) => followed.interval(begin_ns, from_ns, now_ns),
            None => StartsInterval::of(&std::mem::take(&mut self.interval), begin_ns, from_ns, now_ns),
        }
    }

    /// Returns the interval between the last one's end and the window's; `None` before the last step.
    pub fn last_interval(&mut self) -> Option<StartsInterval> {
        let end_ns = self.ending?.at_ns;
        Some(self.interval(end_ns))
    }

    /// Whether the last step has come.
    pub fn is_finished(&self) -> bool {
        self.ending.is_some()
    }

    /// Returns how the program started, and what stood out in that: the part of a capture of the latencies behind it.
    pub fn part(&self) -> (Init, Vec<Finding>) {
        (self.init(), self.findings())
    }

    /// Returns the remarks for a reader of the figures.
    pub fn notes(&self) -> impl Iterator<Item = &Untrusted> {
        self.notes.iter().chain(&self.program.missing)
    }

    /// Returns what is missing from the starts, if anything.
    pub fn shortcoming(&self) -> Option<String> {
        if self.lost > 0 {
            return Some(format!("{} marks of the start were lost", self.lost));
        }
        if self.missed > 0 {
            return Some(format!("{} starts were not traced", self.missed));
        }
        // Whoever asked for so many starts did not ask for those that were under way when these had ended.
        let surplus = match self.ending {
            Some(Ending {
                ended_by: EndedBy::Starts,
                whole: true,
                ..
            }) => self.cut,
            _ => 0,
        };
        // In a tree they are usual: a shell's child that only looks whether it could start.
        match (self.followed.is_none(), self.unfinished.saturating_sub(surplus)) {
            (false, _) | (_, 0) => None,
            (true, 1) => Some("1 start did not come to its end".to_owned()),
            (true, n) => Some(format!("{n} starts did not come to their end")),
        }
    }

    /// Makes the document; `None` before the last step.
    pub fn capture(&mut self) -> Option<Capture> {
        let ending = self.ending?;
        let mut notes = std::mem::take(&mut self.notes);
        notes.append(&mut self.program.missing);
        let shown = self.shown();
        let mut target = self.subject();
        target.pid = shown.map(|start| start.pid).or(self.command).unwrap_or(0);
        target.cgroup_cpu_limit = self.environment.cgroup_cpu_limit;
        target.gomaxprocs = shown.and_then(|start| start.gomaxprocs);
        let followed = self.followed.as_ref();
        let whole = ending.whole && followed.is_none_or(Followed::is_complete);
        let duration_ns = ending.at_ns.saturating_sub(self.begin_ns);
        let info = CaptureInfo {
            complete: whole && self.shortcoming().is_none(),
            events: followed.map_or(self.runs + self.unfinished, Followed::ended),
            lost_events: self.lost,
            attached_by: self.attached_by,
            probe_hits: self.hits,
            notes,
            ..CaptureInfo::new(CaptureMode::Init, self.started_at, duration_ns, ending.ended_by)
        };
        Some(Capture {
            ongoing: Ongoing::of_starts(followed.map_or(self.ended.as_slice(), Followed::unfinished)),
            init: Some(self.init()),
            findings: self.findings(),
            ..Capture::new(target, info)
        })
    }

    fn init(&self) -> Init {
        let init = match &self.followed {
            Some(followed) => followed.init(),
            None => Init {
                runs: self.runs,
                unfinished: self.unfinished,
                ..init::build(&self.ended, &self.times, self.begin_ns)
            },
        };
        Init {
            missed: self.missed,
            merged: self.program.merged.clone(),
            ..init
        }
    }

    fn findings(&self) -> Vec<Finding> {
        if let Some(followed) = &self.followed {
            return followed.findings(&self.environment);
        }
        let Some(start) = init::shown(&self.ended) else {
            return Vec::new();
        };
        let others: Vec<Start> = self
            .ended
            .iter()
            .filter(|other| other.ended.is_whole() && !std::ptr::eq(*other, start))
            .cloned()
            .collect();
        findings::find(&Evidence {
            start,
            others: &others,
            cgroup_cpu_limit: self.environment.cgroup_cpu_limit,
            throttled: self.environment.throttled,
            godebug: self.environment.godebug.as_deref(),
            go_minor: self.program.target.go_minor(),
        })
    }

    /// The start that the head of the capture describes.
    fn shown(&self) -> Option<&Start> {
        match &self.followed {
            Some(followed) => followed.own(),
            None => init::shown(&self.ended),
        }
    }

    /// The program that the capture is of: in a tree the one that the command itself was seen to run.
    fn subject(&self) -> TargetInfo {
        let own = self
            .followed
            .as_ref()
            .and_then(|followed| followed.info(followed.own()?.binary));
        own.unwrap_or(&self.program.target).clone()
    }
}

#[cfg(test)]
mod tests;
