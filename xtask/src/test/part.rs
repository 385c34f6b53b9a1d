//! Parts of a run of the tests that are not commands for users. The scheduler runs each as a process, so that its
//! output can be shown as one block.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::arch::Arch;
use crate::setup::kernels::Series;
use crate::vm::Machine;
use crate::{build, deb, fuzz, fuzz::Purpose, paths, vm};

use super::FUZZED;

/// One part of `cargo xtask test`, which makes what the part needs beforehand.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    part: Part,
}

#[derive(clap::Subcommand)]
enum Part {
    /// The release binary and its Debian package
    Package,
    /// Run lintian on the package
    Lintian,
    /// gmpscope and the program that runs it in a virtual machine
    Guest { arch: Arch },
    /// One virtual machine, from its boot until it powers off
    Machine { series: Series, arch: Arch },
    /// The fuzz targets
    FuzzTargets,
    /// The initial inputs of fuzzing
    FuzzSeeds,
    /// Fuzz one target
    Fuzz { target: String },
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    match &args.part {
        Part::Package => deb::make(Arch::native()).map(drop),
        Part::Lintian => deb::check(&deb::path(Arch::native())),
        Part::Guest { arch } => build::for_guest(*arch),
        &Part::Machine { series, arch } => machine(Machine { series, arch }),
        Part::FuzzTargets => fuzz::build(Purpose::Test),
        Part::FuzzSeeds => fuzz::make_seeds(&paths::release_binary()),
        Part::Fuzz { target } => fuzz::run_one(Purpose::Test, target, FUZZED),
    }
}

/// The command that runs a part with this executable, even if its file was replaced.
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(Path::new("/proc/self/exe"));
    command.arg("part").args(words);
    command
}

fn machine(machine: Machine) -> Result<()> {
    let reports = vm::boot_built(&[machine], vm::Versions::Few, true)?;
    let (mut passed, mut failed) = (0, 0);
    for report in &reports {
        let failures = report.failures().len();
        failed += failures;
        passed += report.findings.len() - failures;
    }
    println!("{passed} passed, {failed} failed");
    Ok(())
}
