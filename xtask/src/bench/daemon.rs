//! `cargo xtask bench daemon` and `bench soak`: what the daemon costs a host, and whether its memory and descriptors
//! grow over time; measured by a program of the tests crate.

use anyhow::Result;

use super::{markdown, measuring_program, tables};
use crate::go;
use crate::setup::{self, Component};

/// What watching a host costs it.
#[derive(clap::Args)]
pub struct CostArgs {
    /// Write the table into docs/daemon.md
    #[arg(long)]
    write: bool,
}

/// Whether the daemon leaks while processes come and go.
#[derive(clap::Args)]
pub struct SoakArgs {
    /// How many minutes to run
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Write the table into docs/daemon.md
    #[arg(long)]
    write: bool,
}

/// `cargo xtask bench daemon`.
pub fn cost(args: &CostArgs) -> Result<()> {
    let table = measured(&["cost"])?;
    finish("cargo xtask bench daemon", &table, args.write)
}

/// `cargo xtask bench soak`.
pub fn soak(args: &SoakArgs) -> Result<()> {
    let seconds = (args.minutes * 60).to_string();
    let table = measured(&["soak", &seconds])?;
    finish("cargo xtask bench soak", &table, args.write)
}

/// Runs the program and returns the table that it writes.
fn measured(arguments: &[&str]) -> Result<String> {
    setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
    let mut cargo = measuring_program("daemon", true)?;
    tables::written_by("the daemon on this host", cargo.args(arguments))
}

fn finish(name: &str, table: &str, write: bool) -> Result<()> {
    let text = format!("Measured on {}.\n\n{table}", tables::place());
    markdown::publish("docs/daemon.md", name, &text, write)
}
