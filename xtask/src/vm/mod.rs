//! `cargo xtask vm`: runs the same checks on other kernels, of both architectures.
//!
//! Each kernel boots under QEMU with an initramfs that has gmpscope, Go programs and, as the first process, the
//! `guest` of the tests crate, which prints a line for each check. The CPUs are emulated (TCG) and not virtualized: on
//! a cloud machine /dev/kvm may open and still not boot a stock kernel.

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
    /// Architecture; both by default
    #[arg(long)]
    arch: Vec<Arch>,
    /// Series of kernels
    #[arg(long, required_unless_present = "all")]
    kernel: Vec<Series>,
    /// Trace programs of every Go version, not only of the oldest and the newest
    #[arg(long)]
    every_go: bool,
    /// Boot every kernel on both architectures, with every Go version
    #[arg(long, conflicts_with_all = ["arch", "kernel"])]
    all: bool,
    /// Write the tables of docs/kernels.md and the counts of verified instructions
    #[arg(long, requires = "all")]
    write: bool,
    /// Record the counts of verified instructions of these machines only
    #[arg(long)]
    record: bool,
}

/// A machine to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The series of its kernel.
    pub series: Series,
    /// Its architecture.
    pub arch: Arch,
}

impl Machine {
    /// The name in messages and tables.
    pub fn name(self) -> String {
        format!("{} {}", self.series.name(), self.arch.name())
    }
}

/// The machines of `cargo xtask test`: the oldest kernel, and the other architecture.
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

/// The components that are needed to boot these machines.
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

/// Builds what is needed and boots one machine after the other. With `compare`, the counts of the verifiers are
/// compared with the recorded ones.
///
/// # Errors
/// A build failed. Machines that do not boot and checks that fail are in the reports.
pub fn boot_all(machines: &[Machine], versions: Versions, compare: bool) -> Result<Vec<Report>> {
    for arch in Arch::ALL {
        if machines.iter().any(|machine| machine.arch == arch) {
            build::for_guest(arch)?;
        }
    }
    boot_built(machines, versions, compare)
}

/// Boots machines for whose architectures [`crate::build::for_guest`] has run.
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
