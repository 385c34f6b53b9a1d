//! Every developer command of the project: `cargo xtask setup | build | deb | demo | test | vm | bench | layouts`.
//!
//! One file (or folder) per command. Each command does its own set-up, so that any of them works in a
//! fresh clone on a fresh machine.

mod arch;
mod bench;
mod build;
mod deb;
mod demo;
mod fuzz;
mod go;
mod layouts;
mod paths;
mod privilege;
mod process;
mod profiles;
mod setup;
mod step;
mod test;
mod vm;
mod workload;

/// The compiler and linker of the BPF programs. The build script of tracer-user includes the same file, so that what is
/// installed here is what it finds.
#[path = "../../tracer-user/build/toolchain.rs"]
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Every developer command of gmpscope.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing on this machine; quick and offline when nothing is
    Setup(setup::Args),
    /// Build gmpscope, for this machine or for arm64
    Build(build::Args),
    /// Build the Debian package: the daemon with its unit, configuration and manual pages
    Deb(deb::Args),
    /// Build gmpscope, start a Go program and show how long its goroutines waited
    Demo(demo::Args),
    /// Regenerate the table of the Go runtime's struct layouts from Go's own sources
    Layouts(layouts::Args),
    /// Write the profiles that the tests build Go programs with
    Profiles(profiles::Args),
    /// Run every check and every test; ends with a line `N passed, N failed`
    Test(test::Args),
    /// Run one part of the tests (used by `test`)
    #[command(hide = true)]
    Part(test::part::Args),
    /// Run the checks in virtual machines with other kernels, on both architectures
    Vm(vm::Args),
    /// Measure what tracing costs, and write the tables of the documentation
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Deb(args) => deb::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Layouts(args) => layouts::run(&args),
        Command::Profiles(args) => profiles::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Part(args) => test::part::run(&args),
        Command::Vm(args) => vm::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
