//! Signals that end a capture, and commands that wait.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::environment::gmpscope;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::unread::Guarded;
use gmpscope_tests::{Variant, machine, toolchain};
use tempfile::TempDir;
use tracer_user::document::capture::Capture;
use tracer_user::stream::EndedBy;

const SIGNALS: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
/// How long ending may take on a machine where other tests compile.
const PATIENCE: Duration = Duration::from_secs(25);

/// A running gmpscope that writes its result to a file.
struct Waiting {
    tracer: Guarded,
    stdout: BufReader<std::process::ChildStdout>,
    folder: TempDir,
}

impl Waiting {
    fn start(command: &str, options: &[&str], prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut gmpscope = Command::new(gmpscope()?);
        gmpscope
            .args([command, "--format", "json", "-o"])
            .arg(folder.path().join("result"))
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        by_default(&mut gmpscope);
        prepare(&mut gmpscope);
        let mut tracer = Guarded(gmpscope.spawn()?);
        let stdout = BufReader::new(tracer.0.stdout.take().context("no stdout")?);
        Ok(Self {
            tracer,
            stdout,
            folder,
        })
    }

    /// Waits until it is attached. Nobody reads its other output, which must not matter.
    fn attached(mut self) -> Result<Self> {
        let stderr = self.tracer.0.stderr.take().context("no stderr")?;
        let mut lines = BufReader::new(stderr);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        ensure!(line.starts_with("attached:"), "it said {line:?}");
        std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
        Ok(self)
    }

    /// Waits for its end, and returns its status as a shell has it and what it captured.
    fn end(&mut self) -> Result<(i32, Capture)> {
        let status = self.tracer.ends_within(PATIENCE)?;
        let code = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let text = fs::read_to_string(self.folder.path().join("result"))
            .with_context(|| format!("no result, status {code}"))?;
        let last = text.lines().last().context("the result is empty")?;
        Ok((code, serde_json::from_str(last)?))
    }
}

