//! The columns of the overhead table: ways to look at one running process, each begun and ended around a
//! measurement.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::capture::Capture;
use crate::workload::Workload;

/// One way to trace a process, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Column {
    /// Nobody looks.
    Untraced,
    /// The same again: what two equal measurements differ by.
    UntracedAgain,
    /// `--mode passive`.
    Passive,
    /// `--mode sampled`.
    Sampled,
    /// `--mode exact`.
    Exact,
    /// `--mode full`.
    Full,
    /// `--mode full --stacks`.
    Stacks,
    /// bpftrace with the histogram that anyone would write first: stamps at `casgstatus`.
    Bpftrace,
    /// The program's own execution trace, written to a file.
    RuntimeTrace,
    /// The probes of `sampled` with programs that do nothing: what the traps alone cost.
    SampledEmpty,
    /// The same of `exact`.
    ExactEmpty,
    /// The same of `full`.
    FullEmpty,
}

impl Column {
    /// Those of the overhead table, in its order.
    pub const ALL: [Self; 9] = [
        Self::Untraced,
        Self::Passive,
        Self::Sampled,
        Self::Exact,
        Self::Full,
        Self::Stacks,
        Self::Bpftrace,
        Self::RuntimeTrace,
        Self::UntracedAgain,
    ];

    /// Those in which gmpscope traces, in the table's order.
    pub const GMPSCOPE: [Self; 5] = [
        Self::Passive,
        Self::Sampled,
        Self::Exact,
        Self::Full,
        Self::Stacks,
    ];

    /// As the table's head says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::UntracedAgain => "untraced again",
            Self::Passive => "passive",
            Self::Sampled => "sampled",
            Self::Exact => "exact",
            Self::Full => "full",
            Self::Stacks => "full --stacks",
            Self::Bpftrace => "bpftrace",
            Self::RuntimeTrace => "runtime/trace",
            Self::SampledEmpty => "sampled, empty programs",
            Self::ExactEmpty => "exact, empty programs",
            Self::FullEmpty => "full, empty programs",
        }
    }

    /// gmpscope's mode, if it is gmpscope that traces.
    fn mode(self) -> Option<&'static str> {
        match self {
            Self::Passive => Some("passive"),
            Self::Sampled | Self::SampledEmpty => Some("sampled"),
            Self::Exact | Self::ExactEmpty => Some("exact"),
            Self::Full | Self::FullEmpty | Self::Stacks => Some("full"),
            _ => None,
        }
    }

    /// Whether its programs do nothing, so that it sees nothing.
    fn is_empty(self) -> bool {
        matches!(self, Self::SampledEmpty | Self::ExactEmpty | Self::FullEmpty)
    }
}

/// How long a tracer is given to settle once it says that it traces.
const SETTLE: Duration = Duration::from_millis(300);
/// How long a tracer may take to begin, and to end once it is told to.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits by stamping the goroutine (RAX) when `casgstatus` is entered with new status (RCX) Runnable, 1, and
/// taking the difference when it is entered with old status (RBX) Runnable and new status Running, 2.
const BPFTRACE: &str = r#"uprobe:BINARY:"runtime.casgstatus" {
  if (reg("cx") == 1) { @since[reg("ax")] = nsecs; }
  else if (reg("bx") == 1 && reg("cx") == 2) {
    $since = @since[reg("ax")];
    if ($since) { @waits = hist(nsecs - $since); delete(@since[reg("ax")]); }
  }
}"#;

/// gmpscope's status when it lost something: its capture says how much, and so does the table.
pub const INCOMPLETE: i32 = 5;

/// A tracer that traces.
pub enum Tracer {
    /// Nothing, or nothing outside the process.
    Inside,
    /// gmpscope, which will write a capture to this file, with the thread that reads its messages.
    Gmpscope {
        child: Child,
        file: PathBuf,
        output: thread::JoinHandle<String>,
    },
    /// bpftrace, with the thread that reads what it prints.
    Bpftrace {
        child: Child,
        output: thread::JoinHandle<String>,
    },
}

/// Where things are that a tracer needs.
pub struct Tools<'a> {
    /// The release binary.
    pub gmpscope: &'a Path,
    /// The workload's binary, with symbols: bpftrace knows no other way to find a function.
    pub workload: &'a Path,
    /// For files that are thrown away.
    pub scratch: &'a Path,
}

