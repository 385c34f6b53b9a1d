//! Checks of the source, which need neither root nor Go.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::job::{Counted, Folder, Job, Lane};
use crate::arch::Arch;
use crate::paths;
use crate::setup::deny;
use crate::toolchain::{self, BPF_RUSTFLAGS, BPF_TARGET, SETUP, Toolchain};

/// The jobs of all checks.
///
/// # Errors
/// A tool is missing, which set-up installs.
pub fn jobs() -> Result<Vec<Job>> {
    Ok(vec![
        Job::new("formatting", "formatting", formatting()),
        Job::new("dependencies", "dependencies", dependencies()?),
        Job::new("clippy", "clippy", clippy()).lane(Lane::Build(Folder::Debug)),
        Job::new(
            "clippy for the BPF target",
            "clippy for the BPF target",
            clippy_bpf()?,
        )
        .lane(Lane::Build(Folder::Bpf)),
        Job::new("documentation", "documentation", documentation()).lane(Lane::Build(Folder::Debug)),
        Job::new("unit tests", "examples in the documentation", examples())
            .counted(Counted::Examples)
            .lane(Lane::Build(Folder::Debug)),
    ])
}

/// `cargo fmt --check`.
fn formatting() -> Command {
    let mut cargo = paths::cargo();
    cargo.args(["fmt", "--all", "--check"]);
    cargo
}

/// Clippy for this machine; warnings are errors.
fn clippy() -> Command {
    let mut cargo = paths::cargo();
    cargo.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    cargo
}

/// The documentation of the libraries, private items included, which links may lead to; warnings, such as links that
/// lead nowhere, are errors.
fn documentation() -> Command {
    let mut cargo = paths::cargo();
    cargo
        .args(["doc", "--no-deps", "--lib", "--document-private-items"])
        .args(["--package", "tracer-user", "--package", "tracer-ebpf"])
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links");
    cargo
}

/// The tests in documentation comments, which cargo cannot compile beforehand.
fn examples() -> Command {
    let mut cargo = paths::cargo();
    cargo.args(["test", "--workspace", "--doc"]);
    cargo
}

/// Clippy for the programs of tracer-ebpf, with the toolchain that compiles them, since no other can.
fn clippy_bpf() -> Result<Command> {
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
        .env("AYA_BPF_TARGET_ARCH", Arch::native().name());
    Ok(clippy)
}

/// Checks licences, sources and banned crates, but not advisories, which need a database from the internet
/// (`cargo deny check advisories` where it can be reached).
fn dependencies() -> Result<Command> {
    let mut deny = deny::command()?;
    deny.current_dir(paths::root()).args([
        "--all-features",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]);
    Ok(deny)
}
