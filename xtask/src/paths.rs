//! Where things are: in the repository, in its target folder, and in the cache that clones share.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::arch::Arch;

/// The repository's root.
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

/// The optimised binary of this machine's architecture.
pub fn release_binary() -> PathBuf {
    binary(Arch::native(), "release", "gmpscope")
}

/// A binary that [`crate::build`] makes, in `release` or `debug`.
pub fn binary(arch: Arch, profile: &str, name: &str) -> PathBuf {
    target().join(arch.triple()).join(profile).join(name)
}

/// Where downloaded tools and Go toolchains are kept, for all clones: see [`crate::toolchain::cache_dir`].
pub fn cache() -> Result<PathBuf> {
    crate::toolchain::cache_dir().context(
        "there is no place for a cache: none of GMPSCOPE_CACHE, XDG_CACHE_HOME and HOME is set.\n\
         Set GMPSCOPE_CACHE to a folder for downloaded tools",
    )
}

/// The folder of the cache for tools that are installed there; it need not exist.
pub fn cached_tools() -> Result<PathBuf> {
    Ok(cache()?.join("tools/bin"))
}

/// The cargo that runs us, or the first on PATH, in the repository's root.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The first file of this name in the folders of PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}
