//! Runs a program for each finding, and its twin without the pathology, and writes the table of what was reported to the
//! file given as argument. Exits with status 1 if anything is not as it must be.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

fn main() -> Result<ExitCode> {
    let file = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .context("name the file to write the table into")?;
    let report = gmpscope_tests::rules::table::report(|row| eprintln!("{row}"))?;
    std::fs::write(&file, &report.table).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(match report.wrong.as_slice() {
        [] => ExitCode::SUCCESS,
        wrong => {
            eprintln!(
                "{} findings are not as they must be:\n{}",
                wrong.len(),
                wrong.join("\n")
            );
            ExitCode::FAILURE
        }
    })
}
