//! `cargo xtask bench live`: `full` on a program that does nothing but switch goroutines, recorded, for a while: what
//! is lost, what gmpscope itself costs, and what a transition takes on disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::against::{Pair, Sides, row};
use super::column::INCOMPLETE;
use super::{gmpscope, markdown};
use crate::go::{self, Symbols};
use crate::setup::{self, Component};
use crate::workload::Workload;
use crate::{paths, process};

/// Every transition of a program that only switches, live.
#[derive(clap::Args)]
pub struct Args {
    /// For how many seconds
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Measure this gmpscope binary beside ours, in turns (A B B A), and print the ratios
    #[arg(long, value_name = "BINARY", conflicts_with = "write")]
    against: Option<PathBuf>,
    /// How often the two take turns
    #[arg(long, default_value_t = 5, requires = "against")]
    rounds: usize,
    /// Write the table into docs/overhead.md
    #[arg(long)]
    write: bool,
}

/// What is read of a capture of mode `full`.
#[derive(Deserialize)]
pub struct FullCapture {
    capture: Info,
    full: Full,
}

#[derive(Deserialize)]
struct Info {
    duration_ns: u64,
    lost_events: u64,
    probe_hits: u64,
}

#[derive(Deserialize)]
struct Full {
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    transitions: u64,
    #[serde(default)]
    inferred: BTreeMap<String, u64>,
}

impl FullCapture {
    /// Reads a capture as `-o FILE` wrote it.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not a capture of mode full", file.display()))
    }

    /// How many transitions the model took in; at least 1, since others are divided by it.
    pub fn transitions(&self) -> f64 {
        self.full.model.transitions.max(1) as f64
    }

    fn seconds(&self) -> f64 {
        self.capture.duration_ns as f64 / 1e9
    }
}

/// A capture that was recorded, and what that took.
pub struct Recorded {
    /// How gmpscope ended.
    status: ExitStatus,
    capture: FullCapture,
    /// gmpscope's own CPU time, from its beginning to its end.
    cpu: Duration,
    /// Size of the recording.
    bytes: u64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
    let gmpscope = gmpscope()?;
    let workload = ping_pong()?;
    println!("   {} s of ping-pong ...", args.seconds);
    if let Some(against) = &args.against {
        let sides = Sides::new(gmpscope, against, args.rounds)?;
        let pairs = sides.measure(|gmpscope| record(gmpscope, &workload, args.seconds))?;
        workload.stop()?;
        println!("\n{}", sides.report(&rows(&pairs)));
        return Ok(());
    }
    let recorded = record(&gmpscope, &workload, args.seconds)?;
    workload.stop()?;
    ensure!(
        recorded.status.success(),
        "gmpscope ended with {}: something was lost, or it failed",
        recorded.status
    );
    let text = table(&recorded);
    markdown::publish("docs/overhead.md", "cargo xtask bench live", &text, args.write)
}

/// Starts two goroutines that do nothing but wake each other.
pub fn ping_pong() -> Result<Workload> {
    let binary = go::build(go::NEWEST, "pingpong", Symbols::Kept)?;
    let mut workload = Workload::start(&binary, &[], 1)?;
    workload.run()?;
    thread::sleep(Duration::from_secs(1));
    Ok(workload)
}

/// Where [`record`] leaves the recording.
pub fn recording() -> PathBuf {
    paths::target().join("bench/live.gmps")
}

/// Captures a workload in mode `full` and records it. That something was lost is not an error here.
pub fn record(gmpscope: &Path, workload: &Workload, seconds: u64) -> Result<Recorded> {
    let scratch = paths::target().join("bench");
    fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
    let (file, recording) = (scratch.join("live.json"), recording());
    // It asks before it writes over a recording.
    let _ = fs::remove_file(&recording);
    let mut command = Command::new(gmpscope);
    command
        .args(["attach", "-q", "--mode", "full", "--format", "json", "-p"])
        .arg(workload.pid().to_string())
        .arg("--duration")
        .arg(format!("{seconds}s"))
        .arg("-o")
        .arg(&file)
        .arg("--record")
        .arg(&recording);
    let (status, cpu) = cpu_of(&mut command, Duration::from_secs(seconds))?;
    Ok(Recorded {
        status,
        capture: FullCapture::read(&file)?,
        cpu,
        bytes: fs::metadata(&recording).context("the recording")?.len(),
    })
}

/// Runs gmpscope, which takes somewhat more than `expected`: how it ended, and its CPU time. It fails unless there is a
/// result.
pub fn cpu_of(command: &mut Command, expected: Duration) -> Result<(ExitStatus, Duration)> {
    let logs = paths::target().join("xtask-logs/bench");
    let at_most = expected + Duration::from_secs(120);
    let ended = process::run(command, &logs, "gmpscope", false, 0, at_most)?;
    let has_result = ended.status.success() || ended.status.code() == Some(INCOMPLETE);
    ensure!(
        has_result && !ended.killed,
        "gmpscope ended with {}: {}",
        ended.status,
        ended.printed()
    );
    Ok((ended.status, ended.cpu))
}

fn table(recorded: &Recorded) -> String {
    let capture = &recorded.capture;
    let seconds = capture.seconds();
    format!(
        "Measured on {}; Go {}; {seconds:.0} s of ping-pong on one P.\n\n\
         | transitions | a second | lost | that did not fit | hits of probes | gmpscope's own CPU time | bytes of the recording, per transition |\n\
         |--:|--:|--:|--:|--:|--:|--:|\n\
         | {} | {:.0} | {} | {} | {} | {:.1} % of a core | {:.2} |\n",
        markdown::machine(),
        go::NEWEST,
        capture.full.model.transitions,
        capture.transitions() / seconds,
        capture.capture.lost_events,
        capture.full.model.inferred.values().sum::<u64>(),
        capture.capture.probe_hits,
        100.0 * recorded.cpu.as_secs_f64() / seconds,
        recorded.bytes as f64 / capture.transitions()
    )
}

/// The same figures of two binaries, in which more is not the same as slower.
fn rows(pairs: &[Pair<Recorded>]) -> String {
    [
        row("gmpscope's own CPU time per transition, ns", pairs, 1, |of| {
            of.cpu.as_secs_f64() * 1e9 / of.capture.transitions()
        }),
        row("transitions a second", pairs, 0, |of| {
            of.capture.transitions() / of.capture.seconds()
        }),
        row("bytes of the recording per transition", pairs, 3, |of| {
            of.bytes as f64 / of.capture.transitions()
        }),
        row("events lost", pairs, 0, |of| {
            of.capture.capture.lost_events as f64
        }),
    ]
    .concat()
}
