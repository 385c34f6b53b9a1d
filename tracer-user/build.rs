//! Compiles the BPF programs of `tracer-ebpf` for the architecture of this build, and tells where the
//! object is in `GMPSCOPE_EBPF_OBJECT`, to be embedded: gmpscope is one file to copy to a server.

#[path = "build/toolchain.rs"]
mod toolchain;

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use toolchain::{BPF_RUSTFLAGS, BPF_TARGET, SETUP, Toolchain};

const BINARY: &str = "gmpscope-ebpf";
/// Names the target folder of the BPF programs for a build outside of this workspace (the fuzz targets'), which would
/// else compile `core` once more.
const SHARED: &str = "GMPSCOPE_EBPF_TARGET_DIR";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Cargo shows a failed build script's standard error as it is.
            eprintln!("\ngmpscope: the BPF programs in tracer-ebpf cannot be built: {why}\n");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let root = manifest_dir.parent().ok_or("tracer-user lies in no workspace")?;
    let ebpf = root.join("tracer-ebpf");
    for watched in ["src", "build.rs", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", ebpf.join(watched).display());
    }
    for watched in [
        root.join("Cargo.lock"),
        manifest_dir.join("build.rs"),
        manifest_dir.join("build"),
    ] {
        println!("cargo::rerun-if-changed={}", watched.display());
    }
    println!("cargo::rerun-if-env-changed=GMPSCOPE_CACHE");

    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let arch = arch.to_str().ok_or("CARGO_CFG_TARGET_ARCH is not UTF-8")?;
    if !["x86_64", "aarch64"].contains(&arch) {
        return Err(format!("gmpscope runs on x86_64 and aarch64, not on {arch}"));
    }
    let embedded = out_dir.join(BINARY);
    compile(root, &target_dir(&out_dir), arch, &embedded)?;
    println!("cargo::rustc-env=GMPSCOPE_EBPF_OBJECT={}", embedded.display());
    Ok(())
}

/// Compiles into `target_dir`, which all profiles and both architectures share (`core` is built once), and
/// copies the object to `embedded`.
fn compile(root: &Path, target_dir: &Path, arch: &str, embedded: &Path) -> Result<(), String> {
    let toolchain = Toolchain::find().ok_or_else(|| {
        format!(
            "no Rust toolchain here carries the source of `core`, which has to be compiled for {BPF_TARGET}.\n\
             Run `{SETUP}`; elsewhere than on Debian `rustup toolchain install nightly --component rust-src`."
        )
    })?;
    let linker = toolchain::bpf_linker().ok_or_else(|| {
        format!("bpf-linker is neither on PATH nor in gmpscope's cache folder.\nRun `{SETUP}`.")
    })?;
    fs::create_dir_all(target_dir).map_err(|e| format!("creating {}: {e}", target_dir.display()))?;
    // The same file name serves both architectures, so a build and its copy must not be torn apart.
    let lock = File::create(target_dir.join("gmpscope.lock")).map_err(|e| format!("creating a lock: {e}"))?;
    lock.lock()
        .map_err(|e| format!("locking {}: {e}", target_dir.display()))?;

    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(root)
        .args([
            "build",
            "--release",
            "--package",
            "tracer-ebpf",
            "--bin",
            BINARY,
            "--features",
            "programs",
        ])
        .args(["-Z", "build-std=core", "--target", BPF_TARGET, "--target-dir"])
        .arg(target_dir)
        .env("RUSTFLAGS", BPF_RUSTFLAGS)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker)
        .env("AYA_BPF_TARGET_ARCH", arch)
        .stdin(Stdio::null());

    let output = cargo
        .output()
        .map_err(|e| format!("starting {toolchain}'s cargo: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!(
            "{toolchain} with {} failed ({}). What it said:\n{said}\n\
             If a tool or a library is missing, run `{SETUP}`.",
            linker.display(),
            output.status
        ));
    }
    let object = target_dir.join(BPF_TARGET).join("release").join(BINARY);
    fs::copy(&object, embedded)
        .map_err(|e| format!("copying {} to {}: {e}", object.display(), embedded.display()))?;
    Ok(())
}

/// `<target>/ebpf`, from `<target>/[<triple>/]<profile>/build/<package>/out`, unless [`SHARED`] names another.
fn target_dir(out_dir: &Path) -> PathBuf {
    if let Some(shared) = env::var_os(SHARED) {
        return shared.into();
    }
    let mut dir = out_dir.ancestors().nth(4).unwrap_or(out_dir);
    let triple = env::var_os("TARGET");
    if dir.file_name().is_some() && dir.file_name() == triple.as_deref() {
        dir = dir.parent().unwrap_or(dir);
    }
    dir.join("ebpf")
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: this is run by cargo"))
}
