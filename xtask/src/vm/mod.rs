//! `cargo xtask vm`: the same checks as outside, on kernels that people run, of both architectures.
//!
//! Each kernel boots under QEMU with an initramfs that holds gmpscope, Go programs and, as its first process,
//! the `guest` of the tests crate, which prints a line for each thing that it has checked. All is emulated
//! (TCG): /dev/kvm may open on a cloud machine and still start no stock kernel.

mod boot;
mod image;
mod report;
mod table;
mod verified;

use anyhow::{Result, bail};

use crate::arch::Arch;
use crate::setup::kernels::{self, Series};
use crate::setup::{self, Component};
use crate::{build, go, step};
use report::Report;

/// Run the checks in virtual machines.
#[derive(clap::Args)]
pub struct Args {
    /// The architecture; both unless said
    #[arg(long)]
    arch: Vec<Arch>,
    /// Which series of kernels
    #[arg(long, required_unless_present = "all")]
    kernel: Vec<Series>,
    /// With programs of every Go version, not of the oldest and the newest alone
    #[arg(long)]
    every_go: bool,
    /// Every kernel on both architectures, with every Go version
    #[arg(long, conflicts_with_all = ["arch", "kernel"])]
    all: bool,
    /// Write the tables of docs/kernels.md and the numbers of verified instructions
    #[arg(long, requires = "all")]
    write: bool,
    /// Record the numbers of verified instructions of these machines, and leave those of the others
    #[arg(long)]
    record: bool,
}

/// A machine to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Which kernel.
    pub series: Series,
    /// On which processor.
    pub arch: Arch,
}

impl Machine {
    /// For messages and tables.
    pub fn name(self) -> String {
        format!("{} {}", self.series.name(), self.arch.name())
    }
}

/// What every run of the tests boots: the oldest kernel, and the other architecture.
pub const TESTED: [Machine; 2] = [
    Machine {
        series: Series::V5_10,
        arch: Arch::X86_64,
    },
    Machine {
        series: Series::V6_12,
        arch: Arch::Aarch64,
    },
];

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let (series, versions) = match args.all {
        true => (Series::ALL.to_vec(), Versions::All),
        false if args.every_go => (args.kernel.clone(), Versions::All),
        false => (args.kernel.clone(), Versions::Few),
    };
    let archs = match args.arch.as_slice() {
        [] => Arch::ALL.to_vec(),
        some => some.to_vec(),
    };
    let machines: Vec<Machine> = series
        .iter()
        .flat_map(|&series| archs.iter().map(move |&arch| Machine { series, arch }))
        .collect();
    setup::ensure(&components(&machines, versions))?;
    let reports = boot_all(&machines, versions, !args.write && !args.record)?;
    if args.write {
        table::write(&reports)?;
    }
    if args.write || args.record {
        verified::write(&reports)?;
    }
    let failed: Vec<String> = reports.iter().flat_map(Report::failures).collect();
    if !failed.is_empty() {
        bail!("{} checks failed:\n  {}", failed.len(), failed.join("\n  "));
    }
    Ok(())
}

/// Which Go versions' programs are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// The oldest and the newest.
    Few,
    /// Every one.
    All,
}

/// What booting these machines needs.
pub fn components(machines: &[Machine], versions: Versions) -> Vec<Component> {
    let mut components = vec![Component::Qemu, Component::GoDebian];
    for machine in machines {
        components.extend(build::components(machine.arch));
    }
    match versions {
        Versions::Few => components.push(Component::Go(go::NEWEST)),
        Versions::All => components.extend(go::RELEASES.map(Component::Go)),
    }
    components
}

/// Boots one machine after the other; with `compare` what the verifier counted is compared with what is
/// recorded.
///
/// # Errors
/// Something could not be built. A machine that does not boot, or a check that fails, is in its report.
pub fn boot_all(machines: &[Machine], versions: Versions, compare: bool) -> Result<Vec<Report>> {
    for arch in Arch::ALL {
        if machines.iter().any(|machine| machine.arch == arch) {
            build::for_guest(arch)?;
        }
    }
    boot_built(machines, versions, compare)
}

/// Boots machines for which [`crate::build::for_guest`] has built what is tested there.
///
/// # Errors
/// A Go program could not be built, or the recorded figures could not be read.
pub fn boot_built(machines: &[Machine], versions: Versions, compare: bool) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for &machine in machines {
        let mut report =
            boot(machine, versions).unwrap_or_else(|why| Report::without_findings(machine, &why));
        if compare {
            report.findings.push(verified::compare(&report)?);
        }
        report.print();
        reports.push(report);
    }
    Ok(reports)
}

fn boot(machine: Machine, versions: Versions) -> Result<Report> {
    let kernel = kernels::kernel(machine.series, machine.arch)?;
    step::title(&format!("{}: {}", machine.name(), kernel.package));
    let image = image::make(machine, versions)?;
    boot::run(machine, &kernel, &image)
}
