//! `cargo xtask bench accuracy`: the agreement tables, made by a program of the tests crate.

use anyhow::Result;

use crate::setup::{self, Component};
use crate::{go, paths, step};

/// Runs the command.
pub fn run() -> Result<()> {
    let mut components = vec![Component::Bpf, Component::Cgo, Component::GoDebian];
    components.extend(go::RELEASES.map(Component::Go));
    setup::ensure(&components)?;
    let gmpscope = super::gmpscope()?;
    let mut cargo = paths::cargo();
    cargo
        .args(["run", "--package", "gmpscope-tests", "--bin", "accuracy"])
        .env("GMPSCOPE_BIN", gmpscope)
        .env("GMPSCOPE_CACHE", paths::cache()?)
        .env("GMPSCOPE_GO_ROOTS", std::env::join_paths(go::installed_roots()?)?)
        .env("GMPSCOPE_TESTS", "full");
    step::run("agreement tables", &mut cargo)
}
