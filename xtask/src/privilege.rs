//! Root privileges, which attaching and installing packages need.

use std::process::Command;

use anyhow::{Result, bail};

use crate::paths;

/// Whether this process is root, judged by the owner of /proc/self.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|proc| proc.uid() == 0)
}

/// The command that runs `program` as root: directly if this process is root, else with `sudo`.
///
/// # Errors
/// This process is not root and there is no `sudo`; the error says what to type.
pub fn as_root(program: &str, arguments: &[&str]) -> Result<Command> {
    if is_root() {
        let mut command = Command::new(program);
        command.args(arguments);
        return Ok(command);
    }
    if paths::on_path("sudo").is_none() {
        bail!(
            "this needs root, and there is no sudo. Run as root:\n  {program} {}",
            arguments.join(" ")
        );
    }
    let mut command = Command::new("sudo");
    command.arg("--").arg(program).args(arguments);
    Ok(command)
}
