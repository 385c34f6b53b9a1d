//! Attaches and detaches over and over, and checks each time whether that did any harm: the table of docs/security.md.
//! `storm ROUNDS SEED [KIND] FILE` writes it to FILE; KIND restricts it to one mode, as the table names it. Exits with
//! status 1 if anything was wrong.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use gmpscope_tests::storm::{self, Kind, Options};

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (rounds, seed, file, only) = match words.as_slice() {
        [rounds, seed, file] => (rounds, seed, file, None),
        [rounds, seed, kind, file] => {
            let kind = Kind::named(kind).with_context(|| format!("there are no rounds called {kind:?}"))?;
            (rounds, seed, file, Some(kind))
        }
        other => bail!("not `ROUNDS SEED [KIND] FILE`: {other:?}"),
    };
    let options = Options {
        rounds: rounds.parse().context("ROUNDS is not a number")?,
        seed: seed.parse().context("SEED is not a number")?,
        fault: None,
        only,
    };
    let report = storm::run(options, |line| println!("   {line}"))?;
    let table = report.table();
    println!("\n{table}");
    std::fs::write(file, table).with_context(|| format!("writing {file}"))?;
    Ok(match report.wrong.as_slice() {
        [] => ExitCode::SUCCESS,
        wrong => {
            eprintln!("{} things were wrong:\n{}", wrong.len(), wrong.join("\n"));
            ExitCode::FAILURE
        }
    })
}
