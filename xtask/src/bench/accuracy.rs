//! `cargo xtask bench accuracy`: the agreement tables, made by a program of the tests crate.

use anyhow::Result;

use super::measuring_program;
use crate::setup::{self, Component};
use crate::{go, step};

/// Runs the command.
pub fn run() -> Result<()> {
    let mut components = vec![Component::Bpf, Component::Cgo, Component::GoDebian];
    components.extend(go::RELEASES.map(Component::Go));
    setup::ensure(&components)?;
    let mut cargo = measuring_program("accuracy", false)?;
    step::run("agreement tables", cargo.env("GMPSCOPE_TESTS", "full"))
}
