//! Starts of many binaries, kept apart.

use std::collections::BTreeMap;

use tracer_ebpf::start::binary;

use crate::{
    document::{
        followed::{BinaryOf, TreeOf},
        init::{self, Init, Run, Short},
        interval::StartsInterval,
    },
    findings::{
        Finding,
        start::{self as findings, Evidence},
    },
    latency::start::PhaseTimes,
    model::start::Start,
    stream::{
        Event, Kind, Observation, TargetInfo,
        start::Mark,
        step::{Environment, MergedPhase},
    },
};

/// Most starts that are listed in short.
const MOST_SHORT: usize = 100_000;
/// Starts of each binary that are kept whole, for others to be compared with.
const MOST_WHOLE: usize = 50;
/// Starts of each binary that are described in full: the slowest.
const SLOWEST: usize = 2;
/// Starts that are looked at for what stands out.
const JUDGED: usize = 4;
/// Starts that did not end and are described in full.
const MOST_UNFINISHED: usize = 20;

/// Starts by binary.
#[derive(Default)]
pub struct Followed {
    binaries: BTreeMap<u32, Kept>,
    short: Vec<(u32, Short)>,
    left_out: u64,
    /// Processes of the command itself, and the first start of one.
    commands: Vec<u32>,
    own: Option<Start>,
    unfinished: Vec<Start>,
    /// What was executed, and the counts of the gate.
    pub tree: TreeOf,
    /// Programs executed that are probed.
    traced: u64,
    ended: u64,
}

#[derive(Default)]
struct Kept {
    info: Option<TargetInfo>,
    merged: Vec<MergedPhase>,
    times: PhaseTimes,
    interval: PhaseTimes,
    whole: Vec<Start>,
    /// The slowest first.
    slowest: Vec<Start>,
    unfinished: u64,
}

impl Followed {
    /// Records what is known of a binary, and which of its phases cannot be distinguished.
    pub fn set_program(&mut self, number: u32, info: TargetInfo, merged: Vec<MergedPhase>) {
        let kept = self.binaries.entry(number).or_default();
        (kept.info, kept.merged) = (Some(info), merged);
    }

    /// Returns what is known of a binary.
    pub fn info(&self, number: u32) -> Option<&TargetInfo> {
        self.binaries.get(&number)?.info.as_ref()
    }

    /// Notes a process of the command itself.
    pub fn command(&mut self, pid: u32) {
        self.commands.push(pid);
    }

