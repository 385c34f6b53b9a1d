//! `gmpscope run --follow` on an island, which holds the programs of a command while it prepares to trace them, and programs
//! of others that are executed there meanwhile.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tracer_user::document::capture::Capture;
use tracer_user::document::followed::TreeOf;

use crate::host::{children_of, watchdogs_of};
use crate::island::Island;
use crate::{Variant, environment, toolchain};

/// How long anything here may take on a machine where other tests compile.
const PATIENCE: Duration = Duration::from_secs(60);
/// Files of an island: the output of the command, what ends its loop, and the capture.
const SAID: &str = "tmp/said";
const END: &str = "tmp/end";
const CAPTURE: &str = "tmp/capture.json";
/// A script that runs the program again and again until a file appears.
const LOOP: &str = "while [ ! -e /tmp/end ]; do /bin/family sleep 30; done; echo done";

/// Makes an island with gmpscope, a shell and a Go program.
pub fn island() -> Result<Island> {
    let island = Island::new()?;
    island.add(environment::gmpscope()?.as_ref(), "gmpscope")?;
    island.add("/bin/sh".as_ref(), "sh")?;
    island.add(&Variant::Plain.build(&toolchain::newest()?, "family")?, "family")?;
    Ok(island)
}

/// `gmpscope run --follow` of a script.
pub fn follow(island: &Island, script: &str) -> Command {
    let mut command = island.command("/bin/gmpscope");
    command
        .args([
            "run",
            "--follow",
            "--format",
            "json",
            "-o",
            "/tmp/capture.json",
            "--",
        ])
        .args(["/bin/sh", "-c", script])
        .stdin(Stdio::null());
    command
}

/// The capture that it wrote.
pub fn capture(island: &Island) -> Result<Capture> {
    let text = fs::read_to_string(island.path(CAPTURE))?;
    Ok(serde_json::from_str(
        text.lines().last().context("an empty capture")?,
    )?)
}

/// What the command has printed so far.
pub fn said(island: &Island) -> Result<String> {
    Ok(fs::read_to_string(island.path(SAID))?)
}

/// The programs of the command, in a capture.
pub fn tree(capture: &Capture) -> Result<&TreeOf> {
    let init = capture.init.as_ref().context("no init")?;
    init.tree.as_ref().context("no tree")
}

/// Waits until something is so, which it may be for a few milliseconds only.
pub fn within(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A gmpscope that a test may signal. It and the loop of its command end on drop.
#[derive(Debug)]
pub struct Following {
    child: Child,
    /// The file that ends the loop.
    end: PathBuf,
}

impl Following {
    /// Starts a gmpscope by this command, whose output is in [`said`].
    pub fn start(island: &Island, mut command: Command) -> Result<Self> {
        let file = fs::File::create(island.path(SAID))?;
        Ok(Self {
            child: command.stdout(file).spawn()?,
            end: island.path(END),
        })
    }

    /// Starts a gmpscope that follows a program that is run again and again, and waits until the loop has begun.
    pub fn start_loop(island: &Island) -> Result<Self> {
        let following = Self::start(island, follow(island, LOOP))?;
        following.wait_for_more(island)?;
        Ok(following)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        send(self.pid(), signal);
    }

    /// Stops it while a program of the loop waits for it. As long as the execve waits, the shell's child is still a
    /// shell.
    pub fn stop_while_it_holds(&self) -> Result<()> {
        let shells = children_of(self.pid(), "sh")?;
        let shell = *shells.first().context("no shell")?;
        within("it holds a program", || {
            let holds = !children_of(shell, "sh")?.is_empty();
            if holds {
                self.signal(libc::SIGSTOP);
            }
            Ok(holds)
        })
    }

    /// Waits until a few more programs of the loop have begun.
    pub fn wait_for_more(&self, island: &Island) -> Result<()> {
        let lines = || -> Result<usize> { Ok(said(island)?.lines().count()) };
        let before = lines()?;
        within("the loop continues", || Ok(lines()? > before + 2))
    }

    /// Ends the loop of the command.
    pub fn end_loop(&self) -> Result<()> {
        Ok(fs::write(&self.end, "")?)
    }

    /// Ends the loop, and returns the capture.
    pub fn finish(mut self, island: &Island) -> Result<Capture> {
        self.end_loop()?;
        let status = self.ended()?;
        ensure!(status.success(), "{status}");
        ensure!(said(island)?.ends_with("done\n"));
        capture(island)
    }

    /// Waits until it has ended.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        within("gmpscope ends", || {
            status = self.status()?;
            Ok(status.is_some())
        })?;
        status.context("it has not ended")
    }

    /// Its status, if it has ended.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// The PID of the process that watches over its gate.
    pub fn watchdog(&self) -> Result<u32> {
        let mut found = None;
        within("there is a watchdog", || {
            found = watchdogs_of(self.pid())?.first().copied();
            Ok(found.is_some())
        })?;
        found.context("no watchdog")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // Once it has been waited for, its PID may be another process's.
        if let Ok(None) = self.child.try_wait() {
            self.signal(libc::SIGCONT);
            _ = self.child.kill();
            _ = self.child.wait();
        }
        // The command outlives a gmpscope that was killed.
        _ = self.end_loop();
    }
}

/// Sends a signal to a process.
pub fn send(pid: u32, signal: i32) {
    // SAFETY: takes two numbers.
    unsafe { libc::kill(pid as i32, signal) };
}

/// A program outside the command's tree, executed on the island. `spawn` returns only after the execve, so a separate
/// thread calls it; the thread is on the island, since it inherits the mount namespace.
#[derive(Debug)]
pub struct Other(JoinHandle<Result<(Output, Duration)>>);

impl Other {
    /// Executes it.
    pub fn execute(island: &Island, program: &str) -> Self {
        let mut command = island.command(program);
        command.args(["exit", "4"]).stdin(Stdio::null());
        let begun = Instant::now();
        Self(std::thread::spawn(move || {
            let output = command.output().context("an execve of another was refused")?;
            Ok((output, begun.elapsed()))
        }))
    }

    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for its end, and returns how long it took.
    pub fn took(self) -> Result<Duration> {
        within("another's program is not held for ever", || Ok(self.is_done()))?;
        let (output, took) = self.0.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        ensure!(output.status.code() == Some(4), "{output:?}");
        Ok(took)
    }
}

/// Executes programs of others all the time until `is_over` holds, and returns how many.
pub fn storm(island: &Island, mut is_over: impl FnMut() -> Result<bool>) -> Result<u64> {
    let mut executed = 0;
    while !is_over()? {
        let others: Vec<Other> = (0..4).map(|_| Other::execute(island, "/bin/family")).collect();
        for other in others {
            other.took()?;
            executed += 1;
        }
    }
    Ok(executed)
}
