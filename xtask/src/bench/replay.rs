//! `cargo xtask bench replay`: the speed and memory of stream and model, measured by a program of the tests crate,
//! which makes transitions in memory; with `--against` the speed of `gmpscope replay`, which reads a recording.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::against::{Sides, row};
use super::live::{self, FullCapture};
use crate::setup::{self, Component};
use crate::{go, paths, step};

/// How quickly transitions go through stream and model.
#[derive(clap::Args)]
pub struct Args {
    /// Replay one recording with this gmpscope binary and with ours, in turns (A B B A), and print the ratios. It makes
    /// the recording, too: an older one could not read ours
    #[arg(long, value_name = "BINARY")]
    against: Option<PathBuf>,
    /// How often the two take turns
    #[arg(long, default_value_t = 5, requires = "against")]
    rounds: usize,
    /// How many seconds of ping-pong are recorded
    #[arg(long, default_value_t = 10, requires = "against")]
    seconds: u64,
}

/// What a replay took.
struct Replayed {
    cpu: Duration,
    capture: FullCapture,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    if let Some(against) = &args.against {
        setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
        return compare(
            &Sides::new(super::gmpscope()?, against, args.rounds)?,
            args.seconds,
        );
    }
    setup::ensure(&[Component::Bpf])?;
    let mut cargo = paths::cargo();
    cargo.args([
        "run",
        "--release",
        "--package",
        "gmpscope-tests",
        "--bin",
        "replay",
    ]);
    step::run("transitions made in memory", &mut cargo)
}

fn compare(sides: &Sides, seconds: u64) -> Result<()> {
    let workload = live::ping_pong()?;
    println!("   recording {seconds} s of ping-pong ...");
    live::record(sides.theirs(), &workload, seconds)?;
    workload.stop()?;
    let (recording, file) = (live::recording(), paths::target().join("bench/replay.json"));
    let pairs = sides.measure(|gmpscope| {
        let mut command = Command::new(gmpscope);
        command.arg("replay").arg(&recording);
        command.args(["-q", "--format", "json", "-o"]).arg(&file);
        let (_, cpu) = live::cpu_of(&mut command, Duration::from_secs(seconds))?;
        let capture = FullCapture::read(&file)?;
        Ok(Replayed { cpu, capture })
    })?;
    let rows = [
        row("CPU time of a replay, ms", &pairs, 0, |of| {
            of.cpu.as_secs_f64() * 1e3
        }),
        row("transitions in it", &pairs, 0, |of| of.capture.transitions()),
        row("CPU time per transition, ns", &pairs, 1, |of| {
            of.cpu.as_secs_f64() * 1e9 / of.capture.transitions()
        }),
    ];
    println!("\n{}", sides.report(&rows.concat()));
    Ok(())
}
