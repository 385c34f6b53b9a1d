//! One round: starts gmpscope, and ends it.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::kind::{Ending, Kind};
use super::random::Random;
use super::target::Target;
use crate::Attach;
use crate::environment::gmpscope;

/// How long a capture runs if nobody ends it: short, so that most of a round is attaching and detaching.
const WINDOW: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(150));
/// The latest moment of a signal after gmpscope's start: attaching takes up to half of it on a busy machine.
const LATEST: Duration = Duration::from_millis(500);
/// How long a command runs that is traced from its start.
const COMMAND: &str = "60ms";
/// How long anything may take to end, on a busy machine.
const ENDS: Duration = Duration::from_secs(30);
/// How long strace stays attached.
const STRACED: Duration = Duration::from_millis(100);

/// Statuses of a gmpscope that was not killed: success, incomplete, and ended by a signal before it could report
/// anything.
const STATUSES: [i32; 4] = [0, 5, 128 + libc::SIGINT, 128 + libc::SIGTERM];

/// A round to run.
pub struct Round<'a> {
    kind: Kind,
    ending: Ending,
    target: &'a Target,
    /// When the signal is sent.
    moment: Duration,
    window: Duration,
    /// When the process beside it starts.
    beside: Duration,
    /// The mode of the other capture.
    other: &'static str,
    scratch: TempDir,
}

/// A finished round.
pub struct Done {
    /// How the capture ended.
    pub ending: Ending,
    /// What was wrong with gmpscope itself, or with a command that it started.
    pub complaints: Vec<String>,
}

impl<'a> Round<'a> {
    /// Draws the rest of a round.
    pub fn new(kind: Kind, target: &'a Target, random: &mut Random) -> Result<Self> {
        const OTHERS: [&str; 4] = ["passive", "sampled", "exact", "full"];
        let other = random.below(OTHERS.len() as u64) as usize;
        Ok(Self {
            kind,
            ending: Ending::drawn(random),
            target,
            moment: random.up_to(LATEST),
            window: WINDOW.0 + random.up_to(WINDOW.1 - WINDOW.0),
            beside: random.up_to(LATEST / 2),
            other: OTHERS.get(other).copied().unwrap_or("passive"),
            scratch: tempfile::tempdir()?,
        })
    }

    /// Runs the round.
    pub fn run(self) -> Result<Done> {
        let other = match self.ending {
            Ending::KillBesideAnother => Some(self.attach(self.other).spawn()?),
            _ => None,
        };
        let mut complaints = match self.kind {
            Kind::Passive => self.attached(&self.attach("passive"))?,
            Kind::Sampled => self.attached(&self.attach("sampled"))?,
            Kind::Exact => self.attached(&self.attach("exact"))?,
            Kind::Full => self.attached(&self.attach("full"))?,
            Kind::Stacks => self.attached(&self.attach("full").arg("--stacks"))?,
            Kind::SampledPerf => self.attached(&perf_events(self.attach("sampled")))?,
            Kind::ExactPerf => self.attached(&perf_events(self.attach("exact")))?,
            Kind::FullPerf => self.attached(&perf_events(self.attach("full")))?,
            Kind::Run => self.ran(&[])?,
            Kind::Repeat => self.ran(&["--repeat", "3"])?,
            Kind::Next => self.next()?,
            Kind::Gdb | Kind::Strace => self.debugged()?,
        };
        if let Some(other) = other {
            let outcome = other.finish()?;
            complaints
                .extend(complaint(outcome.status, &outcome.stderr).map(|it| format!("the other: {it}")));
        }
        Ok(Done {
            ending: self.ending,
            complaints,
        })
    }

    fn attach(&self, mode: &str) -> Attach {
        Attach::to(self.target.pid()).mode(mode).duration(self.window)
    }

    /// Captures the target.
    fn attached(&self, attach: &Attach) -> Result<Vec<String>> {
        let tracer = attach.spawn()?;
        if let Some(signal) = self.ending.signal() {
            std::thread::sleep(self.moment);
            tracer.signal(signal);
        }
        if self.ending.kills() {
            // It is waited for; its output is of no use.
            drop(tracer);
            return Ok(Vec::new());
        }
        let outcome = tracer.finish()?;
        Ok(complaint(outcome.status, &outcome.stderr).into_iter().collect())
    }

    /// Captures the target beside a debugger, which stops it for a moment.
    fn debugged(&self) -> Result<Vec<String>> {
        let pid = self.target.pid().to_string();
        let mut debugger = match self.kind {
            Kind::Gdb => {
                let mut gdb = Command::new("gdb");
                gdb.args([
                    "-nx",
                    "-batch",
                    "-p",
                    &pid,
                    "-ex",
                    "info threads",
                    "-ex",
                    "detach",
                ]);
                gdb
            }
            _ => {
                let mut strace = Command::new("strace");
                strace.args(["-f", "-qq", "-o", "/dev/null", "-p", &pid]);
                strace
            }
        };
        debugger
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let (beside, is_strace) = (self.beside, self.kind == Kind::Strace);
        let debugging = std::thread::spawn(move || -> Result<()> {
            std::thread::sleep(beside);
            let mut debugger = Started(debugger.spawn().context("starting a debugger")?);
            if is_strace {
                std::thread::sleep(STRACED);
                debugger.signal(libc::SIGINT);
            }
            // A debugger that hangs, as they sometimes do, is killed on drop: the target must survive that, too.
            debugger.ended()?;
            Ok(())
        });
        let complaints = self.attached(&self.attach("exact"))?;
        debugging
            .join()
            .map_err(|_| anyhow::anyhow!("waiting for a debugger panicked"))??;
        Ok(complaints)
    }

