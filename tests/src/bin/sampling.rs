//! Measures what sampling costs gmpscope: the table of docs/overhead.md. `sampling FILE` writes it to FILE; fails where
//! a bound is exceeded.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gmpscope_tests::crowd::Crowd;
use gmpscope_tests::daemon::Daemon;
use gmpscope_tests::estimate::windows;
use gmpscope_tests::run::Attach;
use gmpscope_tests::{Variant, Workload, toolchain};

/// How long each is measured.
const MEASURED: Duration = Duration::from_secs(20);
/// How long the daemon is measured, which does most of its work every ten seconds.
const DAEMON_MEASURED: Duration = Duration::from_secs(60);
/// The share of a core that sampling one target, and the daemon with [`IDLE`] targets, may take.
const BOUND: f64 = 0.003;
/// Go processes of an idle host, and busy ones of another.
const IDLE: usize = 100;
const BUSY: usize = 10;
/// The name of the thread that takes samples.
const THREAD: &str = "samples";

/// A program whose scheduler is sampled.
struct Program {
    what: &'static str,
    workload: &'static str,
    gomaxprocs: u32,
    args: &'static [&'static str],
}

const PROGRAMS: [Program; 5] = [
    Program {
        what: "nothing to run, 2 Ps",
        workload: "idle",
        gomaxprocs: 2,
        args: &[],
    },
    Program {
        what: "62 goroutines wait for 2 Ps",
        workload: "oversubscribed",
        gomaxprocs: 2,
        args: &[],
    },
    Program {
        what: "64 goroutines wait for 8 Ps",
        workload: "oversubscribed",
        gomaxprocs: 8,
        args: &["-procs", "8", "-goroutines", "72"],
    },
    Program {
        what: "100 goroutines wait for 64 Ps",
        workload: "oversubscribed",
        gomaxprocs: 64,
        args: &["-procs", "64", "-goroutines", "164"],
    },
    Program {
        what: "jobs of 10 us from one channel, 2 Ps",
        workload: "pool",
        gomaxprocs: 2,
        args: &[],
    },
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file] = arguments.as_slice() else {
        bail!("not `FILE`: {arguments:?}");
    };
    let table = format!("{}\n{}", captures()?, daemons()?);
    std::fs::write(file, table).with_context(|| format!("writing {file}"))
}

/// Measures the thread that takes samples in a capture.
fn captures() -> Result<String> {
    let mut table = String::from(
        "| program | samples a second | dropped, % | CPU of the thread that samples, % of one core | us for a sample |\n\
         |---|--:|--:|--:|--:|\n",
    );
    let mut exceeded = Vec::new();
    for program in PROGRAMS {
        let binary = Variant::Stripped.build(&toolchain::newest()?, program.workload)?;
        let mut workload = Workload::start(&binary, program.gomaxprocs, program.args)?;
        workload.go()?;
        let (share, samples, torn) = sampled(workload.pid())?;
        let per_second = samples as f64 / MEASURED.as_secs_f64();
        writeln!(
            table,
            "| {} | {per_second:.0} | {:.1} | {:.2} | {:.1} |",
            program.what,
            100.0 * torn as f64 / (samples + torn).max(1) as f64,
            share * 100.0,
            share * 1e6 / per_second.max(1.0)
        )?;
        eprintln!("{}", table.lines().last().unwrap_or_default());
        if share > BOUND {
            exceeded.push(format!("{}: {:.2} % of a core", program.what, share * 100.0));
        }
    }
    ensure!(exceeded.is_empty(), "more than agreed: {}", exceeded.join("; "));
    Ok(table)
}

/// Captures a process, and returns the share of a core that its sampling took, and samples that were taken and dropped.
fn sampled(pid: u32) -> Result<(f64, u64, u64)> {
    let dir = tempfile::tempdir()?;
    let recording = dir.path().join("samples.gmps");
    let tracer = Attach::to(pid)
        .mode("passive")
        .duration(MEASURED + Duration::from_secs(2))
        .arg("--record")
        .arg(&recording.display().to_string())
        .start()?;
    // The first readings cost more.
    std::thread::sleep(Duration::from_secs(1));
    let (cpu, began) = (cpu(tracer.pid(), Some(THREAD))?, Instant::now());
    std::thread::sleep(MEASURED - Duration::from_secs(1));
    let share = (self::cpu(tracer.pid(), Some(THREAD))? - cpu) / began.elapsed().as_secs_f64();
    let capture = tracer.finish()?.captured()?;
    let window = windows(&recording, MEASURED)?.pop().context("no window")?;
    let estimate = window.estimate.context("no samples")?;
    let scale = MEASURED.as_nanos() as f64 / capture.capture.duration_ns.max(1) as f64;
    let per_window = |count: u64| (count as f64 * scale) as u64;
    Ok((share, per_window(estimate.samples), per_window(estimate.torn)))
}

/// Measures the daemon with processes that are idle, and with busy ones.
fn daemons() -> Result<String> {
    let mut table = String::from("| host | CPU of the daemon, % of one core |\n|---|--:|\n");
    let idle = Crowd::of("idle", IDLE, &[])?;
    let daemon = Daemon::start_as_installed(&idle.rule("passive"))?;
    idle.wait_until_alone(&daemon)?;
    let share = daemon_share(&daemon)?;
    writeln!(table, "| {IDLE} idle Go processes | {:.2} |", share * 100.0)?;
    ensure!(
        share <= BOUND,
        "{:.2} % of a core for idle processes",
        share * 100.0
    );
    drop((daemon, idle));
    // Processes that have something to run all the time, on machines of any size.
    let args = ["-procs", "1", "-goroutines", "8"];
    let busy = Crowd::of("oversubscribed", BUSY, &args)?;
    let daemon = Daemon::start_as_installed(&busy.rule("passive"))?;
    busy.wait_until_alone(&daemon)?;
    let share = daemon_share(&daemon)?;
    writeln!(
        table,
        "| {BUSY} Go processes whose goroutines wait all the time | {:.2} |",
        share * 100.0
    )?;
    Ok(table)
}

fn daemon_share(daemon: &Daemon) -> Result<f64> {
    let (cpu, began) = (cpu(daemon.pid(), None)?, Instant::now());
    std::thread::sleep(DAEMON_MEASURED);
    Ok((self::cpu(daemon.pid(), None)? - cpu) / began.elapsed().as_secs_f64())
}

/// CPU time in seconds of the threads of a process, or of those of this name: the sum of their schedstat.
fn cpu(pid: u32, name: Option<&str>) -> Result<f64> {
    let (mut all, mut threads) = (0, 0);
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let folder = thread?.path();
        if !has_name(&folder, name) {
            continue;
        }
        let text = std::fs::read_to_string(folder.join("schedstat"))?;
        let ran: u64 = text.split(' ').next().context("an empty schedstat")?.parse()?;
        all += ran;
        threads += 1;
    }
    ensure!(threads > 0, "process {pid} has no thread called {name:?}");
    Ok(all as f64 / 1e9)
}

fn has_name(folder: &Path, name: Option<&str>) -> bool {
    name.is_none_or(|name| std::fs::read_to_string(folder.join("comm")).is_ok_and(|comm| comm.trim() == name))
}
