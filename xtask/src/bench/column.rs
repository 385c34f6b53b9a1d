//! The columns of the overhead table: ways to trace one running process, each begun before a measurement and ended
//! after it.

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
    /// Nothing traces it.
    Untraced,
    /// Untraced once more, which shows how much two equal measurements differ.
    UntracedAgain,
    /// `--mode passive`.
    Passive,
    /// `--mode sampled`.
    Sampled,
    /// `--mode exact`.
    Exact,
    /// `--mode full`.
    Full,
    /// `--mode full` with a ring buffer that all CPUs share, as if there were too many for one each.
    SharedRing,
    /// `--mode full --stacks`.
    Stacks,
    /// bpftrace with the histogram that one would write first: timestamps at `casgstatus`.
    Bpftrace,
    /// The program's own execution trace, written to a file.
    RuntimeTrace,
    /// `--mode sampled` with BPF programs that do nothing: the cost of the traps alone.
    SampledEmpty,
    /// `--mode exact` with such programs.
    ExactEmpty,
    /// `--mode full` with such programs.
    FullEmpty,
}

impl Column {
    /// The columns of the overhead table, in its order.
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

    /// The columns of the overhead table in which gmpscope traces, in its order.
    pub const GMPSCOPE: [Self; 5] = [
        Self::Passive,
        Self::Sampled,
        Self::Exact,
        Self::Full,
        Self::Stacks,
    ];

    /// The name in the head of the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::UntracedAgain => "untraced again",
            Self::Passive => "passive",
            Self::Sampled => "sampled",
            Self::Exact => "exact",
            Self::Full => "full",
            Self::SharedRing => "full, one ring",
            Self::Stacks => "full --stacks",
            Self::Bpftrace => "bpftrace",
            Self::RuntimeTrace => "runtime/trace",
            Self::SampledEmpty => "sampled, empty programs",
            Self::ExactEmpty => "exact, empty programs",
            Self::FullEmpty => "full, empty programs",
        }
    }

    /// The mode of gmpscope, if gmpscope traces.
    fn mode(self) -> Option<&'static str> {
        match self {
            Self::Passive => Some("passive"),
            Self::Sampled | Self::SampledEmpty => Some("sampled"),
            Self::Exact | Self::ExactEmpty => Some("exact"),
            Self::Full | Self::SharedRing | Self::FullEmpty | Self::Stacks => Some("full"),
            _ => None,
        }
    }

    /// Whether the BPF programs do nothing, so that no wait is seen.
    fn is_empty(self) -> bool {
        matches!(self, Self::SampledEmpty | Self::ExactEmpty | Self::FullEmpty)
    }
}

/// How long to wait once a tracer says that it is attached.
const SETTLE: Duration = Duration::from_millis(300);
/// A size of the ring buffers that is too small for more than one.
const ONE_RING: &str = "1M";
/// How long a tracer may take to exit after SIGINT.
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);

/// Measures waits: stores the time under the goroutine (RAX) when `casgstatus` is entered with the new status (RCX)
/// Runnable, 1, and takes the difference when it is entered with the old status (RBX) Runnable and the new one
/// Running, 2.
const BPFTRACE: &str = r#"uprobe:BINARY:"runtime.casgstatus" {
  if (reg("cx") == 1) { @since[reg("ax")] = nsecs; }
  else if (reg("bx") == 1 && reg("cx") == 2) {
    $since = @since[reg("ax")];
    if ($since) { @waits = hist(nsecs - $since); delete(@since[reg("ax")]); }
  }
}"#;

/// The exit status of gmpscope when events were lost. The capture says how many, and so does the table.
pub const INCOMPLETE: i32 = 5;

/// A running tracer.
pub enum Tracer {
    /// No tracer, or the runtime of the process itself.
    Inside,
    /// gmpscope, which will write a capture to `file`, with the thread that reads its stderr.
    Gmpscope {
        child: Child,
        file: PathBuf,
        output: thread::JoinHandle<String>,
    },
    /// bpftrace, with the thread that reads its stdout.
    Bpftrace {
        child: Child,
        output: thread::JoinHandle<String>,
    },
}

/// Paths that tracers need.
pub struct Tools<'a> {
    /// The gmpscope binary to measure.
    pub gmpscope: &'a Path,
    /// The binary of the workload, with symbols, by which bpftrace finds a function.
    pub workload: &'a Path,
    /// A folder for temporary files.
    pub scratch: &'a Path,
}

/// Starts a tracer and waits until it is attached.
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
        | Column::SharedRing
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
            if column == Column::SharedRing {
                more.extend(["--ring", ONE_RING]);
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
            // gmpscope measures the cost of a hit first, on CPUs that the target needs too.
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
            // bpftrace prints this before it attaches.
            thread::sleep(Duration::from_secs(1));
            Ok(Tracer::Bpftrace { child, output })
        }
    }
}

/// Reads the output of a tracer up to a line that contains `word`. A thread reads the rest, so that the tracer never
/// blocks on its output.
fn wait_for(word: &str, output: Option<impl Read + Send + 'static>) -> Result<thread::JoinHandle<String>> {
    let mut lines = BufReader::new(output.context("a tracer without a pipe")?);
    let mut printed = String::new();
    loop {
        let before = printed.len();
        if lines.read_line(&mut printed)? == 0 {
            bail!("it exited, and printed {printed:?}");
        }
        if printed.get(before..).is_some_and(|line| line.contains(word)) {
            break;
        }
    }
    Ok(thread::spawn(move || {
        let mut rest = String::new();
        // A read error loses only messages: the figures of a tracer are checked separately.
        let _ = lines.read_to_string(&mut rest);
        rest
    }))
}

/// Stops a tracer and returns its capture, if it made one. Fails if the tracer was not yet attached at `began`, when
/// the measurement began.
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
            let interrupted = Instant::now();
            let exited = interrupt(child, "gmpscope");
            let printed = output.join().unwrap_or_default();
            exited.with_context(|| format!("it printed {printed:?}"))?;
            let capture = Capture::read(&file)?;
            if Some(capture.capture.mode.as_str()) != column.mode() {
                bail!(
                    "gmpscope fell back from {} to {}",
                    column.name(),
                    capture.capture.mode
                );
            }
            if capture.duration() < interrupted - began {
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
            let exited = interrupt(child, "bpftrace");
            let printed = output.join().unwrap_or_default();
            if let Err(error) = exited {
                // bpftrace 0.17 sometimes hangs on SIGINT (2 of 40 runs). It was attached during the whole
                // measurement, so the figure is valid.
                println!("   {error:#}; it was killed");
                return Ok(None);
            }
            if !printed.contains("@waits") {
                bail!("bpftrace saw no wait; it printed {printed:?}");
            }
            Ok(None)
        }
    }
}

/// Sends SIGINT and waits for the exit; sends SIGKILL after [`EXIT_TIMEOUT`].
fn interrupt(mut child: Child, name: &str) -> Result<()> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("no process id")?;
    kill_process(pid, Signal::INT).with_context(|| format!("interrupting {name}"))?;
    let interrupted = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            // bpftrace fails when it cannot detach cleanly, but its figures are printed by then.
            let is_incomplete = status.code() == Some(INCOMPLETE);
            if !status.success() && !is_incomplete && name == "gmpscope" {
                bail!("gmpscope ended with {status}");
            }
            return Ok(());
        }
        if interrupted.elapsed() > EXIT_TIMEOUT {
            child.kill()?;
            child.wait()?;
            bail!("{name} did not exit within {EXIT_TIMEOUT:?} of SIGINT");
        }
        thread::sleep(Duration::from_millis(5));
    }
}