/// Gives a command the signals as a user's shell leaves them: whoever started these tests, by nohup or in the
/// background of a script, may have them ignored.
fn by_default(command: &mut Command) {
    // SAFETY: what runs between fork and exec makes system calls only.
    unsafe {
        command.pre_exec(|| {
            for signal in SIGNALS {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        })
    };
}

fn program() -> Result<PathBuf> {
    Variant::Plain.build(&toolchain::newest()?, "slow_start")
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path of bytes")
}

#[test]
fn each_ends_a_repetition_and_shows_what_was_captured() -> Result<()> {
    let _machine = machine();
    let program = program()?;
    for signal in SIGNALS {
        let options = ["--repeat", "100000", "--", text(&program)?];
        let mut run = Waiting::start("run", &options, |_| ())?.attached()?;
        for _ in 0..3 {
            let mut line = String::new();
            run.stdout.read_line(&mut line)?;
            ensure!(line.starts_with("main "), "{line:?}");
        }
        // Nobody reads the rest of what the runs print; it fits into the pipe or is thrown away.
        let mut rest = run.stdout;
        std::thread::spawn(move || rest.read_to_end(&mut Vec::new()));
        run.tracer.signal(signal);
        let status = run.tracer.ends_within(PATIENCE)?;
        // The status is that of the current run, which may just have ended. SIGQUIT ends a Go program with status 2.
        let code = status.code().context("gmpscope died of it")?;
        ensure!([0, 2, 128 + signal].contains(&code), "signal {signal}: {status}");
        let result = fs::read_to_string(run.folder.path().join("result"))?;
        let capture: Capture = serde_json::from_str(&result)?;
        let runs = capture.init.context("no starts")?.runs;
        ensure!(
            capture.capture.ended_by == EndedBy::Signal && (3..100_000).contains(&runs),
            "signal {signal}: {:?} {runs}",
            capture.capture.ended_by
        );
    }
    Ok(())
}

#[test]
fn each_ends_the_waiting_for_starts() -> Result<()> {
    let _machine = machine();
    let program = program()?;
    for signal in SIGNALS {
        let options = ["--exe", text(&program)?, "--next", "5"];
        let mut next = Waiting::start("attach", &options, |_| ())?.attached()?;
        next.tracer.signal(signal);
        let (code, capture) = next.end()?;
        // There were no starts.
        ensure!(
            code == 5 && capture.capture.ended_by == EndedBy::Signal,
            "signal {signal}: {code} {:?}",
            capture.capture
        );
    }
    Ok(())
}

#[test]
fn each_ends_a_capture_of_a_process() -> Result<()> {
    let _machine = machine();
    let workload = Case::new(&toolchain::newest()?, Variant::Stripped, "mixed").start()?;
    let pid = workload.pid().to_string();
    for signal in SIGNALS {
        let mut attach = Waiting::start("attach", &["-p", &pid, "-m", "sampled"], |_| ())?.attached()?;
        attach.tracer.signal(signal);
        let (code, capture) = attach.end()?;
        ensure!(
            code == 0 && capture.capture.ended_by == EndedBy::Signal,
            "signal {signal}: {code} {:?}",
            capture.capture
        );
    }
    Ok(())
}

#[test]
fn each_reaches_a_command_that_is_followed_and_ends_with_it() -> Result<()> {
    let _machine = machine();
    let program = program()?;
    for signal in SIGNALS {
        for options in [&["--follow"][..], &[]] {
            let options = [options, &["--", text(&program)?, "wait"]].concat();
            let mut run = Waiting::start("run", &options, |_| ())?.attached()?;
            let _stdin = run.tracer.0.stdin.take();
            let mut line = String::new();
            run.stdout.read_line(&mut line)?;
            ensure!(line.starts_with("main "), "{line:?}");
            run.tracer.signal(signal);
            let (code, capture) = run.end()?;
            ensure!(
                [2, 128 + signal].contains(&code),
                "{options:?}, signal {signal}: {code}"
            );
            ensure!(
                capture.init.is_some_and(|init| init.runs == 1),
                "{options:?}, signal {signal}"
            );
        }
    }
    Ok(())
}

#[test]
fn each_ends_a_replay_that_waits_for_its_recording() -> Result<()> {
    for signal in SIGNALS {
        let mut replay = Command::new(gmpscope()?);
        replay
            .args(["replay", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        by_default(&mut replay);
        let mut replay = Guarded(replay.spawn()?);
        std::thread::sleep(Duration::from_millis(200));
        ensure!(replay.alive());
        replay.signal(signal);
        let status = replay.ends_within(PATIENCE)?;
        ensure!(status.signal() == Some(signal), "signal {signal}: {status}");
    }
    Ok(())
}

#[test]
fn a_command_that_is_deaf_is_left_alone_behind_the_second_one() -> Result<()> {
    let _machine = machine();
    let script = "trap '' TERM; echo $$; exec sleep 60";
    let mut run = Waiting::start("run", &["--follow", "--", "/bin/sh", "-c", script], |_| ())?.attached()?;
    let mut line = String::new();
    run.stdout.read_line(&mut line)?;
    let pid: i32 = line.trim().parse()?;
    run.tracer.signal(libc::SIGTERM);
    // A parent that forwards a signal which the terminal has already sent.
    std::thread::sleep(Duration::from_millis(100));
    run.tracer.signal(libc::SIGTERM);
    std::thread::sleep(Duration::from_millis(2_500));
    ensure!(run.tracer.alive(), "the same signal is not a second one");
    run.tracer.signal(libc::SIGTERM);
    let (code, capture) = run.end()?;
    // SAFETY: takes two numbers.
    let there = unsafe { libc::kill(pid, libc::SIGKILL) } == 0;
    ensure!(
        code == 143 && capture.capture.ended_by == EndedBy::Signal,
        "{code}"
    );
    ensure!(there, "the command is gone");
    Ok(())
}

#[test]
fn a_terminal_that_goes_away_is_nothing_to_who_was_started_by_nohup() -> Result<()> {
    let _machine = machine();
    let workload = Case::new(&toolchain::newest()?, Variant::Stripped, "mixed").start()?;
    let pid = workload.pid().to_string();
    let ignoring = |command: &mut Command| {
        // SAFETY: what runs between fork and exec makes one system call.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                Ok(())
            })
        };
    };
    let mut attach = Waiting::start("attach", &["-p", &pid, "-m", "passive"], ignoring)?.attached()?;
    attach.tracer.signal(libc::SIGHUP);
    std::thread::sleep(Duration::from_millis(500));
    ensure!(attach.tracer.alive(), "it ended");
    attach.tracer.signal(libc::SIGINT);
    let (code, _) = attach.end()?;
    ensure!(code == 0, "{code}");
    Ok(())
}
