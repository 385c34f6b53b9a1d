//! Paths in the repository, in its target folder, and in the cache that clones share.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::arch::Arch;

/// The root of the repository.
pub fn root() -> PathBuf {
    let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest_dir
        .parent()
        .map_or_else(|| manifest_dir.clone(), Path::to_path_buf)
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The release binary for this machine.
pub fn release_binary() -> PathBuf {
    binary(Arch::native(), "release", "gmpscope")
}

/// A binary that [`crate::build`] makes; `profile` is `release` or `debug`.
pub fn binary(arch: Arch, profile: &str, name: &str) -> PathBuf {
    target().join(arch.triple()).join(profile).join(name)
}

/// The folder of downloaded tools and Go toolchains, shared by all clones: see [`crate::toolchain::cache_dir`].
pub fn cache() -> Result<PathBuf> {
    crate::toolchain::cache_dir().context(
        "no folder for the cache: none of GMPSCOPE_CACHE, XDG_CACHE_HOME and HOME is set.\n\
         Set GMPSCOPE_CACHE to a folder for downloaded tools",
    )
}

/// The folder of tools in the cache. It need not exist.
pub fn cached_tools() -> Result<PathBuf> {
    Ok(cache()?.join("tools/bin"))
}

/// The cargo that started xtask, or else the first on PATH, to be run in the root of the repository.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The first file of this name in a folder of PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
