//! `cargo xtask bench causes`: what each workload that is dominated by a cause, and its twin, waits for; made by a program of
//! the tests crate.

use anyhow::{Context, Result};

use super::{markdown, measuring_program};
use crate::setup::{self, Component};
use crate::{go, step};

/// What workloads that are dominated by a cause, and their twins, wait for.
#[derive(clap::Args)]
pub struct Args {
    /// Write the table into docs/causes.md
    #[arg(long)]
    write: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
    let mut cargo = measuring_program("causes", false)?;
    let scratch = tempfile::tempdir()?;
    let table = scratch.path().join("table.md");
    step::run("every workload of a cause and its twin", cargo.arg(&table))?;
    let table = std::fs::read_to_string(&table).with_context(|| format!("reading {}", table.display()))?;
    let text = format!(
        "{}; Go {}; one capture of 2 s each. Percent of all waiting but voluntary yields; `yielded`: of all \
         waiting.\n\n{table}",
        markdown::machine(),
        go::NEWEST
    );
    markdown::publish("docs/causes.md", "cargo xtask bench causes", &text, args.write)
}
