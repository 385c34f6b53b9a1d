//! `cargo xtask bench live`: `full` on a program that does nothing but switch goroutines, recorded, for a while: what
//! is lost, what our own side takes, and what a transition takes on disk.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{gmpscope, markdown};
use crate::go::{self, Symbols};
use crate::paths;
use crate::setup::{self, Component};
use crate::workload::Workload;

/// Every transition of a program that only switches, live.
#[derive(clap::Args)]
pub struct Args {
    /// For how many seconds
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Write the table into docs/overhead.md
    #[arg(long)]
    write: bool,
}

/// What is read of the capture.
#[derive(Deserialize)]
struct Capture {
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

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
    let gmpscope = gmpscope()?;
    let scratch = paths::target().join("bench");
    fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
    let (file, recording) = (scratch.join("live.json"), scratch.join("live.gmps"));
    let binary = go::build(go::NEWEST, "pingpong", Symbols::Kept)?;
    let mut workload = Workload::start(&binary, &[], 1)?;
    workload.run()?;
    thread::sleep(Duration::from_secs(1));
    // It asks before it writes over a recording.
    let _ = fs::remove_file(&recording);
    println!("   {} s of ping-pong ...", args.seconds);
    let child = Command::new(&gmpscope)
        .args(["attach", "-q", "--mode", "full", "--format", "json", "-p"])
        .arg(workload.pid().to_string())
        .arg("--duration")
        .arg(format!("{}s", args.seconds))
        .arg("-o")
        .arg(&file)
        .arg("--record")
        .arg(&recording)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("starting gmpscope")?;
    let cpu = cpu_of(child)?;
    workload.stop()?;
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let capture: Capture = serde_json::from_str(&text).context("the capture of mode full")?;
    let bytes = fs::metadata(&recording).context("the recording")?.len();
    let text = table(&capture, cpu, bytes);
    println!("\n{text}");
    if args.write {
        let document = paths::root().join("docs/overhead.md");
        markdown::replace(&document, "cargo xtask bench live", &text)?;
        println!("written into {}", document.display());
    }
    Ok(())
}

fn table(capture: &Capture, cpu: Duration, bytes: u64) -> String {
    let seconds = capture.capture.duration_ns as f64 / 1e9;
    let transitions = capture.full.model.transitions;
    let each = transitions.max(1) as f64;
    format!(
        "Measured on {}; Go {}; {seconds:.0} s of ping-pong on one P.\n\n\
         | transitions | a second | lost | that did not fit | hits of probes | gmpscope's own CPU time | bytes of the recording, per transition |\n\
         |--:|--:|--:|--:|--:|--:|--:|\n\
         | {transitions} | {:.0} | {} | {} | {} | {:.1} % of a core | {:.2} |\n",
        markdown::machine(),
        go::NEWEST,
        each / seconds,
        capture.capture.lost_events,
        capture.full.model.inferred.values().sum::<u64>(),
        capture.capture.probe_hits,
        100.0 * cpu.as_secs_f64() / seconds,
        bytes as f64 / each
    )
}

/// Waits for the end of `child`: the CPU time that it took, from its beginning to its end.
fn cpu_of(mut child: Child) -> Result<Duration> {
    let stat = format!("/proc/{}/stat", child.id());
    loop {
        // Dead, but not waited for: its figures are final.
        let text = fs::read_to_string(&stat).with_context(|| format!("reading {stat}"))?;
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        if fields.first() == Some(&"Z") {
            let status = child.wait()?;
            if !status.success() {
                bail!("gmpscope ended with {status}: something was lost, or it failed");
            }
            // utime and stime are the 14th and 15th field (proc_pid_stat(5)), the state is the third.
            let ticks = |n: usize| fields.get(n - 3).and_then(|ticks| ticks.parse::<u64>().ok());
            let ticks = ticks(14).zip(ticks(15)).context("no CPU time in stat")?;
            let hertz = rustix::param::clock_ticks_per_second();
            return Ok(Duration::from_secs_f64((ticks.0 + ticks.1) as f64 / hertz as f64));
        }
        thread::sleep(Duration::from_millis(50));
    }
}
