//! Installs what compiles the BPF programs: a Rust with the source of `core`, and a bpf-linker that is built with the
//! LLVM of that Rust.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::apt;
use crate::toolchain::{self, Toolchain};
use crate::{paths, step};

/// The version of bpf-linker, which supports LLVM 19 to 22.
pub const LINKER_VERSION: &str = "0.13.0";
/// The LLVM version of Debian's rustc-web, used as long as that is not installed.
const DEBIAN_LLVM: u32 = 22;
/// Compiler, cargo and source of `core`, in one version, from Debian 12's security archive.
const COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The system packages that are missing to compile and link BPF programs.
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

/// The package of clippy, if it is missing. Debian has it separately; rustup's toolchains include it.
pub fn missing_lint_packages() -> Vec<String> {
    let system = matches!(Toolchain::find(), None | Some(Toolchain::System));
    if system && !PathBuf::from("/usr/bin/clippy-driver").is_file() {
        vec!["rust-web-clippy".into()]
    } else {
        Vec::new()
    }
}

/// Whether there is a linker, and it starts (its LLVM may have been removed).
pub fn linker_is_there() -> bool {
    toolchain::bpf_linker().is_some_and(|linker| step::output(Command::new(linker).arg("--version")).is_ok())
}

/// Compiles the linker with the LLVM of the system packages, which takes a minute.
pub fn install_linker() -> Result<()> {
    let Some(found) = Toolchain::find() else {
        bail!("no Rust toolchain carries the source of `core`, although its packages are installed");
    };
    let llvm = llvm_version(&found).with_context(|| format!("{found} does not report its LLVM version"))?;
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
        // Its release profile has debug info, and it spends its time in LLVM: what compiles quickly is better here.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("LLVM_PREFIX", &prefix)
        .env("PATH", env::join_paths(path)?);
    step::run_quietly(
        &format!("compiling bpf-linker {LINKER_VERSION} with LLVM {llvm}"),
        &mut cargo,
    )
}

/// The major version of the LLVM of a toolchain.
fn llvm_version(toolchain: &Toolchain) -> Option<u32> {
    let printed = step::output(toolchain.program("rustc").args(["--version", "--verbose"])).ok()?;
    let version = printed
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}
