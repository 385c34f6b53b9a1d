//! `cargo xtask bench hit`: the cost of one probe hit, compared with that of an empty BPF program at the same
//! instruction of the same process.

use std::fmt::Write;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::column::{Column, Tools};
use super::rounds::{PROGRAMS, Program, Rounds, measure};
use super::statistics::{Spread, spread};
use super::{gmpscope, markdown};
use crate::go::{self, Symbols};
use crate::paths;
use crate::setup::{self, Component};

/// Measure the cost of one hit.
#[derive(clap::Args)]
pub struct Args {
    /// How often each column is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one measurement, in milliseconds
    #[arg(long, default_value_t = 1000)]
    window_ms: u64,
    /// Write the table into docs/overhead.md
    #[arg(long)]
    write: bool,
    /// Only these programs
    programs: Vec<String>,
}

/// Each mode, and the same mode with empty programs.
const PAIRS: [(Column, Column); 4] = [
    (Column::Full, Column::FullEmpty),
    (Column::SharedRing, Column::FullEmpty),
    (Column::Exact, Column::ExactEmpty),
    (Column::Sampled, Column::SampledEmpty),
];
/// Everything that is measured in a round.
const COLUMNS: [Column; 8] = [
    Column::Untraced,
    Column::Full,
    Column::SharedRing,
    Column::FullEmpty,
    Column::Exact,
    Column::ExactEmpty,
    Column::Sampled,
    Column::SampledEmpty,
];

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST), Component::Bench])?;
    let gmpscope = gmpscope()?;
    let scratch = paths::target().join("bench");
    fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
    let mut text = format!(
        "Measured on {}; Go {}; medians of {} rounds of {} ms [least..greatest]. Added CPU time of the target per \
         hit, in ns.\n\n\
         | program | mode | Ps | hits per iteration | empty program | ours | ours ÷ empty |\n\
         |---|---|--:|--:|--:|--:|--:|\n",
        markdown::machine(),
        go::NEWEST,
        args.rounds,
        args.window_ms
    );
    for program in PROGRAMS {
        if !args.programs.is_empty() && !args.programs.iter().any(|wanted| wanted == program.name) {
            continue;
        }
        let binary = go::build(go::NEWEST, program.name, Symbols::Kept)?;
        let tools = Tools {
            gmpscope: &gmpscope,
            workload: &binary,
            scratch: &scratch,
        };
        let window = Duration::from_millis(args.window_ms);
        for gomaxprocs in processors(&program) {
            let program = Program {
                gomaxprocs,
                ..program
            };
            let rounds = measure(&program, &COLUMNS, args.rounds, window, &tools)
                .with_context(|| format!("measuring {} on {gomaxprocs} Ps", program.name))?;
            for (ours, empty) in PAIRS {
                let row = row(&rounds, ours, empty).context("no round was measured")?;
                writeln!(text, "| {} | {} | {gomaxprocs} |{row}", program.name, ours.name())?;
            }
        }
    }
    markdown::publish_for_maker("docs/overhead.md", "cargo xtask bench hit", &text, args.write)
}

/// On how many Ps a program is measured: on one, and, if it uses several, on as many as there are CPUs, to see how much they
/// slow each other down.
fn processors(program: &Program) -> Vec<u32> {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let all = u32::try_from(cpus).unwrap_or(1);
    match program.gomaxprocs {
        1 => vec![1],
        _ => vec![1, all],
    }
}

/// The cells of a row after program and mode; `None` if no round was measured.
fn row(rounds: &Rounds, ours: Column, empty: Column) -> Option<String> {
    // Empty programs do not count their hits, but they are hit as often as ours.
    let hits = spread(rounds.iter().filter_map(|round| {
        let sample = round.get(&ours)?;
        Some(sample.own?.hits / sample.rate)
    }))?;
    let added = |column| {
        spread(rounds.iter().filter_map(|round| {
            Some((round.get(&column)?.cpu_ns - round.get(&Column::Untraced)?.cpu_ns) / hits.median)
        }))
    };
    let ratio = spread(rounds.iter().filter_map(|round| {
        let untraced = round.get(&Column::Untraced)?.cpu_ns;
        Some((round.get(&ours)?.cpu_ns - untraced) / (round.get(&empty)?.cpu_ns - untraced))
    }))?;
    let show =
        |s: Spread, digits: usize| format!("{:.digits$} [{:.digits$}..{:.digits$}]", s.median, s.low, s.high);
    Some(format!(
        " {:.3} | {} | {} | {} |",
        hits.median,
        show(added(empty)?, 0),
        show(added(ours)?, 0),
        show(ratio, 2)
    ))
}
