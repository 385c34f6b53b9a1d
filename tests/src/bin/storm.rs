//! Attaches and detaches over and over, and looks each time whether that has harmed: the table of docs/security.md.
//! `storm ROUNDS SEED FILE [checksum|probe]` writes it into FILE; with a last word, something is wrong on purpose. Ends
//! with status 1 if anything was wrong.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use gmpscope_tests::storm::{self, Fault, Options};

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (rounds, seed, file, fault) = match words.as_slice() {
        [rounds, seed, file] => (rounds, seed, file, None),
        [rounds, seed, file, "checksum"] => (rounds, seed, file, Some(Fault::Checksum)),
        [rounds, seed, file, "probe"] => (rounds, seed, file, Some(Fault::Probe)),
        other => bail!("not `ROUNDS SEED FILE [checksum|probe]`: {other:?}"),
    };
    let options = Options {
        rounds: rounds.parse().context("ROUNDS is not a number")?,
        seed: seed.parse().context("SEED is not a number")?,
        fault,
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