    /// The command's own first start, if it is a Go program's.
    pub fn own(&self) -> Option<&Start> {
        self.own.as_ref()
    }

    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.tree.unseen == 0 && self.tree.released_unprobed == 0
    }

    /// Starts that have ended.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// Counts a program that was executed.
    pub fn executed(&mut self, observation: &Observation) {
        let Kind::Event(Event::StartMark(mark)) = &observation.kind else {
            return;
        };
        if mark.mark != Mark::Executed {
            return;
        }
        self.tree.execs += 1;
        match u32::try_from(mark.value) {
            Ok(binary::NOT_TRACED) => self.tree.others += 1,
            Ok(number) if binary::is_traced(number) => self.traced += 1,
            _ => self.tree.unseen += 1,
        }
    }

    /// Takes a start that has ended.
    pub fn add(&mut self, start: Start, begin_ns: u64) {
        self.ended += 1;
        match self.short.len() < MOST_SHORT {
            true => self.short.push((start.binary, init::short(&start, begin_ns))),
            false => self.left_out += 1,
        }
        if self.own.is_none() && self.commands.contains(&start.pid) {
            self.own = Some(start.clone());
        }
        let kept = self.binaries.entry(start.binary).or_default();
        kept.times.add(&start);
        kept.interval.add(&start);
        if !start.ended.is_whole() {
            kept.unfinished += 1;
            if self.unfinished.len() < MOST_UNFINISHED {
                self.unfinished.push(start);
            }
            return;
        }
        let slower = kept
            .slowest
            .partition_point(|other| other.duration_ns() >= start.duration_ns());
        if slower < SLOWEST {
            kept.slowest.insert(slower, start.clone());
            kept.slowest.truncate(SLOWEST);
        }
        if kept.whole.len() < MOST_WHOLE {
            kept.whole.push(start);
        }
    }

    /// The interval that ends now.
    pub fn interval(&mut self, begin_ns: u64, from_ns: u64, to_ns: u64) -> StartsInterval {
        let mut binaries = Vec::new();
        for kept in self.binaries.values_mut() {
            let times = std::mem::take(&mut kept.interval);
            if let Some(info) = kept.info.as_ref().filter(|_| times.total().is_some()) {
                binaries.push(BinaryOf::of(info, 0, &times));
            }
        }
        sort(&mut binaries);
        StartsInterval::of_binaries(binaries, begin_ns, from_ns, to_ns)
    }

    /// The part `init` of the capture.
    pub fn init(&self) -> Init {
        let exe = |number: u32| {
            let info = self.binaries.get(&number).and_then(|kept| kept.info.as_ref());
            info.map(|info| info.exe.clone())
        };
        let full = |start: &Start| Run {
            exe: exe(start.binary),
            ..init::run(start)
        };
        let used = self
            .binaries
            .values()
            .filter(|kept| kept.unfinished > 0 || kept.times.total().is_some());
        let mut binaries: Vec<BinaryOf> = used
            .filter_map(|kept| {
                Some(BinaryOf {
                    merged: kept.merged.clone(),
                    ..BinaryOf::of(kept.info.as_ref()?, kept.unfinished, &kept.times)
                })
            })
            .collect();
        sort(&mut binaries);
        let ended_early = self.traced.saturating_sub(self.ended);
        Init {
            runs: binaries.iter().map(|binary| binary.runs).sum(),
            unfinished: binaries.iter().map(|binary| binary.unfinished).sum(),
            run: self.own.as_ref().map(full),
            starts: self
                .short
                .iter()
                .map(|(number, short)| Short {
                    exe: exe(*number),
                    ..short.clone()
                })
                .collect(),
            binaries,
            slowest: self.outstanding().map(full).collect(),
            tree: Some(TreeOf {
                left_out: self.left_out,
                ended_early,
                ..self.tree.clone()
            }),
            ..Init::default()
        }
    }

    /// Starts that did not reach `main.main`, as far as they are kept.
    pub fn unfinished(&self) -> &[Start] {
        &self.unfinished
    }

    /// Starts that are described in full: those that did not end, then the slowest of all.
    fn outstanding(&self) -> impl Iterator<Item = &Start> {
        let mut slowest: Vec<&Start> = self.binaries.values().flat_map(|kept| &kept.slowest).collect();
        slowest.sort_by_key(|start| std::cmp::Reverse(start.duration_ns()));
        self.unfinished.iter().chain(slowest)
    }

    /// What stood out in the starts that are described in full.
    pub fn findings(&self, environment: &Environment) -> Vec<Finding> {
        let mut found: Vec<Finding> = Vec::new();
        for start in self.outstanding().take(JUDGED) {
            let Some(kept) = self.binaries.get(&start.binary) else {
                continue;
            };
            let others: Vec<Start> = kept
                .whole
                .iter()
                .filter(|other| other.begin_ns() != start.begin_ns())
                .cloned()
                .collect();
            let of_start = findings::find(&Evidence {
                start,
                others: &others,
                cgroup_cpu_limit: environment.cgroup_cpu_limit,
                throttled: environment.throttled,
                godebug: environment.godebug.as_deref(),
                go_minor: kept.info.as_ref().and_then(TargetInfo::go_minor),
            });
            let exe = kept.info.as_ref().map_or("", |info| info.exe.raw());
            let name = exe.rsplit('/').next().unwrap_or(exe);
            for mut finding in of_start {
                if finding.id.starts_with("start-phase") {
                    let title = finding.title.raw();
                    finding.title = format!("{name} (process {}): {title}", start.pid).into();
                }
                // What comes from the environment is the same for all of them.
                if !found.contains(&finding) {
                    found.push(finding);
                }
            }
        }
        found
    }
}

/// The binary with the most time in starts first.
fn sort(binaries: &mut [BinaryOf]) {
    let time = |binary: &BinaryOf| binary.total().and_then(|total| total.sum_ns).unwrap_or(0);
    binaries.sort_by_key(|binary| std::cmp::Reverse(time(binary)));
}
