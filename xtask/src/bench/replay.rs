//! The speed and memory of stream and model, measured by a program of the tests crate.

use anyhow::Result;

use crate::setup::{self, Component};
use crate::{paths, step};

/// Runs the command.
pub fn run() -> Result<()> {
    setup::ensure(&[Component::Bpf])?;
    let mut cargo = paths::cargo();
    cargo.args([
        "run",
        "--release",
        "--package",
        "gmpscope-tests",
        "--bin",
        "replay",
    ]);
    step::shown("transitions made in memory", &mut cargo)
}
