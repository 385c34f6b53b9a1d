//! `cargo xtask test`: runs every check and every test, each named and timed, and all of them even if one fails.
//!
//! A run is a list of jobs. Builds, checks and tests that measure nothing run side by side; tests that measure run
//! after them, one at a time. [`lanes`] declares which tests these are.

mod checks;
mod counts;
mod job;
mod lanes;
pub mod part;
mod programs;
mod report;
mod schedule;

use std::time::Duration;

use anyhow::Result;

use crate::setup::{self, Component};
use crate::{fuzz, go, privilege, vm};
use job::{Counted, Folder, Job, Lane, Product};

/// Run every check and every test.
#[derive(clap::Args)]
pub struct Args {
    /// Test few Go versions and build variants and no virtual machines, for use while working
    #[arg(long)]
    fast: bool,
    /// Run only tests whose name contains one of these, and no checks of the source; fails if one is in no name
    filter: Vec<String>,
}

/// How long each target is fuzzed, which is enough to find former and easy failures.
const FUZZED: Duration = Duration::from_secs(10);

/// The lines of the summary, in order.
const STEPS: [&str; 10] = [
    "formatting",
    "clippy",
    "clippy for the BPF target",
    "dependencies",
    "documentation",
    programs::UNIT_STEP,
    PACKAGE_STEP,
    programs::END_TO_END_STEP,
    FUZZING_STEP,
    MACHINES_STEP,
];
const PACKAGE_STEP: &str = "release build and package";
const FUZZING_STEP: &str = "fuzzing";
const MACHINES_STEP: &str = "virtual machines";

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    if !privilege::is_root() {
        eprintln!(
            "\n*** NOT ROOT: the end-to-end tests attach to processes and will FAIL. Run this as root.\n"
        );
    }
    setup::ensure(&components(args.fast))?;
    let expand = |printed: &str| programs::jobs(printed, &args.filter, args.fast);
    schedule::run(jobs(args)?, &expand).print(&STEPS)
}

/// All jobs but those of the tests, which are known once they are compiled. Builds are ordered by what waits for them.
fn jobs(args: &Args) -> Result<Vec<Job>> {
    let build = |step, name: &str, words: &[&str], folder, product| {
        Job::new(step, name, part::command(words))
            .counted(Counted::Build)
            .lane(Lane::Build(folder))
            .makes(product)
    };
    let mut jobs = vec![
        Job::new(
            programs::UNIT_STEP,
            "compiling all test programs",
            programs::compile(),
        )
        .counted(Counted::Build)
        .lane(Lane::Build(Folder::Debug))
        .makes(Product::Tests),
        build(
            PACKAGE_STEP,
            "release build and package",
            &["package"],
            Folder::Release,
            Product::Package,
        )
        .counted(Counted::Check),
    ];
    if !args.filter.is_empty() {
        return Ok(jobs);
    }
    if !args.fast {
        jobs.push(build(
            FUZZING_STEP,
            "compiling the fuzz targets",
            &["fuzz-targets"],
            Folder::Fuzz,
            Product::FuzzTargets,
        ));
        for machine in vm::TESTED {
            let arch = machine.arch;
            jobs.push(build(
                MACHINES_STEP,
                &format!("compiling the guest for {}", arch.name()),
                &["guest", arch.name()],
                Folder::Release,
                Product::Guest(arch),
            ));
        }
    }
    jobs.extend(checks::jobs()?);
    jobs.push(Job::new(PACKAGE_STEP, "lintian", part::command(&["lintian"])).needs(Product::Package));
    if !args.fast {
        jobs.extend(fuzzing());
        jobs.extend(machines());
    }
    Ok(jobs)
}

/// The jobs that make the initial inputs and run each fuzz target.
fn fuzzing() -> Vec<Job> {
    let seeds = Job::new(FUZZING_STEP, "initial inputs", part::command(&["fuzz-seeds"]))
        .counted(Counted::Build)
        .needs(Product::Package)
        .makes(Product::FuzzSeeds);
    let targets = fuzz::TARGETS.map(|(target, _)| {
        Job::new(
            FUZZING_STEP,
            format!("fuzzing {target}"),
            part::command(&["fuzz", target]),
        )
        .needs(Product::FuzzTargets)
        .needs(Product::FuzzSeeds)
    });
    [seeds].into_iter().chain(targets).collect()
}

/// The jobs that boot virtual machines.
fn machines() -> Vec<Job> {
    let jobs = vm::TESTED.map(|machine| {
        Job::new(
            MACHINES_STEP,
            format!("machine {}", machine.name()),
            part::command(&["machine", machine.series.name(), machine.arch.name()]),
        )
        .counted(Counted::LastLine)
        .needs(Product::Guest(machine.arch))
        .shown()
    });
    jobs.into_iter().collect()
}

/// The components that a run needs.
fn components(fast: bool) -> Vec<Component> {
    let mut components = vec![Component::Bpf, Component::Lint, Component::Cgo];
    components.extend([
        Component::Linker,
        Component::Packaging,
        Component::Prometheus,
        Component::Services,
    ]);
    if fast {
        components.extend(go::FAST.map(Component::Go));
    } else {
        components.push(Component::GoDebian);
        components.extend(go::RELEASES.map(Component::Go));
        components.push(Component::Fuzz);
        components.extend(vm::components(&vm::TESTED, vm::Versions::Few));
    }
    components
}
