//! `cargo xtask test`: every check and every test, each named and timed, all of them even if one fails.

mod checks;
mod counts;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::setup::{self, Component, prometheus};
use crate::{arch::Arch, deb, fuzz, go, paths, privilege, step, vm};
use counts::Counts;

/// Run every check and every test.
#[derive(clap::Args)]
pub struct Args {
    /// Few Go versions and build variants, no virtual machines: for the work in between
    #[arg(long)]
    fast: bool,
    /// Only tests whose name contains one of these, and no checks of the source
    filter: Vec<String>,
}

/// One step's name, outcome and time.
struct Done {
    name: &'static str,
    counts: Counts,
    took: Duration,
    error: Option<anyhow::Error>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    if !privilege::is_root() {
        eprintln!(
            "\n*** NOT ROOT: the end-to-end tests attach to processes and will FAIL. Run this as root.\n"
        );
    }
    setup::ensure(&components(args.fast))?;
    let mut report = Report::default();
    if args.filter.is_empty() {
        report.check("formatting", checks::formatting);
        report.check("clippy", checks::clippy);
        report.check("clippy for the BPF target", checks::clippy_bpf);
        report.check("dependencies", checks::dependencies);
    }
    report.tests("unit tests", || unit_tests(args));
    let built = report.check("release build and package", package);
    report.tests("end-to-end tests", || match built {
        true => end_to_end(args),
        false => bail!("there is no release binary to test"),
    });
    if args.filter.is_empty() && !args.fast {
        report.tests("fuzzing", fuzzing);
        report.tests("virtual machines", virtual_machines);
    }
    report.print(began.elapsed())
}

fn components(fast: bool) -> Vec<Component> {
    let mut components = vec![Component::Bpf, Component::Lint, Component::Cgo];
    components.extend([Component::Linker, Component::Packaging, Component::Prometheus]);
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

fn unit_tests(args: &Args) -> Result<Counts> {
    let roots = std::env::join_paths(go::installed_roots()?)?;
    let mut cargo = paths::cargo();
    cargo
        .args([
            "test",
            "--workspace",
            "--exclude",
            "gmpscope-tests",
            "--no-fail-fast",
            "--",
        ])
        .args(&args.filter)
        .env("GMPSCOPE_GO_ROOTS", roots);
    counts::run(&mut cargo)
}

/// Long enough to find again what was found before, and what is easy to find.
fn fuzzing() -> Result<Counts> {
    fuzz::prepare(&paths::release_binary())?;
    let passed = fuzz::run(FUZZED)?;
    Ok(Counts { passed, failed: 0 })
}

/// The binary and its Debian package.
fn package() -> Result<()> {
    deb::check(&deb::make(Arch::native())?)
}

/// The oldest kernel, and the other architecture.
fn virtual_machines() -> Result<Counts> {
    let mut counts = Counts::default();
    for report in vm::boot_all(&vm::TESTED, vm::Versions::Few, true)? {
        let failed = report.failures().len() as u64;
        counts.failed += failed;
        counts.passed += report.findings.len() as u64 - failed;
    }
    Ok(counts)
}

/// How long each target is fuzzed.
const FUZZED: Duration = Duration::from_secs(10);

/// Most failed end-to-end tests that are run once more.
const MOST_AGAIN: usize = 3;

/// Runs the end-to-end tests. They watch live programs with a second observer beside gmpscope, and on a busy
/// machine one of them may lose its CPU at the wrong moment: a few that fail are run once more, and named. One at
/// a time: each measures, and another one's load would be in the figures.
fn end_to_end(args: &Args) -> Result<Counts> {
    let (first, failed) = counts::run_naming(end_to_end_of(args, &args.filter)?.arg("--test-threads=1"))?;
    if failed.is_empty() || failed.len() > MOST_AGAIN || failed.len() as u64 != first.failed {
        return Ok(first);
    }
    println!("\n*** failed, and run once more: {}\n", failed.join(", "));
    let mut again = end_to_end_of(args, &failed)?;
    let second = counts::run(again.args(["--test-threads=1", "--exact"]))?;
    Ok(Counts {
        passed: first.passed + second.passed,
        failed: first.failed - second.passed.min(first.failed),
    })
}

fn end_to_end_of(args: &Args, names: &[String]) -> Result<Command> {
    let mut cargo = paths::cargo();
    cargo
        .args(["test", "--package", "gmpscope-tests", "--no-fail-fast", "--"])
        .args(names);
    with_environment(&mut cargo, args.fast)?;
    Ok(cargo)
}

/// What the tests crate has to be told: which binary, and how much of it all.
fn with_environment(command: &mut Command, fast: bool) -> Result<()> {
    command
        .env("GMPSCOPE_BIN", paths::release_binary())
        .env("GMPSCOPE_DEB", deb::path(Arch::native()))
        .env("GMPSCOPE_PROMETHEUS", prometheus::folder()?)
        .env("GMPSCOPE_CACHE", paths::cache()?)
        .env("GMPSCOPE_GO_ROOTS", std::env::join_paths(go::installed_roots()?)?)
        .env("GMPSCOPE_TESTS", if fast { "fast" } else { "full" });
    Ok(())
}

/// What happened so far.
#[derive(Default)]
struct Report {
    steps: Vec<Done>,
}

impl Report {
    /// A step that passes or fails as a whole; says whether it passed.
    fn check(&mut self, name: &'static str, step: impl FnOnce() -> Result<()>) -> bool {
        self.tests(name, || step().map(|()| Counts { passed: 1, failed: 0 }))
    }

    /// A step that counts its tests. An error counts as one more that failed.
    fn tests(&mut self, name: &'static str, step: impl FnOnce() -> Result<Counts>) -> bool {
        step::title(name);
        let began = Instant::now();
        let (counts, error) = match step() {
            Ok(counts) => (counts, None),
            Err(error) => (Counts { passed: 0, failed: 1 }, Some(error)),
        };
        if let Some(error) = &error {
            eprintln!("   {name} FAILED: {error:#}");
        }
        let passed = counts.failed == 0;
        self.steps.push(Done {
            name,
            counts,
            took: began.elapsed(),
            error,
        });
        passed
    }

    /// The summary; the last line is the one that scripts look for.
    fn print(&self, took: Duration) -> Result<()> {
        step::title(&format!("all of it: {}", step::seconds(took)));
        let mut all = Counts::default();
        for done in &self.steps {
            let Counts { passed, failed } = done.counts;
            all.passed += passed;
            all.failed += failed;
            let how = if failed == 0 { "ok" } else { "FAILED" };
            println!(
                "   {:<28} {how:<7} {passed:>5} passed {failed:>3} failed   {}",
                done.name,
                step::seconds(done.took)
            );
            if let Some(error) = &done.error {
                let text = format!("{error:#}");
                println!("      {}", text.lines().next().unwrap_or_default());
            }
        }
        println!("\n{} passed, {} failed", all.passed, all.failed);
        if all.failed > 0 {
            bail!("{} of {} failed", all.failed, all.passed + all.failed);
        }
        Ok(())
    }
}
