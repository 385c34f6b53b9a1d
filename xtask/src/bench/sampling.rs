//! `cargo xtask bench sampling`: what samples of why goroutines wait cost gmpscope itself, in a capture and in the
//! daemon; measured by a program of the tests crate.

use std::fs;

use anyhow::{Context, Result};

use super::{markdown, measuring_program};
use crate::setup::{self, Component};
use crate::{go, paths, step};

/// What sampling costs.
#[derive(clap::Args)]
pub struct Args {
    /// Write the table into docs/overhead.md
    #[arg(long)]
    write: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
    let mut cargo = measuring_program("sampling", true)?;
    let folder = paths::target().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let file = folder.join("sampling.md");
    step::run("samples of why goroutines wait", cargo.arg(&file))?;
    let table = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let text = format!(
        "Measured on {}; Go {}.\n\n{table}",
        markdown::machine(),
        go::NEWEST
    );
    markdown::publish(
        "docs/overhead.md",
        "cargo xtask bench sampling",
        &text,
        args.write,
    )
}
