//! `cargo xtask bench`: measures what tracing costs and how accurate it is, and writes the tables of docs/.

mod accuracy;
mod against;
mod agreement;
mod attach;
mod capture;
mod causes;
mod column;
mod daemon;
mod fuzz;
mod hit;
mod host;
mod large_binary;
mod lifetimes;
mod live;
pub mod markdown;
mod overhead;
mod replay;
mod rounds;
mod rules;
mod sampling;
mod scale;
mod start;
mod statistics;
mod stories;
mod storm;
mod tables;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Subcommand;

use crate::{build, go, paths, privilege};

/// Measure cost and accuracy of tracing.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What each mode costs the traced program, beside bpftrace and runtime/trace: docs/overhead.md
    Overhead(overhead::Args),
    /// What one hit costs, compared with that of an empty program at the same instruction
    Hit(hit::Args),
    /// How long it takes to attach to large programs and to detach, and how much memory
    Attach(attach::Args),
    /// Time, memory and losses as programs grow: goroutines, Ps, threads, `go` statements, size of the binary
    Scale(scale::Args),
    /// What samples of why goroutines wait cost gmpscope itself, in a capture and in the daemon: docs/overhead.md
    Sampling(sampling::Args),
    /// What tracing a start adds to it
    Start(start::Args),
    /// What the kernel side of a watched host costs: process events, the hit cap, memory, detaching
    Host(host::Args),
    /// Agreement with the Go runtime's own figures: docs/accuracy.md
    Accuracy,
    /// Agreement of mode full with runtime/trace, change by change: docs/accuracy.md
    Agreement(agreement::Args),
    /// What workloads that are dominated by a cause, and their twins, wait for: docs/causes.md
    Causes(causes::Args),
    /// How many transitions per second stream and model process, and how much memory a goroutine takes
    Replay(replay::Args),
    /// Whether every transition of a program that only switches gets through, and at what cost: docs/overhead.md
    Live(live::Args),
    /// Fuzz the readers of programs and recordings
    Fuzz(fuzz::Args),
    /// What the daemon costs a host: docs/daemon.md
    Daemon(daemon::CostArgs),
    /// Whether the daemon leaks while processes come and go for an hour: docs/daemon.md
    Soak(daemon::SoakArgs),
    /// On which programs findings are reported, and that they are not on their twins: docs/causes.md
    Rules(rules::Args),
    /// Whether attaching and detaching over and over harms a program: docs/security.md
    Storm(storm::Args),
    /// Services in trouble, and what gmpscope says of them: docs/stories.md
    Stories(stories::Args),
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    if !privilege::is_root() {
        bail!("benchmarks attach to processes, which needs root: run this as root");
    }
    match &args.what {
        What::Overhead(args) => overhead::run(args),
        What::Hit(args) => hit::run(args),
        What::Attach(args) => attach::run(args),
        What::Scale(args) => scale::run(args),
        What::Sampling(args) => sampling::run(args),
        What::Start(args) => start::run(args),
        What::Host(args) => host::run(args),
        What::Accuracy => accuracy::run(),
        What::Agreement(args) => agreement::run(args),
        What::Causes(args) => causes::run(args),
        What::Replay(args) => replay::run(args),
        What::Live(args) => live::run(args),
        What::Fuzz(args) => fuzz::run(args),
        What::Daemon(args) => daemon::cost(args),
        What::Soak(args) => daemon::soak(args),
        What::Rules(args) => rules::run(args),
        What::Storm(args) => storm::run(args),
        What::Stories(args) => stories::run(args),
    }
}

/// The binary to measure: the one that `GMPSCOPE_BIN` names, else a release build of this source, which is made.
fn gmpscope() -> Result<PathBuf> {
    match std::env::var_os("GMPSCOPE_BIN") {
        Some(binary) => Ok(binary.into()),
        None => build::release().map(|()| paths::release_binary()),
    }
}

/// The command that runs a program of the tests crate, with the binary to measure. The program's arguments follow.
fn measuring_program(name: &str, is_release: bool) -> Result<Command> {
    let gmpscope = gmpscope()?;
    let mut cargo = paths::cargo();
    cargo.arg("run");
    if is_release {
        cargo.arg("--release");
    }
    cargo
        .args(["--package", "gmpscope-tests", "--bin", name, "--"])
        .env("GMPSCOPE_BIN", gmpscope)
        .env("GMPSCOPE_CACHE", paths::cache()?)
        .env("GMPSCOPE_GO_ROOTS", std::env::join_paths(go::installed_roots()?)?);
    Ok(cargo)
}
