//! Measures what each workload that is dominated by a cause, and its twin, waits for, and writes the table to the file
//! given as argument.

use std::path::PathBuf;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let file = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .context("name the file to write the table into")?;
    let table = gmpscope_tests::causes::matrix::table(|row| eprintln!("{row}"))?;
    std::fs::write(&file, table).with_context(|| format!("cannot write {}", file.display()))
}
