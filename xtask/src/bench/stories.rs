//! `cargo xtask bench stories`: what gmpscope says of a service in trouble, before and after something is done about it;
//! run by a program of the tests crate.

use std::fs;

use anyhow::{Context, Result};

use super::{markdown, measuring_program, tables};
use crate::setup::{self, Component};
use crate::{go, paths, step};

/// The document.
const DOCUMENT: &str = "docs/stories.md";
/// The parts of the document, by the names of the files that the program writes.
const PARTS: [&str; 6] = [
    "throttled",
    "throttled-after",
    "saturated",
    "saturated-after",
    "neighbour",
    "neighbour-after",
];

/// Services in trouble, and what gmpscope says of them.
#[derive(clap::Args)]
pub struct Args {
    /// Length of each capture
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Write the outputs into docs/stories.md
    #[arg(long)]
    write: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
    let mut cargo = measuring_program("stories", true)?;
    let folder = paths::target().join("bench/stories");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    step::run(
        "services in trouble",
        cargo.arg(args.seconds.to_string()).arg(&folder),
    )?;
    let machine = format!("Run on {}.", tables::place());
    markdown::publish(DOCUMENT, "cargo xtask bench stories", &machine, args.write)?;
    for part in PARTS {
        let file = folder.join(format!("{part}.md"));
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let mark = format!("cargo xtask bench stories {part}");
        markdown::publish(DOCUMENT, &mark, &text, args.write)?;
    }
    Ok(())
}
