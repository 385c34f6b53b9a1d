//! Programs whose first thread ends by pthread_exit(3) while the others live on, as that of a C program may that Go is
//! linked into: `/proc/PID` is then that of a zombie.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use gmpscope_tests::run::gmpscope_with;
use gmpscope_tests::{Attach, Daemon, Variant, machine, toolchain};
use tempfile::TempDir;

/// The C program, under a name and in a folder that no other process has.
struct Built {
    dir: TempDir,
    program: PathBuf,
}

impl Built {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let program = dir.path().join("leaderless");
        std::fs::copy(
            Variant::Library.build(&toolchain::newest()?, "library")?,
            &program,
        )?;
        Ok(Self { dir, program })
    }
}

/// The running program, killed on drop.
struct Running(Child);

impl Running {
    /// Starts the program; its first thread ends when nobody can write to its standard input any more.
    fn start(program: &Path) -> Result<Self> {
        let child = Command::new(program)
            .arg("leaderless")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        // Go's runtime starts beside the first thread, and the library's init takes 20 ms.
        std::thread::sleep(Duration::from_millis(100));
        Ok(Self(child))
    }

    fn leaderless(program: &Path) -> Result<Self> {
        let mut running = Self::start(program)?;
        running.end_first_thread()?;
        Ok(running)
    }

    /// Has the first thread end, and waits for that.
    fn end_first_thread(&mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let end = Instant::now() + Duration::from_secs(30);
        let stat = format!("/proc/{}/stat", self.pid());
        while !std::fs::read_to_string(&stat)?.contains(") Z ") {
            if Instant::now() > end {
                bail!("its first thread does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
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

#[test]
fn a_process_without_its_first_thread_is_traced_in_every_mode() -> Result<()> {
    let _one = machine();
    let built = Built::new()?;
    let running = Running::leaderless(&built.program)?;
    for mode in ["passive", "sampled", "exact", "full"] {
        let outcome = Attach::to(running.pid())
            .mode(mode)
            .duration(Duration::from_millis(500))
            .run()?;
        ensure!(outcome.code() == 0, "{mode}: {}", outcome.stderr);
        let capture = outcome.captured()?;
        ensure!(
            capture.runnable_to_running.count > 20,
            "{mode}: {} waits",
            capture.runnable_to_running.count
        );
        let notes = format!("{:?}", capture.capture.notes);
        ensure!(
            notes.contains("first thread of the process has ended"),
            "{mode}: {notes}"
        );
        ensure!(!notes.contains("is not where the code says"), "{mode}: {notes}");
    }
    let pid = running.pid().to_string();
    let inspected = gmpscope_with(["inspect", &pid])?;
    ensure!(inspected.code() == 0, "{}", inspected.stderr);
    let name = OsStr::new("leaderless");
    for selector in [
        [OsStr::new("--comm"), name],
        [OsStr::new("--exe"), built.program.as_os_str()],
    ] {
        let attach = ["attach", "--mode", "passive", "--duration", "100ms"].map(OsStr::new);
        let found = gmpscope_with(attach.into_iter().chain(selector))?;
        ensure!(found.code() == 0, "{selector:?}: {}", found.stderr);
    }
    Ok(())
}

#[test]
fn the_daemon_watches_it() -> Result<()> {
    let _one = machine();
    let built = Built::new()?;
    let running = Running::leaderless(&built.program)?;
    let daemon = Daemon::start(&format!(
        "[budget]\ntarget = \"100%\"\ntarget_floor = \"1s\"\nhost = \"100%\"\n\
         [[target]]\nexe = \"{}/*\"\ntier = \"sampled\"\n",
        built.dir.path().display()
    ))?;
    daemon.wait_for_tier(running.pid(), "sampled")?;
    let pid = running.pid().to_string();
    daemon.wait_for("waits of it", |page| {
        let count = page.sum("gmpscope_sampled_latencies_seconds_count", &[("pid", &pid)]);
        (count > 0.0).then_some(())
    })
}

#[test]
fn a_capture_says_that_the_first_thread_has_ended_meanwhile() -> Result<()> {
    let _one = machine();
    let built = Built::new()?;
    for mode in ["passive", "exact"] {
        let mut running = Running::start(&built.program)?;
        let tracer = Attach::to(running.pid())
            .mode(mode)
            .duration(Duration::from_secs(2))
            .start()?;
        std::thread::sleep(Duration::from_millis(500));
        running.end_first_thread()?;
        let outcome = tracer.finish()?;
        let json = outcome.json.as_deref().unwrap_or_default();
        let is_said = json.contains("ended during the capture");
        // The memory can be read through any thread, and whether probes go on depends on the kernel.
        match mode {
            "passive" => ensure!(outcome.code() == 0 && !is_said, "{}\n{json}", outcome.stderr),
            _ => ensure!(
                is_said && matches!(outcome.code(), 0 | 5),
                "{}\n{json}",
                outcome.stderr
            ),
        }
        ensure!(
            json.contains("\"ended_by\": \"duration\"") || json.contains("\"ended_by\":\"duration\""),
            "{mode}: {json}"
        );
    }
    Ok(())
}
