//! Installs Debian packages.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{paths, privilege, step};

/// Whether a package is installed and configured.
pub fn is_installed(package: &str) -> bool {
    step::output(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

/// Installs packages. If others would have to be removed, apt refuses.
pub fn install(packages: &[String]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if paths::on_path("apt-get").is_none() {
        bail!(
            "these Debian packages, or their equivalents in your distribution, have to be installed by hand (set-up \
             installs packages on Debian only):\n  {}",
            packages.join(" ")
        );
    }
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    let mut install = vec!["-y", "--no-remove", "--no-install-recommends", "install"];
    install.extend(&names);
    let by_hand = format!("apt-get update && apt-get {}", install.join(" "));
    update()?;
    step::run_quietly(
        &format!("apt-get install of {} packages", names.len()),
        &mut apt_get(&install)?,
    )
    .with_context(|| format!("installing packages. By hand, as root:\n  {by_hand}"))
}

/// Fetches the lists of packages. A failure is only printed: it may be that of a third party's list, and only Debian's
/// own are needed.
pub fn update() -> Result<()> {
    if let Err(error) = step::run_quietly("apt-get update", &mut apt_get(&["-q", "update"])?) {
        eprintln!("   {error:#}\n   continuing with the package lists that exist");
    }
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<Command> {
    let mut all = vec![
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-o",
        "DPkg::Lock::Timeout=600",
    ];
    all.extend(arguments);
    privilege::as_root("env", &all)
}
