//! `cargo xtask build`: the binary, for this machine or for arm64.

use anyhow::{Result, bail};

use crate::setup::{self, Component};
use crate::toolchain::Toolchain;
use crate::{paths, step};

/// Build gmpscope: one file to copy to a server.
#[derive(clap::Args)]
pub struct Args {
    /// Optimised, as it is released
    #[arg(long)]
    release: bool,
    /// A static binary for Linux on arm64, whatever this machine is
    #[arg(long)]
    arm64: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    if args.arm64 {
        setup::ensure(&[Component::Bpf, Component::Arm64])?;
        return arm64("build", args.release);
    }
    setup::ensure(&[Component::Bpf])?;
    let mut cargo = paths::cargo();
    cargo.args(["build", "--package", "tracer-user", "--bin", "gmpscope"]);
    if args.release {
        cargo.arg("--release");
    }
    step::shown("cargo build", &mut cargo)?;
    println!(
        "\n{}/{}/gmpscope",
        paths::target().display(),
        if args.release { "release" } else { "debug" }
    );
    Ok(())
}

/// The release binary, its path said by [`paths::release_binary`].
pub fn release() -> Result<()> {
    let mut cargo = paths::cargo();
    cargo.args([
        "build",
        "--release",
        "--package",
        "tracer-user",
        "--bin",
        "gmpscope",
    ]);
    step::shown("release build of gmpscope", &mut cargo)
}

/// `cargo check` or `cargo build` of both sides for arm64. The standard library is compiled from its source,
/// which is there anyway for the BPF target: no second toolchain is needed.
pub fn arm64(cargo_command: &str, release: bool) -> Result<()> {
    const TRIPLE: &str = "aarch64-unknown-linux-gnu";
    let Some(toolchain) = Toolchain::find() else {
        bail!("no Rust toolchain here carries the standard library's source. Run `cargo xtask setup`");
    };
    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(paths::root())
        .args([
            cargo_command,
            "--package",
            "tracer-user",
            "--bin",
            "gmpscope",
            "--lib",
        ])
        .args(["-Z", "build-std=std,panic_abort", "--target", TRIPLE])
        .env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
            "aarch64-linux-gnu-gcc",
        )
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    if release {
        cargo.arg("--release");
    }
    step::shown(&format!("cargo {cargo_command} for arm64"), &mut cargo)?;
    if cargo_command == "build" {
        let profile = if release { "release" } else { "debug" };
        println!(
            "\n{}",
            paths::target()
                .join(TRIPLE)
                .join(profile)
                .join("gmpscope")
                .display()
        );
    }
    Ok(())
}
