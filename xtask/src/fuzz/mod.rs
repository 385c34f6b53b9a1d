//! The fuzz targets in fuzz/: what reads programs and recordings, given what nobody would write.

mod seeds;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::setup::{Component, fuzz};
use crate::step;

/// The targets, and the largest input that is made for each.
pub const TARGETS: [(&str, u64); 3] = [("program", 4 << 10), ("dwarf", 2 << 20), ("recording", 256 << 10)];
/// An input that takes longer is a failure. With the sanitizer a program is read in a tenth of a second, on a machine
/// that does nothing else.
const SLOWEST: Duration = Duration::from_secs(25);
/// So is one that takes more memory, of which the sanitizer itself needs some hundred MB.
const MOST_MEMORY_MB: u32 = 2_048;

/// What the targets are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be run for seconds: built as quickly as can be.
    Test,
    /// To be run for hours: built to be quick.
    Bench,
}

impl Purpose {
    /// Pieces in which each crate is compiled. With one the compiler uses a single core for the largest crate, and
    /// what it makes is somewhat quicker.
    const fn codegen_units(self) -> &'static str {
        match self {
            Self::Test => "16",
            Self::Bench => "1",
        }
    }

    /// `cargo fuzz` with a command and the options with which everything is built.
    fn cargo_fuzz(self, command: &str) -> Result<Command> {
        let mut cargo = fuzz::command()?;
        cargo.args([command, "--sanitizer", sanitizer()?]);
        cargo.args(["--codegen-units", self.codegen_units()]);
        Ok(cargo)
    }
}

/// What fuzzing needs.
pub fn components() -> Vec<Component> {
    let mut components = vec![Component::Bpf, Component::Fuzz];
    components.extend(seeds::RELEASES.map(Component::Go));
    components
}

/// Builds the targets.
pub fn build(purpose: Purpose) -> Result<()> {
    step::shown("building the fuzz targets", &mut purpose.cargo_fuzz("build")?)
}

/// Makes the inputs that the targets begin with; `gmpscope` makes the recordings among them.
pub fn make_seeds(gmpscope: &Path) -> Result<()> {
    seeds::make(gmpscope)
}

/// Runs each target for so long; how many there are. It fails at the first input that crashes, hangs or takes too
/// much memory; what is printed says where that is kept.
pub fn run(purpose: Purpose, each: Duration) -> Result<u64> {
    for (target, _) in TARGETS {
        run_one(purpose, target, each)?;
    }
    Ok(TARGETS.len() as u64)
}

/// Runs one target for so long, as [`run`] does all of them.
pub fn run_one(purpose: Purpose, target: &str, time: Duration) -> Result<()> {
    let (_, most_bytes) = TARGETS
        .into_iter()
        .find(|(name, _)| *name == target)
        .with_context(|| format!("there is no fuzz target {target}"))?;
    // What is found on the way is kept, apart from what is made anew.
    let found = seeds::folder().join("found").join(target);
    fs::create_dir_all(&found).with_context(|| format!("creating {}", found.display()))?;
    let mut run = purpose.cargo_fuzz("run")?;
    run.arg(target)
        .args([found, seeds::of(target)])
        .arg("--")
        .arg(format!("-max_total_time={}", time.as_secs().max(1)))
        .arg(format!("-timeout={}", SLOWEST.as_secs()))
        .arg(format!("-rss_limit_mb={MOST_MEMORY_MB}"))
        .arg(format!("-max_len={most_bytes}"))
        .args(["-print_final_stats=1", "-verbosity=0"])
        .env("GMPSCOPE_FUZZ_PROGRAMS", seeds::programs());
    step::shown(&format!("fuzzing {target} for {}", step::seconds(time)), &mut run)
}

/// AddressSanitizer, where the compiler comes with it; Debian's does not.
fn sanitizer() -> Result<&'static str> {
    let folder = step::output(Command::new("rustc").args(["--print", "target-libdir"]))?;
    let folder = PathBuf::from(folder.trim());
    let entries = fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        if entry?.file_name().to_string_lossy().contains("_rt.asan") {
            return Ok("address");
        }
    }
    eprintln!("   this Rust has no AddressSanitizer: panics, time and memory are checked, and no more");
    Ok("none")
}
