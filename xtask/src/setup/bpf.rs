//! What compiles the BPF programs: a Rust with `core`'s source, and bpf-linker against that Rust's LLVM.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::apt;
use crate::toolchain::{self, Toolchain};
use crate::{paths, step};

/// The linker's version; it links what LLVM 19 to 22 make.
pub const LINKER_VERSION: &str = "0.13.0";
/// LLVM of Debian's rustc-web, for packages that are asked for before it is installed.
const DEBIAN_LLVM: u32 = 22;
/// A matched set in Debian 12's security archive: compiler, cargo and the source of `core`.
const COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// System packages that are missing to compile and link BPF programs.
pub fn missing_packages() -> Vec<String> {
    let toolchain = Toolchain::find();
    let mut packages: Vec<String> = Vec::new();
    if toolchain.is_none() {
        packages.extend(COMPILER.map(str::to_owned));
    }
    if !linker_is_there() {
        let llvm = toolchain.as_ref().and_then(llvm_version).unwrap_or(DEBIAN_LLVM);
        let build = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
        packages.extend(build.into_iter().filter(|package| !apt::is_installed(package)));
        let compilers = ["gcc", "g++"]
            .into_iter()
            .filter(|program| paths::on_path(program).is_none());
        packages.extend(compilers.map(str::to_owned));
    }
    packages
}

/// Debian has clippy in a package of its own; rustup's toolchains bring theirs.
pub fn missing_lint_packages() -> Vec<String> {
    let system = matches!(Toolchain::find(), None | Some(Toolchain::System));
    if system && !PathBuf::from("/usr/bin/clippy-driver").is_file() {
        vec!["rust-web-clippy".into()]
    } else {
        Vec::new()
    }
}

/// Whether there is a linker that starts (its LLVM may have gone).
pub fn linker_is_there() -> bool {
    toolchain::bpf_linker().is_some_and(|linker| step::output(Command::new(linker).arg("--version")).is_ok())
}

/// Compiles the linker against the LLVM that the system packages brought: a minute.
pub fn install_linker() -> Result<()> {
    let Some(found) = Toolchain::find() else {
        bail!("no Rust toolchain carries the source of `core`, although its packages are installed");
    };
    let llvm = llvm_version(&found).with_context(|| format!("{found} does not say which LLVM it has"))?;
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    let tools = paths::cache()?.join("tools");
    fs::create_dir_all(&tools).with_context(|| format!("creating {}", tools.display()))?;
    let mut path = vec![prefix.join("bin")];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut cargo = paths::cargo();
    cargo
        .args([
            "install",
            "bpf-linker",
            "--version",
            LINKER_VERSION,
            "--no-default-features",
        ])
        .args(["--features", &format!("llvm-{llvm}"), "--force", "--root"])
        .arg(&tools)
        .env("LLVM_PREFIX", &prefix)
        .env("PATH", env::join_paths(path)?);
    step::quiet(
        &format!("compiling bpf-linker {LINKER_VERSION} with LLVM {llvm}"),
        &mut cargo,
    )
}

/// The major version of a compiler's LLVM.
fn llvm_version(toolchain: &Toolchain) -> Option<u32> {
    let says = step::output(toolchain.program("rustc").args(["--version", "--verbose"])).ok()?;
    let version = says
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}
