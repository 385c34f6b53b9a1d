//! QEMU for both architectures: the machine's own, else Debian's, unpacked into the cache. It is not installed, since
//! that could replace other parts of QEMU on this machine.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::archive::fetch_and_unpack;
use super::{apt, put, scratch};
use crate::arch::Arch;
use crate::{paths, step};

/// The packages that emulate the two architectures.
const PACKAGES: [&str; 2] = ["qemu-system-x86", "qemu-system-arm"];

/// Whether both emulators start.
pub fn is_there() -> Result<bool> {
    for arch in Arch::ALL {
        if step::output(command(arch)?.arg("--version")).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The emulator of an architecture, without a machine.
pub fn command(arch: Arch) -> Result<Command> {
    let name = format!("qemu-system-{}", arch.name());
    if let Some(program) = paths::on_path(&name) {
        return Ok(Command::new(program));
    }
    let root = unpacked()?;
    let mut qemu = Command::new(root.join("usr/bin").join(name));
    let libraries = ["usr/lib", "lib"].map(|lib| root.join(lib).join(Arch::native().gnu_triple()));
    qemu.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
    for data in ["usr/share/qemu", "usr/share/seabios"] {
        qemu.arg("-L").arg(root.join(data));
    }
    Ok(qemu)
}

/// Fetches and unpacks it, with the packages that it depends on and this machine does not have.
pub fn install() -> Result<()> {
    apt::update()?;
    let names = missing_packages()?;
    let place = scratch()?;
    let root = place.path().join("root");
    fs::create_dir(&root)?;
    let mut download = Command::new("apt-get");
    download
        .args(["-q", "-o", "APT::Sandbox::User=root", "download"])
        .args(&names);
    fetch_and_unpack(&mut download, &format!("QEMU ({} packages)", names.len()), &root)?;
    let unpacked = unpacked()?;
    // An old one does not start, or this would not be called: it was unpacked for other libraries.
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked).with_context(|| format!("removing {}", unpacked.display()))?;
    }
    put(&root, &unpacked, "usr/bin")?;
    if !is_there()? {
        bail!("QEMU was unpacked into {} and does not start", unpacked.display());
    }
    Ok(())
}

fn unpacked() -> Result<PathBuf> {
    Ok(paths::cache()?.join("tools/qemu"))
}

/// The names of the packages that apt would install for it.
fn missing_packages() -> Result<Vec<String>> {
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--print-uris", "-qq", "-y", "--no-install-recommends"])
        .args(PACKAGES);
    let printed = step::output(&mut apt).context("asking apt what QEMU needs")?;
    // 'http://…/seabios_1.16.2-1_all.deb' seabios_1.16.2-1_all.deb 162656 MD5Sum:…
    let names: Vec<String> = printed
        .lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| Some(line.split(' ').nth(1)?.split_once('_')?.0.to_owned()))
        .collect();
    if names.is_empty() {
        bail!(
            "apt does not report where {} would come from:\n{printed}",
            PACKAGES.join(" and ")
        );
    }
    Ok(names)
}
