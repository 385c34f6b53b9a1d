//! `cargo xtask bench rules`: on which programs findings are reported, and that they are not on their twins; made by a
//! program of the tests crate.

use anyhow::{Context, Result};

use super::{markdown, measuring_program};
use crate::setup::{self, Component};
use crate::{go, step};

/// Run a program for each finding, and its twin.
#[derive(clap::Args)]
pub struct Args {
    /// Write the table into docs/causes.md
    #[arg(long)]
    write: bool,
}

/// Runs the command, which fails if a finding is not reported on its program, or is on the twin.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
    let mut cargo = measuring_program("rules", false)?;
    let scratch = tempfile::tempdir()?;
    let table = scratch.path().join("table.md");
    cargo.arg(&table);
    step::run("findings on programs and their twins", &mut cargo)?;
    let table = std::fs::read_to_string(&table).with_context(|| format!("reading {}", table.display()))?;
    let text = format!("{}; Go {}:\n\n{table}", markdown::machine(), go::NEWEST);
    markdown::publish("docs/causes.md", "cargo xtask bench rules", &text, args.write)
}