/// Begins to trace, and returns once it does.
pub fn begin(column: Column, workload: &mut Workload, tools: &Tools) -> Result<Tracer> {
    let pid = workload.pid();
    match column {
        Column::Untraced | Column::UntracedAgain => {
            thread::sleep(SETTLE);
            Ok(Tracer::Inside)
        }
        Column::RuntimeTrace => {
            workload.command(&format!("trace start {}", tools.scratch.join("trace").display()))?;
            thread::sleep(SETTLE);
            Ok(Tracer::Inside)
        }
        Column::Passive
        | Column::Sampled
        | Column::Exact
        | Column::Full
        | Column::Stacks
        | Column::SampledEmpty
        | Column::ExactEmpty
        | Column::FullEmpty => {
            let file = tools.scratch.join("capture.json");
            let mode = column.mode().unwrap_or_default();
            let mut gmpscope = Command::new(tools.gmpscope);
            let mut more = Vec::new();
            if column.is_empty() {
                gmpscope.env("GMPSCOPE_EMPTY_PROGRAMS", "1");
            }
            if column == Column::Stacks {
                more.push("--stacks");
            }
            let mut child = gmpscope
                .args([
                    "attach",
                    "-v",
                    "-p",
                    &pid.to_string(),
                    "--mode",
                    mode,
                    "--format",
                    "json",
                    "-o",
                ])
                .arg(&file)
                .args(more)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .context("starting gmpscope")?;
            let output = wait_for("attached", child.stderr.take())
                .inspect_err(|_| drop(child.kill()))
                .context("waiting for gmpscope to attach")?;
            // It measures the cost of a hit first, on the CPUs that the target needs too.
            thread::sleep(Duration::from_millis(500));
            Ok(Tracer::Gmpscope { child, file, output })
        }
        Column::Bpftrace => {
            let program = BPFTRACE.replace("BINARY", &tools.workload.display().to_string());
            let mut child = Command::new("bpftrace")
                .args(["-p", &pid.to_string(), "-e", &program])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .context("starting bpftrace")?;
            let output = wait_for("Attaching", child.stdout.take())
                .inspect_err(|_| drop(child.kill()))
                .context("waiting for bpftrace to attach")?;
            // It says so before it does so.
            thread::sleep(Duration::from_secs(1));
            Ok(Tracer::Bpftrace { child, output })
        }
    }
}

/// Reads what a tracer prints until it says that it attaches; the rest is read by a thread, so that the
/// tracer never waits for us.
fn wait_for(word: &str, output: Option<impl Read + Send + 'static>) -> Result<thread::JoinHandle<String>> {
    let mut lines = BufReader::new(output.context("a tracer without a pipe")?);
    let mut said = String::new();
    loop {
        let before = said.len();
        if lines.read_line(&mut said)? == 0 {
            bail!("it ended, and said {said:?}");
        }
        if said.get(before..).is_some_and(|line| line.contains(word)) {
            break;
        }
    }
    Ok(thread::spawn(move || {
        let mut rest = String::new();
        // What cannot be read is not missed: a tracer's figures are checked on their own.
        let _ = lines.read_to_string(&mut rest);
        rest
    }))
}

/// Ends it; a measurement that began at `began` is only good if the tracer traced by then. Returns the
/// capture if it made one.
pub fn end(
    column: Column,
    tracer: Tracer,
    began: Instant,
    workload: &mut Workload,
    tools: &Tools,
) -> Result<Option<Capture>> {
    match tracer {
        Tracer::Inside => {
            if column == Column::RuntimeTrace {
                workload.command("trace stop")?;
                fs::remove_file(tools.scratch.join("trace")).context("removing a trace")?;
            }
            Ok(None)
        }
        Tracer::Gmpscope { child, file, output } => {
            let told = Instant::now();
            let ended = interrupt(child, "gmpscope");
            let said = output.join().unwrap_or_default();
            ended.with_context(|| format!("it said {said:?}"))?;
            let capture = Capture::read(&file)?;
            if Some(capture.capture.mode.as_str()) != column.mode() {
                bail!(
                    "gmpscope fell back from {} to {}",
                    column.name(),
                    capture.capture.mode
                );
            }
            if capture.duration() < told - began {
                bail!(
                    "gmpscope's window is only {:?} long, the measurement was longer",
                    capture.duration()
                );
            }
            if column.is_empty() != (capture.runnable_to_running.count == 0) {
                bail!(
                    "{}: gmpscope saw {} waits",
                    column.name(),
                    capture.runnable_to_running.count
                );
            }
            Ok(Some(capture))
        }
        Tracer::Bpftrace { child, output } => {
            let said = interrupt(child, "bpftrace");
            let text = output.join().unwrap_or_default();
            if let Err(error) = said {
                // bpftrace 0.17 hangs now and then when told to end (2 of 40 runs). It had been attached as
                // long as it was measured, so the figure stands.
                println!("   {error:#}; it was killed");
                return Ok(None);
            }
            if !text.contains("@waits") {
                bail!("bpftrace saw no wait; it said {text:?}");
            }
            Ok(None)
        }
    }
}

/// SIGINT, and SIGKILL to one that does not listen.
fn interrupt(mut child: Child, name: &str) -> Result<()> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("no process id")?;
    kill_process(pid, Signal::INT).with_context(|| format!("interrupting {name}"))?;
    let told = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            // bpftrace ends with a failure when it cannot detach cleanly, its figures printed.
            let is_incomplete = status.code() == Some(INCOMPLETE);
            if !status.success() && !is_incomplete && name == "gmpscope" {
                bail!("gmpscope ended with {status}");
            }
            return Ok(());
        }
        if told.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            bail!("{name} did not end within {PATIENCE:?} of SIGINT");
        }
        thread::sleep(Duration::from_millis(5));
    }
}
