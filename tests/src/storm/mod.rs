//! Attaches and detaches over and over: in every mode, ended in every way, also by SIGKILL at any moment, beside other
//! captures and debuggers, on programs that fork and call C. After each round the programs must compute correctly,
//! their text must be that of their file, and the kernel must hold nothing of ours and have logged no complaint.
//!
//! A seeded generator draws what each round does, so a storm can be repeated; its exact timing is up to the machine.

mod kernel_log;
mod kind;
mod random;
mod round;
mod target;
mod verdict;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::kernel::probing_programs;
use crate::{Variant, toolchain};
use kernel_log::KernelLog;
use kind::Ending;
use random::Random;
use round::{Done, Round};
use target::Target;
use verdict::Found;

pub use kind::Kind;

/// How long the remains of a capture may stay: the kernel removes perf events one after the other.
const PATIENCE: Duration = Duration::from_secs(20);
/// The number of bad rounds after which continuing is of no use.
const MOST_WRONG: usize = 20;
/// How often progress is reported.
const PROGRESS: Duration = Duration::from_secs(10);

/// A deliberate fault, to test whether the storm notices it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A target computes a wrong checksum.
    Checksum,
    /// A capture is not ended.
    Probe,
}

/// The options of a storm.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The number of rounds.
    pub rounds: u32,
    /// The seed of its draws.
    pub seed: u64,
    /// The deliberate fault, if any.
    pub fault: Option<Fault>,
    /// The one kind of round to run, by its name in the table; all if `None`.
    pub only: Option<Kind>,
}

/// Counts of rounds of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// All rounds.
    pub rounds: u32,
    /// Those in which a gmpscope was killed by SIGKILL.
    pub killed: u32,
    /// Those after which something was wrong.
    pub wrong: u32,
}

/// The outcome of a storm.
#[derive(Debug)]
pub struct Report {
    options: Options,
    rows: BTreeMap<Kind, Row>,
    results: u64,
    /// How often the kernel said that it leaks a uprobe.
    leaks: u64,
    left_out: Vec<Kind>,
    /// What was wrong, with its round.
    pub wrong: Vec<String>,
}

/// Runs a storm, and passes progress lines for people to `say`.
///
/// # Errors
/// The storm could not be run. What was wrong is in the report.
pub fn run(options: Options, mut say: impl FnMut(&str)) -> Result<Report> {
    let (mut kinds, left_out) = kind::possible();
    kinds.retain(|kind| options.only.is_none_or(|only| only == *kind));
    ensure!(!kinds.is_empty(), "what such rounds need is not installed");
    for kind in &left_out {
        say(&format!("left out: {}, which is not installed", kind.name()));
    }
    let patience = match options.fault {
        None => PATIENCE,
        Some(_) => Duration::from_secs(2),
    };
    let mut report = Report {
        options,
        rows: BTreeMap::new(),
        results: 0,
        leaks: 0,
        left_out,
        wrong: Vec::new(),
    };
    let mut storm = Storm::new(options, patience)?;
    let mut random = Random::new(options.seed);
    // Each kind once, however few rounds there are; then by weight.
    let mut first = kinds.clone();
    random.shuffle(&mut first);
    let (began, mut said) = (Instant::now(), Instant::now());
    for n in 1..=options.rounds {
        let kind = first.pop().unwrap_or_else(|| kind::drawn(&kinds, &mut random));
        let done = storm.round(kind, &mut random)?;
        let row = report.rows.entry(kind).or_default();
        row.rounds += 1;
        row.killed += u32::from(done.ending.kills());
        row.wrong += u32::from(!done.wrong.is_empty());
        for wrong in done.wrong {
            let line = format!("round {n}, {}, {}: {wrong}", kind.name(), done.ending.name());
            say(&format!("WRONG: {line}"));
            report.wrong.push(line);
        }
        if report.wrong.len() >= MOST_WRONG {
            say("too much is wrong: the storm ends here");
            break;
        }
        if said.elapsed() >= PROGRESS || n == options.rounds {
            said = Instant::now();
            say(&format!(
                "{n} of {} rounds, {} wrong, {} s",
                options.rounds,
                report.wrong.len(),
                began.elapsed().as_secs()
            ));
        }
    }
    report.results = storm.results();
    report.leaks = storm.log.leaks();
    Ok(report)
}

