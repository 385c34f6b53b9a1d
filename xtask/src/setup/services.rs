//! Caddy and Syncthing, Go programs as many people run them: Debian's packages, unpacked into the cache. They are not
//! installed, since the packages would start servers.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use super::archive::fetch_and_unpack;
use super::{apt, put, scratch};
use crate::{paths, step};

/// Each program, with the argument by which it prints its version.
const PROGRAMS: [(&str, &str); 2] = [("caddy", "version"), ("syncthing", "--version")];

/// Whether all of them start.
pub fn are_there() -> Result<bool> {
    let folder = folder()?;
    Ok(PROGRAMS
        .iter()
        .all(|(name, version)| step::output(Command::new(folder.join(name)).arg(version)).is_ok()))
}

/// The folder of the programs.
pub fn folder() -> Result<PathBuf> {
    Ok(unpacked()?.join("usr/bin"))
}

/// Fetches and unpacks them. They need nothing but the C library.
pub fn install() -> Result<()> {
    apt::update()?;
    let place = scratch()?;
    let root = place.path().join("root");
    fs::create_dir(&root)?;
    for (name, _) in PROGRAMS {
        let mut download = Command::new("apt-get");
        download.args(["-q", "-o", "APT::Sandbox::User=root", "download", name]);
        fetch_and_unpack(&mut download, name, &root)?;
    }
    put(&root, &unpacked()?, "usr/bin/syncthing")?;
    if !are_there()? {
        bail!(
            "Caddy and Syncthing were unpacked into {} and do not start",
            unpacked()?.display()
        );
    }
    Ok(())
}

fn unpacked() -> Result<PathBuf> {
    Ok(paths::cache()?.join("tools/services"))
}
