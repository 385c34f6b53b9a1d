//! `cargo xtask bench daemon` and `bench soak`: what the daemon costs a host, and whether its memory and descriptors
//! grow over time; measured by a program of the tests crate.

use std::fs;

use anyhow::{Context, Result};

use super::{markdown, measuring_program};
use crate::setup::{self, Component};
use crate::{go, paths, step};

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
    let folder = paths::target().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let file = folder.join("daemon.md");
    step::run("the daemon on this host", cargo.args(arguments).arg(&file))?;
    fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
}

fn finish(name: &str, table: &str, write: bool) -> Result<()> {
    let text = format!(
        "Measured on {}; Go {}.\n\n{table}",
        markdown::machine(),
        go::NEWEST
    );
    markdown::publish("docs/daemon.md", name, &text, write)
}
