//! `cargo xtask bench storm`: attaches and detaches over and over, and checks each time that the target was not
//! harmed; done by a program of the tests crate.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::{markdown, measuring_program, tables};
use crate::go;
use crate::setup::{self, Component};

/// Whether attaching and detaching over and over harms a program.
#[derive(clap::Args)]
pub struct Args {
    /// Rounds of attaching and detaching
    #[arg(long, default_value_t = 1_000)]
    rounds: u32,
    /// Seed of the random choices; a new one each time by default
    #[arg(long)]
    seed: Option<u64>,
    /// Only rounds of this mode, as the table names it
    #[arg(long, value_name = "MODE", conflicts_with = "write")]
    only: Option<String>,
    /// Write the table into docs/security.md
    #[arg(long)]
    write: bool,
}

/// Runs the command, which fails if a check fails.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Bpf, Component::Cgo, Component::Go(go::NEWEST)])?;
    let mut cargo = measuring_program("storm", true)?;
    let seed = args.seed.unwrap_or_else(now);
    println!("seed {seed}");
    cargo
        .args([args.rounds.to_string(), seed.to_string()])
        .args(&args.only);
    let table = tables::written_by("a storm of attaching and detaching", &mut cargo)?;
    let text = format!("Run on {}.\n\n{table}", tables::place());
    if args.write {
        markdown::write_into("docs/security.md", "cargo xtask bench storm", &text)?;
    }
    Ok(())
}

/// Seconds since the epoch.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
