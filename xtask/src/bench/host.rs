//! `cargo xtask bench host`: what the kernel side of a watched host costs, measured by a program of the tests crate.

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::{markdown, tables};
use crate::setup::{self, Component};
use crate::{go, paths};

/// What the kernel side of a host costs.
#[derive(clap::Args)]
pub struct Args {
    /// Write the table into docs/overhead.md
    #[arg(long)]
    write: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
    let output = paths::cargo()
        .args(["run", "--release", "--package", "gmpscope-tests", "--bin", "host"])
        .env("GMPSCOPE_CACHE", paths::cache()?)
        .env("GMPSCOPE_GO_ROOTS", std::env::join_paths(go::installed_roots()?)?)
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!("measuring the kernel side of a host: {}", output.status);
    }
    let table = String::from_utf8(output.stdout)?;
    let text = format!("Measured on {}.\n\n{table}", tables::place());
    markdown::publish("docs/overhead.md", "cargo xtask bench host", &text, args.write)
}