impl Report {
    /// Formats the table of the document.
    pub fn table(&self) -> String {
        let mut all = Row::default();
        let mut text = String::from("| mode | rounds | killed | wrong |\n|---|--:|--:|--:|\n");
        for kind in Kind::ALL {
            let Some(row) = self.rows.get(&kind) else { continue };
            all.rounds += row.rounds;
            all.killed += row.killed;
            all.wrong += row.wrong;
            _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                kind.name(),
                row.rounds,
                row.killed,
                row.wrong
            );
        }
        _ = writeln!(text, "| all | {} | {} | {} |", all.rounds, all.killed, all.wrong);
        _ = write!(
            text,
            "\nSeed {}. Meanwhile the targets checked {} results, those of child processes and of C among them.",
            self.options.seed, self.results
        );
        if self.leaks > 0 {
            _ = write!(
                text,
                " The kernel said {} times that it leaks a uprobe: it kept some hundred bytes of its own memory.",
                self.leaks
            );
        }
        for kind in &self.left_out {
            _ = write!(text, " Left out: {}, which is not installed.", kind.name());
        }
        text.push('\n');
        text
    }
}

/// What is kept from round to round.
struct Storm {
    options: Options,
    patience: Duration,
    targets: Vec<Target>,
    log: KernelLog,
    /// BPF programs at probes that existed before the storm.
    others: std::collections::BTreeSet<u32>,
    /// Captures that are deliberately not ended.
    kept: Vec<crate::Tracer>,
    rounds: u32,
    /// Results of targets that have ended.
    past: u64,
}

/// The outcome of a round.
struct Judged {
    ending: Ending,
    wrong: Vec<String>,
}

impl Storm {
    fn new(options: Options, patience: Duration) -> Result<Self> {
        let go = toolchain::newest()?;
        let mut targets = Vec::new();
        for variant in [Variant::Stripped, Variant::Cgo] {
            targets.push(Target::start(
                variant.build(&go, "storm")?,
                variant.name(),
                options.fault,
            )?);
        }
        Ok(Self {
            options,
            patience,
            targets,
            log: KernelLog::open()?,
            others: probing_programs()?,
            kept: Vec::new(),
            rounds: 0,
            past: 0,
        })
    }

    fn round(&mut self, kind: Kind, random: &mut Random) -> Result<Judged> {
        self.rounds += 1;
        let nth = random.below(self.targets.len() as u64) as usize;
        let target = self.targets.get(nth).context("no target")?;
        let Done {
            ending,
            mut complaints,
        } = Round::new(kind, target, random)?.run()?;
        if self.options.fault == Some(Fault::Probe) && self.rounds == 3 {
            let capture = crate::Attach::to(target.pid()).mode("sampled").start()?;
            self.kept.push(capture);
        }
        let found = self.check()?;
        complaints.extend(verdict::wrong(&found));
        for target in &mut self.targets {
            if let Some(results) = target.restart_if_faulty()? {
                self.past += results;
            }
        }
        Ok(Judged {
            ending,
            wrong: complaints,
        })
    }

    /// Checks again and again until nothing is wrong any more, for as long as the kernel may take.
    fn check(&mut self) -> Result<Found> {
        let end = Instant::now() + self.patience;
        let mut kernel = Vec::new();
        loop {
            kernel.extend(self.log.complaints()?);
            let found = Found {
                targets: self
                    .targets
                    .iter_mut()
                    .map(Target::check)
                    .collect::<Result<_>>()?,
                programs: probing_programs()?.difference(&self.others).count(),
                kernel: kernel.clone(),
            };
            if !verdict::may_change(&found) || Instant::now() > end {
                for (target, state) in self.targets.iter_mut().zip(&found.targets) {
                    target.seen(state);
                }
                return Ok(found);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn results(&self) -> u64 {
        self.past + self.targets.iter().map(Target::results).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_kind_and_their_sum() {
        let row = |rounds, killed, wrong| Row {
            rounds,
            killed,
            wrong,
        };
        let report = Report {
            options: Options {
                rounds: 5,
                seed: 7,
                fault: None,
                only: None,
            },
            rows: BTreeMap::from([(Kind::Run, row(2, 1, 0)), (Kind::Passive, row(3, 1, 1))]),
            results: 12,
            leaks: 0,
            left_out: vec![Kind::Gdb],
            wrong: Vec::new(),
        };
        let table = report.table();
        let rows: Vec<&str> = table.lines().skip(2).take(3).collect();
        assert_eq!(
            rows,
            [
                "| passive | 3 | 1 | 1 |",
                "| run | 2 | 1 | 0 |",
                "| all | 5 | 2 | 1 |"
            ]
        );
        assert!(
            table.contains("Seed 7") && table.contains("not installed"),
            "{table}"
        );
    }
}
