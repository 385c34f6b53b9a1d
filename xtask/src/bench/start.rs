//! `cargo xtask bench start`: how much time `gmpscope run` adds to the start of a program.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::lifetimes::Lifetimes;
use super::statistics::{Spread, spread};
use super::{gmpscope, markdown};
use crate::go::Symbols;
use crate::setup::{self, Component};
use crate::{go, paths, step};

/// Measure how much time tracing a start adds to it.
#[derive(clap::Args)]
pub struct Args {
    /// How often each program starts, traced and untraced in turn
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    /// Write the table into docs/overhead.md
    #[arg(long)]
    write: bool,
}

/// A program that exits soon after its start.
struct Program {
    name: &'static str,
    what: &'static str,
    binary: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
    let gmpscope = gmpscope()?;
    let programs = [
        Program {
            name: "hello",
            what: "prints a line",
            binary: go::build(go::NEWEST, "hello", Symbols::Stripped)?,
        },
        Program {
            name: "http_start",
            what: "a net/http server that ends when it listens",
            binary: go::build(go::NEWEST, "http_start", Symbols::Stripped)?,
        },
    ];
    let file = paths::target().join("bench/start.json");
    fs::create_dir_all(paths::target().join("bench"))?;
    let mut text = format!(
        "Measured on {}; Go {}; medians of {} starts each, in turn [least..greatest].\n\n\
         | program | | exec to exit, untraced, ms | `gmpscope run`, ms | added, ms |\n\
         |---|---|--:|--:|--:|\n",
        markdown::machine(),
        go::NEWEST,
        args.rounds
    );
    let cell = |s: &Spread| format!("{:.2} [{:.2}..{:.2}]", s.median, s.low, s.high);
    let of = |times: Vec<Duration>| spread(times.iter().map(|t| t.as_secs_f64() * 1e3)).context("no rounds");
    for program in &programs {
        step::title(program.name);
        let (mut untraced, mut traced) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            untraced.push(lifetime(program, None, &file)?);
            traced.push(lifetime(program, Some(&gmpscope), &file)?);
        }
        let (untraced, traced) = (of(untraced)?, of(traced)?);
        let row = format!(
            "| {} | {} | {} | {} | {:.2} |\n",
            program.name,
            program.what,
            cell(&untraced),
            cell(&traced),
            traced.median - untraced.median
        );
        print!("   {row}");
        text += &row;
    }
    step::title("bystander");
    let hello = &programs[0].binary;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..BLOCKS {
        alone.extend(untraced_lifetimes(hello, args.rounds)?);
        let gate = Gate::set_up(&gmpscope, &file)?;
        beside.extend(untraced_lifetimes(hello, args.rounds)?);
        drop(gate);
    }
    let (alone, beside) = (of(alone)?, of(beside)?);
    let row = format!(
        "| hello | of somebody else, beside `gmpscope run --follow`; from fork to its end | {} | {} | {:.2} |\n",
        cell(&alone),
        cell(&beside),
        beside.median - alone.median
    );
    print!("   {row}");
    text += &row;
    markdown::publish("docs/overhead.md", "cargo xtask bench start", &text, args.write)
}

/// How often the gate is set up and removed.
const BLOCKS: usize = 5;

/// A `gmpscope run --follow` of a command that only sleeps: meanwhile every execve of the host waits for its answer.
struct Gate(Child);

impl Gate {
    fn set_up(gmpscope: &Path, file: &Path) -> Result<Self> {
        let mut child = Command::new(gmpscope)
            .args(["run", "--follow", "--format", "json", "-o"])
            .arg(file)
            .args(["--", "sleep", "600"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting gmpscope run --follow")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let mut line = String::new();
        BufReader::new(stderr).read_line(&mut line)?;
        let gate = Self(child);
        match line.starts_with("attached:") {
            true => Ok(gate),
            false => bail!("gmpscope run --follow did not attach: {line}"),
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // SIGTERM is passed on to the command.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// The times from fork to exit of a program that is not traced.
fn untraced_lifetimes(program: &Path, rounds: usize) -> Result<Vec<Duration>> {
    let lifetime = || -> Result<Duration> {
        let began = Instant::now();
        Command::new(program)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        Ok(began.elapsed())
    };
    (0..rounds).map(|_| lifetime()).collect()
}

/// The time from exec to exit of a program, traced by `tracer` if there is one.
fn lifetime(program: &Program, tracer: Option<&Path>, file: &Path) -> Result<Duration> {
    let mut kernel = Lifetimes::listen()?;
    let mut command = match tracer {
        None => Command::new(&program.binary),
        Some(gmpscope) => {
            let mut command = Command::new(gmpscope);
            command.args(["run", "-q", "--format", "json", "-o"]).arg(file);
            command.arg("--").arg(&program.binary);
            command
        }
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {}", program.name))?;
    let pid = child.id();
    let status = child.wait()?;
    if !status.success() {
        bail!("{} ended with {status}", program.name);
    }
    let pid = match tracer {
        None => pid,
        Some(_) => {
            let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            serde_json::from_str::<Traced>(&text)?.target.pid
        }
    };
    kernel.wait_for_exit(pid)
}

/// The part of a capture that is read.
#[derive(Deserialize)]
struct Traced {
    target: Target,
}

/// The process that was traced.
#[derive(Deserialize)]
struct Target {
    pid: u32,
}
