//! `cargo xtask bench scale`: each mode on programs of growing size, one dimension after the other: how long attaching
//! and detaching take, what gmpscope itself needs, and what it loses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use clap::ValueEnum as _;
use serde::Deserialize;

use super::capture::Capture;
use super::column::INCOMPLETE;
use super::large_binary::{self, LargeProgram};
use super::{gmpscope, markdown};
use crate::go::{self, Symbols};
use crate::setup::{self, Component};
use crate::workload::Workload;
use crate::{paths, process, step};

/// Measure how each mode scales.
#[derive(clap::Args)]
pub struct Args {
    /// Length of each capture, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Only this dimension
    #[arg(long, conflicts_with = "write")]
    only: Option<Dimension>,
    /// Write the table into docs/overhead.md
    #[arg(long)]
    write: bool,
}

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Dimension {
    /// Live goroutines, which are woken in turn
    Goroutines,
    /// Ps, on as many CPUs as there are
    Ps,
    /// Threads, each locked to a goroutine that waits
    Threads,
    /// `go` statements, each of which is executed
    Sites,
    /// Size of the binary
    Binary,
}

impl Dimension {
    /// Its sizes, in this order.
    fn sizes(self) -> &'static [usize] {
        match self {
            Self::Goroutines => &[1_000, 10_000, 100_000, 1_000_000],
            Self::Ps => &[1, 8, 64, 512],
            Self::Threads => &[10, 100, 1_000, 5_000],
            Self::Sites => &[800, 20_000, 100_000],
            Self::Binary => &[100, 500],
        }
    }

    /// What a size counts.
    fn unit(self) -> &'static str {
        match self {
            Self::Goroutines => "goroutines",
            Self::Ps => "Ps",
            Self::Threads => "threads",
            Self::Sites => "`go` statements",
            Self::Binary => "MB",
        }
    }

    /// Starts a program of this size.
    fn start(self, size: usize) -> Result<Target> {
        let number = size.to_string();
        let (workload, arguments, ps): (&str, &[&str], u32) = match self {
            Self::Goroutines => (
                "many_goroutines",
                &["-turns", "-pause", "0s", "-waiting", &number],
                2,
            ),
            Self::Ps => ("pool", &[], u32::try_from(size)?),
            Self::Threads => (
                "many_goroutines",
                &["-pause", "0s", "-waiting", "0", "-locked", &number],
                2,
            ),
            Self::Sites => return large(&large_binary::build_with(go::NEWEST, size, 8)?),
            // Besides its data such a binary has some 5 MB.
            Self::Binary => {
                return large(&large_binary::build_with(
                    go::NEWEST,
                    800,
                    size * 1_000_000 - (5 << 20),
                )?);
            }
        };
        let mut workload = Workload::start(
            &go::build(go::NEWEST, workload, Symbols::Stripped)?,
            arguments,
            ps,
        )?;
        workload.run()?;
        Ok(Target::Workload(workload))
    }
}

fn large(binary: &Path) -> Result<Target> {
    Ok(Target::Large(LargeProgram::start(binary)?))
}

/// A running program.
enum Target {
    Workload(Workload),
    Large(LargeProgram),
}

impl Target {
    fn pid(&self) -> u32 {
        match self {
            Self::Workload(workload) => workload.pid(),
            Self::Large(program) => program.pid(),
        }
    }
}

/// What `full` says of itself.
#[derive(Deserialize)]
struct FullCapture {
    full: Full,
}

#[derive(Deserialize)]
struct Full {
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    valid_from_ns: Option<u64>,
}

const MODES: [&str; 4] = ["passive", "sampled", "exact", "full"];

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
    let gmpscope = gmpscope()?;
    let mut text = format!(
        "Measured on {}; Go {}; captures of {} s, one each.\n\n\
         | program | mode | exec to probes live, ms | window's end to exit, ms | gmpscope's CPU, % of a core | its most memory, MiB | waits | lost | valid after, ms |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|\n",
        markdown::machine(),
        go::NEWEST,
        args.seconds
    );
    let dimensions = args
        .only
        .map_or_else(|| Dimension::value_variants().to_vec(), |only| vec![only]);
    for dimension in dimensions {
        for &size in dimension.sizes() {
            let what = format!("{size} {}", dimension.unit());
            step::title(&what);
            let target = dimension.start(size).with_context(|| what.clone())?;
            for mode in MODES {
                let row = row(&gmpscope, &target, mode, args.seconds)
                    .with_context(|| format!("{mode} on {what}"))?;
                println!("   {mode}: {row}");
                text += &format!("| {what} | {mode} | {row} |\n");
            }
        }
    }
    markdown::publish("docs/overhead.md", "cargo xtask bench scale", &text, args.write)
}

/// Captures once; returns the cells of a row after program and mode.
fn row(gmpscope: &Path, target: &Target, mode: &str, seconds: u64) -> Result<String> {
    let file = result()?;
    let (began, at) = (SystemTime::now(), Instant::now());
    let mut command = Command::new(gmpscope);
    command
        .args(["attach", "-q", "--format", "json", "--mode", mode])
        .args(["-p", &target.pid().to_string()])
        .args(["--duration", &format!("{seconds}s"), "-o"])
        .arg(&file);
    let logs = paths::target().join("xtask-logs/bench");
    let at_most = Duration::from_secs(seconds + 300);
    let ended = process::run(&mut command, &logs, "gmpscope", false, 0, at_most)?;
    let took = at.elapsed();
    let has_result = ended.status.success() || ended.status.code() == Some(INCOMPLETE);
    anyhow::ensure!(
        has_result && !ended.killed,
        "gmpscope ended with {}: {}",
        ended.status,
        ended.printed()
    );
    let capture = Capture::read(&file)?;
    let (start, finish) = capture.edges(began, took)?;
    Ok(format!(
        "{} | {} | {:.0} | {} | {} | {} | {}",
        start.as_millis(),
        finish.as_millis(),
        100.0 * ended.cpu.as_secs_f64() / took.as_secs_f64(),
        ended.peak_kib.context("gmpscope's memory was not read")? / 1024,
        capture.runnable_to_running.count,
        capture.capture.lost_events,
        match mode {
            "full" => valid_after(&file)?,
            _ => "–".to_owned(),
        }
    ))
}

/// From when on a capture in `full` is valid, in milliseconds of its window.
fn valid_after(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let capture: FullCapture = serde_json::from_str(&text)?;
    Ok(match capture.full.model.valid_from_ns {
        Some(ns) => (ns / 1_000_000).to_string(),
        None => "never".to_owned(),
    })
}

fn result() -> Result<PathBuf> {
    let folder = paths::target().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder.join("scale.json"))
}
