//! Checks of the source: they need no root and no Go.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::setup::deny;
use crate::toolchain::{self, BPF_RUSTFLAGS, BPF_TARGET, SETUP, Toolchain};
use crate::{paths, step};

/// `cargo fmt --check`.
pub fn formatting() -> Result<()> {
    succeed(paths::cargo().args(["fmt", "--all", "--check"]))
}

/// Clippy for this machine, warnings are errors.
pub fn clippy() -> Result<()> {
    let mut cargo = paths::cargo();
    cargo.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    succeed(&mut cargo)
}

/// Clippy for the programs of tracer-ebpf, with the toolchain that compiles them: no other can.
pub fn clippy_bpf() -> Result<()> {
    let Some(toolchain) = Toolchain::find() else {
        bail!("no Rust toolchain here carries the source of `core`. Run `{SETUP}`");
    };
    let linker = toolchain::bpf_linker().with_context(|| format!("no bpf-linker. Run `{SETUP}`"))?;
    let mut clippy = toolchain.cargo_clippy();
    clippy
        .current_dir(paths::root())
        .args([
            "--release",
            "--package",
            "tracer-ebpf",
            "--bin",
            "gmpscope-ebpf",
            "--features",
            "programs",
        ])
        .args(["-Z", "build-std=core", "--target", BPF_TARGET, "--target-dir"])
        .arg(paths::target().join("ebpf"))
        .args(["--", "-D", "warnings"])
        .env("RUSTFLAGS", BPF_RUSTFLAGS)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        .env("AYA_BPF_TARGET_ARCH", std::env::consts::ARCH);
    succeed(&mut clippy)
}

/// Licences, sources and banned crates; not advisories, which need a database from the internet
/// (`cargo deny check advisories` on a machine that reaches it).
pub fn dependencies() -> Result<()> {
    let mut deny = deny::command()?;
    deny.current_dir(paths::root()).args([
        "--all-features",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]);
    succeed(&mut deny)
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{status} of {}", step::words(command));
    }
    Ok(())
}
