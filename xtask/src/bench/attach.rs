//! `cargo xtask bench attach`: how long attaching and detaching take on a large binary, and gmpscope's
//! own memory.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use super::capture::Capture;
use super::statistics::spread;
use super::{gmpscope, large_binary, markdown};
use crate::go::Symbols;
use crate::setup::{self, Component};
use crate::workload::Workload;
use crate::{go, paths, step};

/// How quickly a 100 MB binary is attached to, and how much memory that takes.
#[derive(clap::Args)]
pub struct Args {
    /// How often each mode attaches
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Write the figures into docs/overhead.md
    #[arg(long)]
    write: bool,
}

/// When gmpscope's memory is read, after its start.
const MEMORY_AFTER: Duration = Duration::from_secs(5);
/// Length of a capture: longer than that.
const DURATION: Duration = Duration::from_secs(6);

/// One capture.
struct Figures {
    /// From the start of gmpscope's process to the begin of its window, when its probes are live.
    start: Duration,
    /// From the end of its window to the end of its process: result printed, probes gone.
    finish: Duration,
    /// VmRSS in KiB.
    memory: u64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
    let gmpscope = gmpscope()?;
    let large = large_binary::build(go::NEWEST)?;
    let megabytes = fs::metadata(&large)?.len() / 1_000_000;
    let mut text = format!(
        "Measured on {}; Go {}; medians of {} captures [least..greatest].\n\n\
         | target | mode | exec to probes live, ms | window's end to exit, ms | VmRSS after 5 s, MiB |\n\
         |---|---|--:|--:|--:|\n",
        markdown::machine(),
        go::NEWEST,
        args.rounds
    );
    step::title("a large binary");
    let mut target = Target::start(&large)?;
    for mode in ["passive", "sampled", "exact"] {
        text += &row(
            &format!("stripped, {megabytes} MB"),
            mode,
            &gmpscope,
            target.child.id(),
            args.rounds,
        )?;
    }
    target.stop()?;
    step::title("100 000 goroutines");
    let many = go::build(go::NEWEST, "many_goroutines", Symbols::Stripped)?;
    let mut workload = Workload::start(&many, &["-waiting", "100000"], 2)?;
    workload.run()?;
    for mode in ["passive", "sampled", "exact"] {
        text += &row(
            "100 000 live goroutines",
            mode,
            &gmpscope,
            workload.pid(),
            args.rounds,
        )?;
    }
    workload.stop()?;
    println!("\n{text}");
    if args.write {
        let document = paths::root().join("docs/overhead.md");
        markdown::replace(&document, "cargo xtask bench attach", &text)?;
        println!("written into {}", document.display());
    }
    Ok(())
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
    let memory = cell(|f| f.memory as f64 / 1024.0, 1);
    println!("   {target}, {mode}: {start} ms, {finish} ms, {memory} MiB");
    Ok(format!("| {target} | {mode} | {start} | {finish} | {memory} |\n"))
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
    let memory = resident_kib(child.id());
    let status = child.wait()?;
    let took = began.1.elapsed();
    if !status.success() {
        bail!("gmpscope ended with {status}");
    }
    let capture = Capture::read(&file)?;
    let window_began = capture
        .capture
        .started_at
        .parse::<jiff::Timestamp>()
        .map(SystemTime::from)
        .with_context(|| format!("the capture began at {:?}", capture.capture.started_at))?;
    let start = window_began
        .duration_since(began.0)
        .context("the capture began before gmpscope did")?;
    let finish = took
        .checked_sub(start + capture.duration())
        .context("the window is longer than gmpscope ran")?;
    Ok(Figures {
        start,
        finish,
        memory: memory?,
    })
}

/// VmRSS of /proc/PID/status.
fn resident_kib(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    line.split_whitespace()
        .next()
        .context("no number")?
        .parse()
        .context("VmRSS is no number")
}

/// The large program, running.
struct Target {
    child: Child,
}

impl Target {
    fn start(binary: &Path) -> Result<Self> {
        let child = Command::new(binary)
            .env("GOMAXPROCS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        thread::sleep(Duration::from_secs(1));
        Ok(Self { child })
    }

    fn stop(&mut self) -> Result<()> {
        self.child.kill().context("ending the large program")?;
        self.child.wait().context("waiting for its end")?;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // After `stop` both fail, which is as it should be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
