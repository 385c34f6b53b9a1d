//! Prometheus, which scrapes the daemon: the machine's own, else Debian's, unpacked into the cache. It is not
//! installed, since Debian's package would start a server.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use super::archive::fetch_and_unpack;
use super::{apt, put, scratch};
use crate::{paths, step};

/// The server, and the checker of expositions.
const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// Whether both programs start.
pub fn is_there() -> Result<bool> {
    let folder = folder()?;
    Ok(PROGRAMS
        .iter()
        .all(|name| step::output(Command::new(folder.join(name)).arg("--version")).is_ok()))
}

/// The folder of both programs.
pub fn folder() -> Result<PathBuf> {
    let installed = paths::on_path("prometheus").and_then(|program| Some(program.parent()?.to_owned()));
    match installed.filter(|folder| folder.join("promtool").is_file()) {
        Some(folder) => Ok(folder),
        None => Ok(unpacked()?.join("usr/bin")),
    }
}

/// Fetches and unpacks it. It needs nothing but the C library.
pub fn install() -> Result<()> {
    apt::update()?;
    let place = scratch()?;
    let root = place.path().join("root");
    fs::create_dir(&root)?;
    let mut download = Command::new("apt-get");
    download.args(["-q", "-o", "APT::Sandbox::User=root", "download", "prometheus"]);
    fetch_and_unpack(&mut download, "prometheus", &root)?;
    put(&root, &unpacked()?, "usr/bin/prometheus")?;
    if !is_there()? {
        bail!(
            "Prometheus was unpacked into {} and does not start",
            unpacked()?.display()
        );
    }
    Ok(())
}

fn unpacked() -> Result<PathBuf> {
    Ok(paths::cache()?.join("tools/prometheus"))
}
