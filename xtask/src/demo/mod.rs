//! `cargo xtask demo`: shows a histogram of a real Go program, or what Prometheus answers about it; installs and builds
//! all that is needed for it.

mod prometheus;

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Component};
use crate::workload::Workload;
use crate::{build, go, paths, privilege, step};

/// Build gmpscope, start a Go program (64 workers on one queue of short jobs, stripped) and attach to it.
#[derive(clap::Args)]
pub struct Args {
    /// Length of each capture
    #[arg(long, default_value = "5s")]
    duration: String,
    /// Have the daemon watch the program instead, and a Prometheus scrape it and answer questions
    #[arg(long, conflicts_with = "duration")]
    prometheus: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    if args.prometheus {
        return prometheus::run();
    }
    setup::ensure(&[Component::Bpf, Component::Linker, Component::Go(go::NEWEST)])?;
    build::release()?;
    step::title("a Go program to trace");
    let binary = go::build(go::NEWEST, "pool", go::Symbols::Stripped)?;
    let mut workload = Workload::start(&binary, &[], 2)?;
    workload.run()?;
    println!(
        "   pool: 64 goroutines take 10 µs jobs from one channel; process {}",
        workload.pid()
    );
    for mode in ["sampled", "exact"] {
        let gmpscope = paths::release_binary();
        let pid = workload.pid().to_string();
        let arguments = ["attach", "-p", &pid, "--duration", &args.duration, "--mode", mode];
        step::title(&format!("gmpscope {}", arguments.join(" ")));
        let program = gmpscope
            .to_str()
            .context("the path of the target folder is not UTF-8")?;
        let status = privilege::as_root(program, &arguments)?
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("starting {program}"))?;
        if !status.success() {
            bail!("`gmpscope {}` ended with {status}", arguments.join(" "));
        }
    }
    workload.stop()
}
