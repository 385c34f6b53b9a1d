//! `cargo xtask bench agreement`: how far mode `full` agrees with `runtime/trace`, transition by transition; made by a
//! program of the tests crate.

use anyhow::Result;

use super::{markdown, measuring_program, tables};
use crate::go;
use crate::setup::{self, Component};

/// Compare mode `full` with `runtime/trace`.
#[derive(clap::Args)]
pub struct Args {
    /// Write the table into docs/accuracy.md
    #[arg(long)]
    write: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let mut components = vec![Component::Bpf, Component::Cgo];
    components.extend(go::RELEASES.map(Component::Go));
    setup::ensure(&components)?;
    let mut cargo = measuring_program("agreement", false)?;
    let table = tables::written_by("full against runtime/trace", cargo.env("GMPSCOPE_TESTS", "full"))?;
    let text = format!("{}, one run of 300 ms each:\n\n{table}", markdown::machine());
    markdown::publish(
        "docs/accuracy.md",
        "cargo xtask bench agreement",
        &text,
        args.write,
    )
}