    /// Runs a command under gmpscope.
    fn ran(&self, options: &[&str]) -> Result<Vec<String>> {
        let mut command = Command::new(gmpscope()?);
        command
            .args(["run", "--format", "json", "-o"])
            .arg(self.file("capture.json"))
            .args(options)
            .arg("--")
            .arg(self.target.binary())
            .args(["-for", COMMAND]);
        let (mut tracer, output) = self.started(command, "run")?;
        let mut complaints = self.ended(&mut tracer, "run")?;
        complaints.extend(self.results(output)?);
        Ok(complaints)
    }

    /// Starts a program while gmpscope waits for its start.
    fn next(&self) -> Result<Vec<String>> {
        let mut command = Command::new(gmpscope()?);
        command
            .args(["attach", "--next", "1", "--format", "json", "-o"])
            .arg(self.file("capture.json"))
            .arg("--exe")
            .arg(self.target.binary());
        let (mut tracer, output) = self.started(command, "next")?;
        std::thread::sleep(self.beside);
        let mut started = Command::new(self.target.binary());
        started.args(["-for", COMMAND]);
        let (mut program, results) = self.started(started, "program")?;
        let mut complaints = self.ended(&mut tracer, "next")?;
        drop(output);
        match program.ended()? {
            Some(status) if status.success() => {}
            Some(status) => complaints.push(format!("a program that was started ended with {status}")),
            None => complaints.push("a program that was started does not end".to_owned()),
        }
        complaints.extend(self.results(results)?);
        Ok(complaints)
    }

    /// Sends the signal of this round, or none, and waits.
    fn ended(&self, tracer: &mut Started, name: &str) -> Result<Vec<String>> {
        if let Some(signal) = self.ending.signal() {
            std::thread::sleep(self.moment);
            tracer.signal(signal);
        }
        let Some(status) = tracer.ended()? else {
            return Ok(vec![format!("gmpscope did not end within {ENDS:?}")]);
        };
        if self.ending.kills() {
            return Ok(Vec::new());
        }
        let said = std::fs::read_to_string(self.file(name)).unwrap_or_default();
        Ok(complaint(status, &said).into_iter().collect())
    }

    /// Checks that each program that has begun reports correct results.
    fn results(&self, output: JoinHandle<String>) -> Result<Vec<String>> {
        let end = Instant::now() + ENDS;
        while !output.is_finished() {
            if Instant::now() > end {
                return Ok(vec!["a command that was traced does not end".to_owned()]);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let said = output
            .join()
            .map_err(|_| anyhow::anyhow!("reading a command's output panicked"))?;
        let count = |word: &str| said.lines().filter(|line| *line == word).count();
        let (begun, right) = (count("begun"), count("right"));
        let wrong = (begun != right).then(|| format!("{begun} commands began, and {right} ended right"));
        Ok(wrong.into_iter().collect())
    }

    /// Starts a program whose standard output is read to its end.
    fn started(&self, mut command: Command, name: &str) -> Result<(Started, JoinHandle<String>)> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(self.file(name))?)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let stdout = child.stdout.take().context("no stdout")?;
        Ok((Started(child), std::thread::spawn(move || read(stdout))))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

fn read(mut stdout: ChildStdout) -> String {
    let mut bytes = Vec::new();
    // If the output cannot be read, the programs' reports are missing, which is noticed.
    _ = stdout.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn perf_events(attach: Attach) -> Attach {
    attach.env("GMPSCOPE_PERF_EVENTS", "1")
}

/// Describes what is wrong with the end of a gmpscope that was not killed.
fn complaint(status: ExitStatus, said: &str) -> Option<String> {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    let is_wrong = !STATUSES.contains(&code) || said.contains("panicked");
    is_wrong.then(|| format!("gmpscope ended with {status}. It said:\n{said}"))
}

/// A process that is killed on drop.
struct Started(Child);

impl Started {
    fn signal(&self, signal: i32) {
        // SAFETY: kill takes two numbers; the child is not yet waited for, so the pid is its own.
        unsafe { libc::kill(self.0.id() as i32, signal) };
    }

    /// Waits for its end; `None` if it does not end in time.
    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let end = Instant::now() + ENDS;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() > end {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_is_not_expected_is_wrong() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        for status in [exited(0), exited(5), ExitStatus::from_raw(libc::SIGTERM)] {
            assert_eq!(complaint(status, "attached: 7"), None);
        }
        for status in [exited(1), exited(101), ExitStatus::from_raw(libc::SIGSEGV)] {
            assert!(complaint(status, "").is_some(), "{status}");
        }
        assert!(complaint(exited(0), "thread 'main' panicked at").is_some());
    }
}
