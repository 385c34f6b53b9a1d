//! Programs that are not started the usual way: Go as a library in a C program, a fork before Go's runtime begins, shells
//! and the dynamic loader in front; and processes that do not run while they are traced.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gmpscope_tests::scenario::Case;
use gmpscope_tests::start::{Ran, Traced, partition};
use gmpscope_tests::{Attach, Variant, machine, toolchain};
use tracer_user::document::capture::CaptureMode;
use tracer_user::model::start::Ended;
use tracer_user::process::Halt;

/// Hits that the start of a small program makes at most.
const MOST_HITS: u64 = 5_000;

fn library() -> Result<PathBuf> {
    Variant::Library.build(&toolchain::newest()?, "library")
}

/// A process that was started, killed on drop.
struct Running(Child);

impl Running {
    /// Starts a command, and waits for its first line of output.
    fn start(command: &mut Command) -> Result<(Self, String)> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let running = Self(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok((running, line))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn notes(ran: &Ran) -> String {
    let notes = ran.capture.iter().flat_map(|capture| &capture.capture.notes);
    notes.map(|note| format!("{note}\n")).collect()
}

#[test]
fn the_start_of_a_library_ends_with_its_inits() -> Result<()> {
    let _one = machine();
    for toolchain in toolchain::selection()? {
        let host = Variant::Library.build(&toolchain, "library")?;
        let ran = Traced::new(&host)?.arg("700").run()?;
        let run = ran.start()?;
        let name = format!("Go {}", toolchain.version());
        partition(run).context(name.clone())?;
        ensure!(run.ended == Ended::Library, "{name}: {run:#?}");
        let inits = run
            .phases
            .iter()
            .filter(|phase| phase.name.raw().starts_with("init:"));
        ensure!(inits.count() > 3, "{name}: {:#?}", run.phases);
        let main = run.phases.iter().find(|phase| phase.name == "init:main");
        let main = main.with_context(|| format!("{name}: no init of main: {:#?}", run.phases))?;
        ensure!(main.duration_ns >= 20_000_000, "{name}: {main:?}");
        let capture = &ran.capture.as_ref().context("no capture")?.capture;
        ensure!(capture.complete, "{name}: {capture:#?}");
        // The probes were removed before it worked.
        ensure!(capture.probe_hits < MOST_HITS, "{name}: {capture:#?}");
        ensure!(ran.status.success(), "{name}: {}: {}", ran.status, ran.stderr);
    }
    Ok(())
}

#[test]
fn latencies_follow_the_start_of_a_library() -> Result<()> {
    let _one = machine();
    let ran = Traced::new(&library()?)?
        .options(&["--mode", "exact"])
        .arg("2500")
        .run()?;
    let capture = ran.capture.as_ref().with_context(|| ran.stderr.clone())?;
    let run = ran.start()?;
    ensure!(run.ended == Ended::Library, "{run:#?}");
    ensure!(
        capture.capture.mode == CaptureMode::Exact && capture.target.pid == run.pid,
        "{:#?}",
        capture.capture
    );
    ensure!(
        capture.runnable_to_running.count > 1_000,
        "{} waits",
        capture.runnable_to_running.count
    );
    ensure!(ran.status.success(), "{}: {}", ran.status, ran.stderr);
    Ok(())
}

#[test]
fn a_library_that_runs_is_attached_to() -> Result<()> {
    let _one = machine();
    let (host, _) = Running::start(Command::new(library()?).arg("20000"))?;
    for mode in ["passive", "exact"] {
        let capture = Attach::to(host.pid())
            .mode(mode)
            .duration(Duration::from_millis(500))
            .run()?
            .captured()?;
        ensure!(
            capture.runnable_to_running.count > 100,
            "{mode}: {} waits",
            capture.runnable_to_running.count
        );
    }
    Ok(())
}

#[test]
fn a_fork_before_the_runtime_is_named() -> Result<()> {
    let _one = machine();
    let program = Variant::Cgo.build(&toolchain::newest()?, "forks_first")?;
    let ran = Traced::new(&program)?.env("FORK_FIRST", "1").run()?;
    let run = ran.start()?;
    let capture = ran.capture.as_ref().context("no capture")?;
    ensure!(
        run.ended == Ended::Exit && !capture.capture.complete,
        "{run:#?} {:#?}",
        capture.capture
    );
    ensure!(
        capture
            .findings
            .iter()
            .any(|finding| finding.id == "start-forked"),
        "{:#?}",
        capture.findings
    );
    ensure!(
        notes(&ran).contains("forked before Go's runtime began"),
        "{}",
        notes(&ran)
    );
    ensure!(ran.status.code() == Some(7), "{}", ran.status);
    // Without the fork it is a start like any other.
    let ran = Traced::new(&program)?.run()?;
    let capture = ran.capture.as_ref().context("no capture")?;
    ensure!(
        ran.start()?.ended == Ended::Main && capture.capture.complete,
        "{:#?}",
        capture.capture
    );
    ensure!(
        capture
            .findings
            .iter()
            .all(|finding| finding.id != "start-forked")
    );
    Ok(())
}

/// Runs a command that cannot be traced, and returns the message.
fn refused(program: &str, arguments: &[&str]) -> Result<String> {
    let mut traced = Traced::new(Path::new(program))?;
    for argument in arguments {
        traced = traced.arg(argument);
    }
    let ran = traced.run()?;
    ensure!(
        ran.status.code() == Some(125) && ran.capture.is_none(),
        "{}: {}",
        ran.status,
        ran.stderr
    );
    Ok(ran.stderr)
}

#[test]
fn a_shell_in_front_is_told_to_be_followed() -> Result<()> {
    let hello = Variant::Plain.build(&toolchain::newest()?, "hello")?;
    let hello = hello.to_str().context("the path is not UTF-8")?;
    let said = refused("/bin/sh", &["-c", &format!("exec {hello} -x")])?;
    for words in ["not a Go program", "--follow", hello] {
        ensure!(said.contains(words), "no {words:?} in {said}");
    }
    let said = refused("/bin/sh", &["-c", "true"])?;
    ensure!(said.contains("--follow"), "{said}");
    Ok(())
}

#[test]
fn the_child_of_a_shell_is_named() -> Result<()> {
    let host = library()?;
    let script = format!("{} 20000; true", host.display());
    let (shell, line) = Running::start(Command::new("/bin/sh").args(["-c", &script]))?;
    let child = line.trim().strip_prefix("ready ").context("no child")?.to_owned();
    let outcome = Attach::to(shell.pid()).run();
    // SAFETY: kill takes two numbers; the child has named itself, and cannot have ended.
    unsafe { libc::kill(child.parse()?, libc::SIGKILL) };
    outcome?.expect_failure(3, &["not a Go program", &format!("use -p {child}"), "--follow"])
}

#[test]
fn the_dynamic_loader_in_front_is_named() -> Result<()> {
    let loaders = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let loader = loaders
        .into_iter()
        .find(|path| Path::new(path).is_file())
        .context("no dynamic loader is where it should be")?;
    let host = library()?.canonicalize()?;
    let path = host.to_str().context("the path is not UTF-8")?;
    let said = refused(loader, &[path, "10"])?;
    ensure!(
        said.contains("dynamic loader") && said.contains(&format!("run -- {path}")),
        "{said}"
    );
    let (running, _) = Running::start(Command::new(loader).args([path, "20000"]))?;
    Attach::to(running.pid())
        .run()?
        .expect_failure(3, &["dynamic loader", path])
}

/// Waits until a process is stopped, or is not any more.
fn await_stopped(pid: u32, stopped: bool) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let after = stat.rsplit(')').next().unwrap_or_default();
        if after.trim_start().starts_with('T') == stopped {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("whether process {pid} is stopped is still {}", !stopped)
}

#[test]
fn a_stopped_target_is_named() -> Result<()> {
    let _one = machine();
    let mut w = Case::new(&toolchain::newest()?, Variant::Plain, "pingpong").start()?;
    w.go()?;
    w.signal(libc::SIGSTOP);
    await_stopped(w.pid(), true)?;
    for mode in ["passive", "exact"] {
        let outcome = Attach::to(w.pid())
            .mode(mode)
            .duration(Duration::from_millis(700))
            .run()?;
        ensure!(
            outcome.stderr.contains("is stopped by a signal"),
            "{mode}: {}",
            outcome.stderr
        );
        let capture = outcome.captured()?;
        let [halted] = capture.capture.halted.as_slice() else {
            bail!("{mode}: {:#?}", capture.capture);
        };
        ensure!(
            halted.state == Halt::Stopped && halted.at_begin && halted.at_least_ns > 300_000_000,
            "{mode}: {halted:?}"
        );
        ensure!(
            capture
                .findings
                .iter()
                .any(|finding| finding.id == "target-halted"),
            "{mode}: {:#?}",
            capture.findings
        );
    }
    w.signal(libc::SIGCONT);
    await_stopped(w.pid(), false)?;
    // One that runs is not named.
    let capture = Attach::to(w.pid())
        .mode("passive")
        .duration(Duration::from_millis(300))
        .run()?
        .captured()?;
    ensure!(capture.capture.halted.is_empty(), "{:#?}", capture.capture);
    Ok(())
}

#[test]
fn a_target_that_is_stopped_in_the_window_is_named() -> Result<()> {
    let _one = machine();
    let mut w = Case::new(&toolchain::newest()?, Variant::Plain, "pingpong").start()?;
    w.go()?;
    let tracer = Attach::to(w.pid())
        .mode("exact")
        .duration(Duration::from_secs(4))
        .start()?;
    std::thread::sleep(Duration::from_millis(200));
    w.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(1_500));
    w.signal(libc::SIGCONT);
    let capture = tracer.finish()?.captured()?;
    let [halted] = capture.capture.halted.as_slice() else {
        bail!("{:#?}", capture.capture);
    };
    ensure!(
        halted.state == Halt::Stopped && !halted.at_begin && halted.times == 1,
        "{halted:?}"
    );
    ensure!(
        capture
            .findings
            .iter()
            .any(|finding| finding.id == "target-halted"),
        "{:#?}",
        capture.findings
    );
    Ok(())
}
