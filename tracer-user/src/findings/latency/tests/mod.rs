//! Each rule fires on made-up evidence, is silent on its twin, and says so in a mode that cannot know.

mod causes;
mod events;
mod gauges;
mod goroutines;
mod limits;
mod ongoing;
mod waits;

use std::collections::BTreeSet;

use super::*;
use crate::{
    escape::Untrusted,
    findings::{Finding, Undecided},
    latency::Latency,
    model::{
        Model,
        estimate::{CauseEstimate, CauseShare},
        sched::{Cause, CauseReport, CausesReport, Report, Sched, SlowestWait, Who},
    },
    plan::Mode,
    process::{Halt, limits::Limits},
    stream::{
        BucketScheme, HistogramDelta, HistogramKey, Kind, Observation, Origin, SchedConfig, Snapshot,
        Symbolizer, step::Halted,
    },
};

/// End of each window, which begins at 0.
const END_NS: u64 = 10_000_000_000;
/// Length of each window, for means.
const WINDOW_NS: u64 = 2 * SECOND;
const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

struct Named;

impl Symbolizer for Named {
    fn function_at(&self, gopc: u64) -> Option<Untrusted> {
        match gopc {
            0x1000 => Some("main.fan".into()),
            0x7000 => Some("runtime.gcBgMarkStartWorkers".into()),
            _ => None,
        }
    }
}

/// Made-up evidence.
struct Made<'a> {
    mode: Mode,
    observations: Vec<Observation>,
    report: Option<Report>,
    estimate: Option<CauseEstimate>,
    gomaxprocs: Option<u32>,
    cgroup_cpu_limit: Option<f64>,
    go_minor: Option<u32>,
    limits: Limits,
    halted: &'a [Halted],
}

impl Made<'_> {
    /// Evidence of a mode in which nothing was seen.
    fn of(mode: Mode) -> Self {
        Self {
            mode,
            observations: Vec::new(),
            report: (mode == Mode::Full).then(report),
            estimate: None,
            gomaxprocs: None,
            cgroup_cpu_limit: None,
            go_minor: Some(24),
            limits: Limits::default(),
            halted: &[],
        }
    }

    /// Evidence of `full`, with this report changed.
    fn full(change: impl FnOnce(&mut Report)) -> Self {
        let mut made = Self::of(Mode::Full);
        change(made.report.as_mut().unwrap());
        made
    }

    fn seeing(mut self, observations: &[Observation]) -> Self {
        self.observations.extend_from_slice(observations);
        self
    }

    fn found(&self) -> Found {
        let (mut latency, mut model) = (Latency::new(BucketScheme::Kernel), Model::default());
        for observation in &self.observations {
            latency.observe(observation);
            model.observe(observation);
        }
        let ongoing = model.ongoing(0, END_NS);
        find(&Evidence {
            mode: self.mode,
            latency: &latency,
            knows_yields: matches!(self.mode, Mode::Exact | Mode::Full),
            model: &model,
            ongoing: ongoing.as_ref(),
            report: self.report.as_ref(),
            causes: self.report.as_ref().map(|report| &report.causes),
            estimate: self.estimate.as_ref(),
            symbolizer: &Named,
            cgroup_cpu_limit: self.cgroup_cpu_limit,
            gomaxprocs: self.gomaxprocs,
            go_minor: self.go_minor,
            limits: &self.limits,
            halted: self.halted,
            begin_ns: 0,
            window_ns: WINDOW_NS,
        })
    }

    /// The finding of a rule that fires.
    fn fires(&self, id: &str) -> Finding {
        let found = self.found();
        let finding = found.findings.iter().find(|finding| finding.id == *id);
        finding
            .unwrap_or_else(|| panic!("{id} does not fire: {found:#?}"))
            .clone()
    }

    /// Checks that a rule neither fires nor is undecided.
    fn is_silent(&self, id: &str) {
        let found = self.found();
        let fires = found.findings.iter().any(|finding| finding.id == *id);
        let is_undecided = found.undecided.iter().any(|undecided| undecided.id == *id);
        assert!(!fires && !is_undecided, "{id} is not silent: {found:#?}");
    }

    /// What a rule that this mode cannot decide says.
    fn is_undecided(&self, id: &str) -> Undecided {
        let found = self.found();
        let fires = found.findings.iter().any(|finding| finding.id == *id);
        assert!(!fires, "{id} fires: {found:#?}");
        let undecided = found.undecided.iter().find(|undecided| undecided.id == *id);
        undecided
            .unwrap_or_else(|| panic!("{id} is decided: {found:#?}"))
            .clone()
    }
}

