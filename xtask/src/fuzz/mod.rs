//! Builds and runs the fuzz targets in fuzz/, which feed the readers of programs and recordings with malformed input.

mod seeds;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::setup::{Component, fuzz};
use crate::step;

/// The targets, each with the size of the largest input that is generated for it.
pub const TARGETS: [(&str, u64); 3] = [("program", 4 << 10), ("dwarf", 2 << 20), ("recording", 256 << 10)];
/// How long one input may take. With the sanitizer, an idle machine reads a program in a tenth of a second.
const INPUT_TIMEOUT: Duration = Duration::from_secs(25);
/// How much memory one input may take, including some hundred MB of the sanitizer.
const MEMORY_LIMIT_MB: u32 = 2_048;

/// What the targets are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Runs of seconds: the build is as quick as possible.
    Test,
    /// Runs of hours: the targets are as quick as possible.
    Bench,
}

impl Purpose {
    /// The number of units in which each crate is compiled. With one, the largest crate is compiled on a single core,
    /// and the code is somewhat quicker.
    const fn codegen_units(self) -> &'static str {
        match self {
            Self::Test => "16",
            Self::Bench => "1",
        }
    }

    /// `cargo fuzz` with a subcommand and the options of the build.
    fn cargo_fuzz(self, command: &str) -> Result<Command> {
        let mut cargo = fuzz::command()?;
        cargo.args([command, "--sanitizer", sanitizer()?]);
        cargo.args(["--codegen-units", self.codegen_units()]);
        Ok(cargo)
    }
}

/// The components that fuzzing needs.
pub fn components() -> Vec<Component> {
    let mut components = vec![Component::Bpf, Component::Fuzz];
    components.extend(seeds::RELEASES.map(Component::Go));
    components
}

/// Builds the targets.
pub fn build(purpose: Purpose) -> Result<()> {
    step::run("building the fuzz targets", &mut purpose.cargo_fuzz("build")?)
}

/// Makes the initial inputs of the targets; `gmpscope` makes the recordings among them.
pub fn make_seeds(gmpscope: &Path) -> Result<()> {
    seeds::make(gmpscope)
}

/// Runs each target for `each` and returns their number. Fails at the first input that crashes, hangs or takes too much
/// memory; the output says where that input is kept.
pub fn run(purpose: Purpose, each: Duration) -> Result<u64> {
    for (target, _) in TARGETS {
        run_one(purpose, target, each)?;
    }
    Ok(TARGETS.len() as u64)
}

/// Runs one target, as [`run`] runs all of them.
pub fn run_one(purpose: Purpose, target: &str, time: Duration) -> Result<()> {
    let (_, most_bytes) = TARGETS
        .into_iter()
        .find(|(name, _)| *name == target)
        .with_context(|| format!("there is no fuzz target {target}"))?;
    // Inputs that are found are kept in a folder of their own: the seeds are made anew.
    let found = seeds::folder().join("found").join(target);
    fs::create_dir_all(&found).with_context(|| format!("creating {}", found.display()))?;
    let mut run = purpose.cargo_fuzz("run")?;
    run.arg(target)
        .args([found, seeds::of(target)])
        .arg("--")
        .arg(format!("-max_total_time={}", time.as_secs().max(1)))
        .arg(format!("-timeout={}", INPUT_TIMEOUT.as_secs()))
        .arg(format!("-rss_limit_mb={MEMORY_LIMIT_MB}"))
        .arg(format!("-max_len={most_bytes}"))
        .args(["-print_final_stats=1", "-verbosity=0"])
        .env("GMPSCOPE_FUZZ_PROGRAMS", seeds::programs());
    step::run(&format!("fuzzing {target} for {}", step::seconds(time)), &mut run)
}

/// The sanitizer to build with: AddressSanitizer if the compiler includes it, which Debian's does not.
fn sanitizer() -> Result<&'static str> {
    let folder = step::output(Command::new("rustc").args(["--print", "target-libdir"]))?;
    let folder = PathBuf::from(folder.trim());
    let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        if entry?.file_name().to_string_lossy().contains("_rt.asan") {
            return Ok("address");
        }
    }
    eprintln!("   this Rust has no AddressSanitizer: only panics, time and memory are checked");
    Ok("none")
}
