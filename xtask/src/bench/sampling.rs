//! `cargo xtask bench sampling`: what samples of why goroutines wait cost gmpscope itself, in a capture and in the
//! daemon; measured by a program of the tests crate.

use anyhow::Result;

use super::tables::MadeTable;

/// What sampling costs.
#[derive(clap::Args)]
pub struct Args {
    /// Write the table into docs/overhead.md
    #[arg(long)]
    write: bool,
}

const TABLE: MadeTable = MadeTable {
    program: "sampling",
    is_release: true,
    what: "samples of why goroutines wait",
    document: "docs/overhead.md",
    head: |place| format!("Measured on {place}."),
};

/// Runs the command, which fails where sampling costs more than was agreed to.
pub fn run(args: &Args) -> Result<()> {
    TABLE.run(args.write)
}
