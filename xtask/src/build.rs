//! `cargo xtask build`: the binary, for this machine or for the other architecture.

use std::process::Command;

use anyhow::{Context, Result};

use crate::arch::Arch;
use crate::setup::{self, Component};
use crate::toolchain::{SETUP, Toolchain};
use crate::{paths, step};

/// Build gmpscope: one static file to copy to a server.
#[derive(clap::Args)]
pub struct Args {
    /// Build it optimised, as it is released
    #[arg(long)]
    release: bool,
    /// Build it for this architecture
    #[arg(long, default_value = Arch::native().name())]
    arch: Arch,
}

/// The packages of every build, whichever of their binaries is built. Cargo unifies the features of all packages that
/// are named: if builds named others, what depends on these features would be compiled once for each (aya and
/// tracer-user, since tempfile needs more of once_cell than aya). The features of the tests package itself are not
/// needed here.
const PACKAGES: [&str; 5] = [
    "--package",
    "tracer-user",
    "--package",
    "gmpscope-tests",
    "--no-default-features",
];
/// The binary that users get.
const GMPSCOPE: [&str; 2] = ["--bin", "gmpscope"];
/// The first process of a virtual machine.
const GUEST: [&str; 2] = ["--bin", "guest"];

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&components(args.arch))?;
    let profile = if args.release { "release" } else { "debug" };
    compile("gmpscope", args.arch, args.release, &GMPSCOPE)?;
    println!("\n{}", paths::binary(args.arch, profile, "gmpscope").display());
    Ok(())
}

/// The components that are needed to compile for an architecture.
pub fn components(arch: Arch) -> Vec<Component> {
    let mut components = vec![Component::Bpf, Component::Linker];
    if arch != Arch::native() {
        components.push(Component::Cross(arch));
    }
    components
}

/// Builds the release binary for this machine, at [`paths::release_binary`].
pub fn release() -> Result<()> {
    release_for(Arch::native())
}

/// Builds the release binary for an architecture, at [`paths::binary`].
pub fn release_for(arch: Arch) -> Result<()> {
    compile("gmpscope", arch, true, &GMPSCOPE)
}

/// Builds the release binary, and the program that runs it in a virtual machine.
pub fn for_guest(arch: Arch) -> Result<()> {
    compile(
        "gmpscope and its tests' guest",
        arch,
        true,
        &[&GMPSCOPE[..], &GUEST[..]].concat(),
    )
}

fn compile(what: &str, arch: Arch, release: bool, binaries: &[&str]) -> Result<()> {
    let (mut cargo, triple) = (cargo_for(arch)?, arch.triple());
    let variable = |name: &str| {
        let triple = triple.to_uppercase().replace('-', "_");
        format!("CARGO_TARGET_{triple}_{name}")
    };
    cargo
        .args(["build", "--target", &triple])
        .args(PACKAGES)
        .args(binaries)
        // These would override the flags below.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // Static, so that it runs whatever the server's C library is.
        .env(variable("RUSTFLAGS"), "-C target-feature=+crt-static");
    if arch != Arch::native() {
        cargo.env(variable("LINKER"), arch.cross_gcc());
    }
    if release {
        cargo.arg("--release");
    }
    step::run(&format!("building {what} for {}", arch.name()), &mut cargo)
}

/// This machine's cargo for this machine. For another architecture, the cargo that compiles the BPF programs: it has
/// the standard library as source, so no second toolchain has to be installed.
fn cargo_for(arch: Arch) -> Result<Command> {
    if arch == Arch::native() {
        return Ok(paths::cargo());
    }
    let toolchain = Toolchain::find().with_context(|| {
        format!("no Rust toolchain here carries the standard library's source. Run `{SETUP}`")
    })?;
    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(paths::root())
        .args(["-Z", "build-std=std,panic_abort"]);
    Ok(cargo)
}
