//! What makes and checks the Debian package: cargo-deb, which no package index carries compiled, and Debian's own
//! lintian.

use std::process::Command;

use anyhow::Result;

use crate::{paths, step};

/// The version that the metadata in tracer-user/Cargo.toml is written for.
pub const CARGO_DEB_VERSION: &str = "3.8.0";

/// Whether cargo-deb is in the cache, in this version: another one might lay out the package otherwise.
pub fn is_there() -> Result<bool> {
    let program = paths::cached_tools()?.join("cargo-deb");
    let said = step::output(Command::new(program).arg("--version"));
    Ok(said.is_ok_and(|said| said.split_whitespace().last() == Some(CARGO_DEB_VERSION)))
}

/// System packages that are missing to check a package.
pub fn missing_packages() -> Vec<String> {
    let missing = ["lintian"]
        .into_iter()
        .filter(|tool| paths::on_path(tool).is_none());
    missing.map(str::to_owned).collect()
}

/// `cargo deb`, to be run in the root of the repository.
pub fn cargo_deb() -> Result<Command> {
    let mut command = Command::new(paths::cached_tools()?.join("cargo-deb"));
    command.arg("deb").current_dir(paths::root());
    Ok(command)
}

/// Compiles cargo-deb: a minute.
pub fn install() -> Result<()> {
    let mut cargo = paths::cargo();
    cargo
        .args([
            "install",
            "cargo-deb",
            "--locked",
            "--force",
            "--version",
            CARGO_DEB_VERSION,
        ])
        .arg("--root")
        .arg(paths::cache()?.join("tools"));
    step::quiet(&format!("compiling cargo-deb {CARGO_DEB_VERSION}"), &mut cargo)
}
