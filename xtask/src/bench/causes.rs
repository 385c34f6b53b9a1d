//! `cargo xtask bench causes`: what each workload that is dominated by a cause, and its twin, waits for; made by a program of
//! the tests crate.

use anyhow::Result;

use super::tables::MadeTable;

/// What workloads that are dominated by a cause, and their twins, wait for.
#[derive(clap::Args)]
pub struct Args {
    /// Write the table into docs/causes.md
    #[arg(long)]
    write: bool,
}

const TABLE: MadeTable = MadeTable {
    program: "causes",
    is_release: false,
    what: "every workload of a cause and its twin",
    document: "docs/causes.md",
    head: |place| {
        format!(
            "{place}; one capture of 2 s each. Percent of all waiting but voluntary yields; `yielded`: of all waiting."
        )
    },
};

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    TABLE.run(args.write)
}
