//! `cargo xtask bench overhead`: CPU time of the traced process per iteration. All ways of tracing take turns on one
//! live process, so that the figures of a row come from the same heap, the same threads and the same minute.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::against::{Sides, row};
use super::capture::Predicted;
use super::column::{Column, Tools};
use super::rounds::{PROGRAMS, Program, Rounds, baseline, compare, measure, ratio};
use super::statistics::{Spread, spread};
use super::{gmpscope, markdown};
use crate::go::Symbols;
use crate::setup::{self, Component};
use crate::{go, paths};

/// Measure what each mode costs the traced program.
#[derive(clap::Args)]
pub struct Args {
    /// How often each column is measured
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of one measurement, in milliseconds
    #[arg(long, default_value_t = 1000)]
    window_ms: u64,
    /// Go release that the programs are built with
    #[arg(long, default_value = go::NEWEST)]
    go: String,
    /// Measure with this gmpscope binary and with ours, in turns (A B B A), and print the ratios
    #[arg(long, value_name = "BINARY", conflicts_with = "write")]
    against: Option<PathBuf>,
    /// Write the table into docs/overhead.md
    #[arg(long)]
    write: bool,
    /// Only these programs
    programs: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let Some(&release) = go::RELEASES.iter().find(|release| **release == args.go) else {
        bail!("Go {} is not one of {}", args.go, go::RELEASES.join(", "));
    };
    setup::ensure(&[Component::Bpf, Component::Go(release), Component::Bench])?;
    let gmpscope = gmpscope()?;
    let scratch = paths::target().join("bench");
    fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
    let window = Duration::from_millis(args.window_ms);
    let mut table = Table::new(release, args);
    let sides = match &args.against {
        Some(against) => Some(Sides::new(gmpscope.clone(), against, args.rounds)?),
        None => None,
    };
    let mut compared = String::new();
    for program in PROGRAMS {
        if !args.programs.is_empty() && !args.programs.iter().any(|wanted| wanted == program.name) {
            continue;
        }
        let binary = go::build(release, program.name, Symbols::Kept)?;
        let tools = Tools {
            gmpscope: &gmpscope,
            workload: &binary,
            scratch: &scratch,
        };
        if let Some(sides) = &sides {
            for (column, pairs) in compare(&program, &Column::GMPSCOPE, sides, window, &tools)
                .with_context(|| format!("measuring {}", program.name))?
            {
                let what = format!(
                    "{}, {}: the program's CPU ns per iteration",
                    program.name,
                    column.name()
                );
                compared += &row(&what, &pairs, 1, |sample| sample.cpu_ns);
            }
            continue;
        }
        let rounds = measure(&program, &Column::ALL, args.rounds, window, &tools)
            .with_context(|| format!("measuring {}", program.name))?;
        table.add(&program, &rounds)?;
    }
    if let Some(sides) = sides {
        println!("\n{}", sides.report(&compared));
        return Ok(());
    }
    let text = table.finish();
    markdown::publish_for_maker(
        "docs/overhead.md",
        "cargo xtask bench overhead",
        &text,
        args.write,
    )
}

/// The two tables, as Markdown.
struct Table {
    head: String,
    cpu: String,
    own: String,
}

impl Table {
    fn new(release: &str, args: &Args) -> Self {
        let head = format!(
            "Measured on {}; Go {release}; {} rounds, each way of tracing in every round for {} ms.\n",
            markdown::machine(),
            args.rounds,
            args.window_ms
        );
        let mut cpu = String::from("| program | GOMAXPROCS | one iteration | untraced, CPU ns |");
        let mut rule = String::from("|---|--:|---|--:|");
        for column in Column::ALL.into_iter().skip(1) {
            let name = if column == Column::UntracedAgain {
                "untraced again (A/A)"
            } else {
                column.name()
            };
            cpu.push_str(&format!(" {name} |"));
            rule.push_str("--:|");
        }
        let own = String::from(
            "| program | mode | hits/s | predicted by the hits | measured by gmpscope | measured by this bench | gmpscope's ÷ bench's | lost events, all rounds |\n\
             |---|---|--:|--:|--:|--:|--:|--:|\n",
        );
        Self {
            head,
            cpu: format!("{cpu}\n{rule}\n"),
            own,
        }
    }

    fn add(&mut self, program: &Program, rounds: &Rounds) -> Result<()> {
        let untraced = spread(rounds.iter().flat_map(|round| baseline(round).into_iter()));
        let untraced = untraced.context("no round was measured")?;
        write!(
            self.cpu,
            "| {} | {} | {} | {:.0} [{:.0}..{:.0}] |",
            program.name, program.gomaxprocs, program.iteration, untraced.median, untraced.low, untraced.high
        )?;
        for column in Column::ALL.into_iter().skip(1) {
            let ratios = rounds.iter().filter_map(|round| ratio(round, column));
            let ratios = spread(ratios).context("a column was not measured")?;
            write!(
                self.cpu,
                " ×{:.2} [{:.2}..{:.2}] |",
                ratios.median, ratios.low, ratios.high
            )?;
        }
        self.cpu.push('\n');
        for column in Column::GMPSCOPE {
            let own = || rounds.iter().filter_map(|round| round.get(&column)?.own);
            let hits = spread(own().map(|own| own.hits)).context("no capture")?;
            let predicted = |end: fn(Predicted) -> Option<f64>| {
                spread(own().filter_map(|own| end(own.predicted?))).map(|end| format!("×{:.2}", end.median))
            };
            let low = predicted(|predicted| Some(predicted.low)).unwrap_or("–".to_owned());
            let high = predicted(|predicted| predicted.high).unwrap_or("more".to_owned());
            let stated = spread(own().filter_map(|own| own.measured));
            let benched =
                spread(rounds.iter().filter_map(|round| ratio(round, column))).context("no ratio")?;
            let agreement = spread(
                rounds
                    .iter()
                    .filter_map(|round| Some(round.get(&column)?.own?.measured? / ratio(round, column)?)),
            );
            let shown = |spread: Option<Spread>, sign: &str| match spread {
                Some(spread) => format!(
                    "{sign}{:.2} [{:.2}..{:.2}]",
                    spread.median, spread.low, spread.high
                ),
                None => "–".to_owned(),
            };
            writeln!(
                self.own,
                "| {} | {} | {:.0} | {low} to {high} | {} | {} | {} | {} |",
                program.name,
                column.name(),
                hits.median,
                shown(stated, "×"),
                shown(Some(benched), "×"),
                shown(agreement, ""),
                own().map(|own| own.lost).sum::<u64>()
            )?;
        }
        let rate = spread(
            rounds
                .iter()
                .filter_map(|round| Some(round.get(&Column::Untraced)?.rate)),
        );
        if let Some(rate) = rate {
            println!("   {}: {:.0} iterations/s untraced", program.name, rate.median);
        }
        Ok(())
    }

    fn finish(self) -> String {
        format!(
            "{}\nCPU time of the traced process per iteration; the other columns are ratios to the untraced \
             measurements of the same round. Medians over the rounds [least..greatest].\n\n{}\n{}",
            self.head, self.cpu, self.own
        )
    }
}
