//! `cargo xtask bench rules`: on which programs findings are reported, and that they are not on their twins; made by a
//! program of the tests crate.

use anyhow::Result;

use super::tables::MadeTable;

/// Run a program for each finding, and its twin.
#[derive(clap::Args)]
pub struct Args {
    /// Write the table into docs/causes.md
    #[arg(long)]
    write: bool,
}

const TABLE: MadeTable = MadeTable {
    program: "rules",
    is_release: false,
    what: "findings on programs and their twins",
    document: "docs/causes.md",
    head: |place| format!("{place}:"),
};

/// Runs the command, which fails if a finding is not reported on its program, or is on the twin.
pub fn run(args: &Args) -> Result<()> {
    TABLE.run(args.write)
}
