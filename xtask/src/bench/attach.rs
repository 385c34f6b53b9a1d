//! `cargo xtask bench attach`: how long attaching to large programs and detaching from them takes, and how much memory
//! gmpscope needs for it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use clap::ValueEnum as _;

use super::capture::Capture;
use super::large_binary::{self, LargeProgram};
use super::statistics::spread;
use super::{gmpscope, markdown};
use crate::go::Symbols;
use crate::setup::{self, Component};
use crate::workload::Workload;
use crate::{go, paths, process, step};

/// Measures attaching to large programs.
#[derive(clap::Args)]
pub struct Args {
    /// Captures for each mode
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only this program
    #[arg(long, conflicts_with = "write")]
    only: Option<Subject>,
    /// Write the figures into docs/overhead.md
    #[arg(long)]
    write: bool,
}

/// The programs that are attached to.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Subject {
    /// 100 MB, with 64 000 functions
    Large,
    /// 400 MB, with 20 000 `go` statements, each of which is executed
    GoStatements,
    /// Small, with 100 000 goroutines
    Goroutines,
}

/// How long after its start gmpscope's memory is read.
const MEMORY_AFTER: Duration = Duration::from_secs(5);
/// Length of a capture, longer than [`MEMORY_AFTER`].
const DURATION: Duration = Duration::from_secs(6);

/// The figures of one capture.
struct Figures {
    /// From the start of gmpscope's process to the beginning of its window, when its probes are live.
    start: Duration,
    /// From the end of its window to its exit, when its result is printed and its probes are gone.
    finish: Duration,
    /// From the end of its window to the moment when its probes are gone; `None` without probes.
    detached: Option<Duration>,
    /// VmRSS in KiB.
    memory: u64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
    let gmpscope = gmpscope()?;
    let mut text = format!(
        "Measured on {}; Go {}; medians of {} captures [least..greatest].\n\n\
         | target | mode | exec to probes live, ms | window's end to probes gone, ms | window's end to exit, ms | VmRSS after 5 s, MiB |\n\
         |---|---|--:|--:|--:|--:|\n",
        markdown::machine(),
        go::NEWEST,
        args.rounds
    );
    for which in args
        .only
        .map_or(Subject::value_variants().to_vec(), |which| vec![which])
    {
        text += &rows(which, &gmpscope, args.rounds)?;
    }
    markdown::publish("docs/overhead.md", "cargo xtask bench attach", &text, args.write)
}

/// Measures one of the programs; one row per mode.
fn rows(which: Subject, gmpscope: &Path, rounds: usize) -> Result<String> {
    let (binary, what) = match which {
        Subject::Large => (large_binary::build(go::NEWEST)?, ""),
        Subject::GoStatements => (
            large_binary::build_with_goroutines(go::NEWEST)?,
            ", 20 000 `go` statements",
        ),
        Subject::Goroutines => {
            step::title("100 000 goroutines");
            let many = go::build(go::NEWEST, "many_goroutines", Symbols::Stripped)?;
            let mut workload = Workload::start(&many, &["-waiting", "100000"], 2)?;
            workload.run()?;
            let rows = rows_of("100 000 live goroutines", gmpscope, workload.pid(), rounds);
            workload.stop()?;
            return rows;
        }
    };
    let megabytes = fs::metadata(&binary)?.len() / 1_000_000;
    step::title(&format!("a binary of {megabytes} MB"));
    let target = LargeProgram::start(&binary)?;
    let rows = rows_of(
        &format!("stripped, {megabytes} MB{what}"),
        gmpscope,
        target.pid(),
        rounds,
    );
    drop(target);
    rows
}

fn rows_of(target: &str, gmpscope: &Path, pid: u32, rounds: usize) -> Result<String> {
    let modes = ["passive", "sampled", "exact"];
    modes
        .map(|mode| row(target, mode, gmpscope, pid, rounds))
        .into_iter()
        .collect()
}

fn row(target: &str, mode: &str, gmpscope: &Path, pid: u32, rounds: usize) -> Result<String> {
    let mut figures = Vec::new();
    for _ in 0..rounds {
        figures.push(capture(gmpscope, pid, mode).with_context(|| format!("{mode} on {target}"))?);
    }
    let cell = |of: fn(&Figures) -> f64, digits: usize| {
        spread(figures.iter().map(of)).map_or("–".to_owned(), |s| {
            format!("{:.digits$} [{:.digits$}..{:.digits$}]", s.median, s.low, s.high)
        })
    };
    let start = cell(|f| f.start.as_secs_f64() * 1e3, 0);
    let finish = cell(|f| f.finish.as_secs_f64() * 1e3, 0);
    let detached = spread(
        figures
            .iter()
            .filter_map(|f| f.detached)
            .map(|d| d.as_secs_f64() * 1e3),
    );
    let detached = detached.map_or("–".to_owned(), |s| {
        format!("{:.0} [{:.0}..{:.0}]", s.median, s.low, s.high)
    });
    let memory = cell(|f| f.memory as f64 / 1024.0, 1);
    println!("   {target}, {mode}: {start} ms, {detached} ms, {finish} ms, {memory} MiB");
    Ok(format!(
        "| {target} | {mode} | {start} | {detached} | {finish} | {memory} |\n"
    ))
}

fn capture(gmpscope: &Path, pid: u32, mode: &str) -> Result<Figures> {
    let file = paths::target().join("bench/attach.json");
    fs::create_dir_all(paths::target().join("bench"))?;
    let seconds = format!("{}s", DURATION.as_secs());
    let began = (SystemTime::now(), Instant::now());
    let mut child = Command::new(gmpscope)
        .args([
            "attach",
            "-p",
            &pid.to_string(),
            "--mode",
            mode,
            "--duration",
            &seconds,
            "--format",
            "json",
            "-o",
        ])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("starting gmpscope")?;
    thread::sleep(MEMORY_AFTER);
    let memory = process::status_kib(child.id(), "VmRSS:").context("gmpscope's memory cannot be read");
    let gone = wait_for_detach(child.id(), mode);
    let status = child.wait()?;
    let took = began.1.elapsed();
    if !status.success() {
        bail!("gmpscope ended with {status}");
    }
    let capture = Capture::read(&file)?;
    let (start, finish) = capture.edges(began.0, took)?;
    let detached = gone.and_then(|at| at.duration_since(began.1).checked_sub(start + capture.duration()));
    Ok(Figures {
        start,
        finish,
        detached,
        memory: memory?,
    })
}

/// Waits until gmpscope holds no probe any more, to a millisecond: until its links are gone from its open files.
/// `None` in `passive`, which has no probes.
fn wait_for_detach(pid: u32, mode: &str) -> Option<Instant> {
    if mode == "passive" {
        return None;
    }
    while holds_probes(pid) {
        thread::sleep(Duration::from_millis(1));
    }
    Some(Instant::now())
}

/// Whether a process has a BPF link or a perf event among its open files. A process that has exited has none.
fn holds_probes(pid: u32) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    files.flatten().any(|file| {
        fs::read_link(file.path()).is_ok_and(|kind| {
            let kind = kind.to_string_lossy();
            kind.contains("bpf_link") || kind.contains("[perf_event]")
        })
    })
}
