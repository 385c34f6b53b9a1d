//! Who we are: attaching needs root, and so does installing packages.

use std::process::Command;

use anyhow::{Result, bail};

use crate::paths;

/// Whether we are root, going by the owner of our own /proc folder (no library call needed).
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|proc| proc.uid() == 0)
}

/// `program` as root: as it is if we are root, else by `sudo`, else an error that says what to type.
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