/// A report of `full` in which nothing was seen but that threads ran.
fn report() -> Report {
    let config = SchedConfig {
        minor: 24,
        syscalls: false,
        slower_ns: None,
        assists: false,
    };
    let mut report = Sched::new(config).report(END_NS);
    report.causes = CausesReport::default();
    report.world.on_cpu_ns = SECOND;
    report
}

/// What goroutines waited for, in nanoseconds.
fn caused(causes: &[(Cause, u64)]) -> CausesReport {
    let all_ns = causes.iter().map(|(_, ns)| ns).sum();
    CausesReport {
        runnable_ns: all_ns,
        by_cause: causes
            .iter()
            .map(|(cause, ns)| CauseReport {
                cause: *cause,
                total_ns: *ns,
                ongoing_ns: 0,
                waits: None,
            })
            .collect(),
        ..CausesReport::default()
    }
}

/// A wait of goroutine 7 of `main.fan`, from the first second on.
fn slow_wait(duration_ns: u64, causes: &[(Cause, u64)]) -> SlowestWait {
    SlowestWait {
        begin_ns: SECOND,
        duration_ns,
        ongoing: false,
        who: Who {
            goid: 7,
            gopc: 0x1000,
        },
        origin: None,
        after: None,
        wakers: Vec::new(),
        causes: causes.to_vec(),
        behind: None,
        picture: None,
    }
}

/// Waits of one histogram: (length, count) each.
/// So many waits of so long, the shortest first.
fn delta(key: HistogramKey, waits: &[(u64, u64)]) -> HistogramDelta {
    let scheme = BucketScheme::Kernel;
    let counts = waits
        .iter()
        .map(|(ns, count)| (scheme.index_of(*ns), *count))
        .collect();
    HistogramDelta {
        key,
        scheme,
        counts,
        sum_ns: Some(waits.iter().map(|(ns, count)| ns * count).sum()),
        extremes_ns: None,
        excluded_zero: 0,
    }
}

fn observation(key: HistogramKey, waits: &[(u64, u64)]) -> Observation {
    let delta = delta(key, waits);
    Observation {
        at_ns: 0,
        kind: Kind::HistogramDelta(delta),
    }
}

/// A reading of the gauges at this time.
fn reading(at_ns: u64, snapshot: Snapshot) -> Observation {
    Observation {
        at_ns,
        kind: Kind::Snapshot(Box::new(snapshot)),
    }
}

/// Two readings between which the collector made so many pauses of so many nanoseconds in all.
fn paused(pauses: u64, total_ns: u64) -> [Observation; 2] {
    let at = |at_ns, pauses, total_ns| {
        reading(
            at_ns,
            Snapshot {
                stw_pauses: Some((pauses, 0)),
                stw_total_ns: Some((total_ns, 0)),
                ..Snapshot::default()
            },
        )
    };
    [at(0, 10, SECOND), at(WINDOW_NS, 10 + pauses, SECOND + total_ns)]
}

/// The findings of `exact`.
fn found(observations: &[Observation], gomaxprocs: Option<u32>, limit: Option<f64>) -> Vec<Finding> {
    found_of(observations, gomaxprocs, limit, &[])
}

fn found_of(
    observations: &[Observation],
    gomaxprocs: Option<u32>,
    limit: Option<f64>,
    halted: &[Halted],
) -> Vec<Finding> {
    let made = Made {
        gomaxprocs,
        cgroup_cpu_limit: limit,
        halted,
        ..Made::of(Mode::Exact)
    };
    made.seeing(observations).found().findings
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.id.as_str()).collect()
}

/// The page that describes the rules has each of them, and no other.
#[test]
fn every_rule_has_a_line_in_the_documentation() {
    let page = include_str!("../../../../../docs/findings.md");
    let described: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(id, _)| id)
        .collect();
    let rules: Vec<&str> = rules().iter().map(|rule| rule.id).collect();
    let known: BTreeSet<&str> = rules.iter().copied().collect();
    assert_eq!(known.len(), rules.len(), "two rules have one name: {rules:?}");
    assert_eq!(described, known);
}

#[test]
fn where_nothing_was_seen_nothing_stands_out() {
    for mode in Mode::ALL {
        assert_eq!(Made::of(mode).found().findings, [], "{mode}");
    }
    // All that `full` sees is decided.
    assert_eq!(Made::of(Mode::Full).found().undecided, []);
    // What another mode would see is named, with a mode that costs more.
    for mode in [Mode::Passive, Mode::Sampled, Mode::Exact] {
        let undecided = Made::of(mode).found().undecided;
        assert!(undecided.len() > 5, "{mode}: {undecided:#?}");
        assert!(
            undecided
                .iter()
                .all(|one| one.mode > mode && !one.what.is_empty())
        );
    }
}
