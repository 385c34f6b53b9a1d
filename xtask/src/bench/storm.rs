//! `cargo xtask bench storm`: attaches and detaches over and over, and checks each time that the target was not
//! harmed; done by a program of the tests crate.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::{markdown, measuring_program};
use crate::setup::{self, Component};
use crate::{go, paths, step};

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
    let folder = paths::target().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let file = folder.join("storm.md");
    let seed = args.seed.unwrap_or_else(now);
    println!("seed {seed}");
    cargo
        .args([args.rounds.to_string(), seed.to_string()])
        .arg(&file)
        .args(&args.only);
    step::run("a storm of attaching and detaching", &mut cargo)?;
    let table = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let text = format!("Run on {}; Go {}.\n\n{table}", markdown::machine(), go::NEWEST);
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
