//! Programs whose first thread ends by pthread_exit(3) while the others live on, as that of a C program may that Go is
//! linked into: `/proc/PID` is then that of a zombie.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use gmpscope_tests::run::gmpscope_with;
use gmpscope_tests::{Attach, Daemon, machine, toolchain};
use tempfile::TempDir;

/// Goroutines that hand a number over to each other for as long as C asks for it.
const GO: &str = r#"package main

import "C"

import "time"

//export GoWork
func GoWork(milliseconds C.int) {
	ping, pong := make(chan int), make(chan int)
	go func() {
		for n := range ping {
			pong <- n
		}
	}()
	for end := time.Now().Add(time.Duration(milliseconds) * time.Millisecond); time.Now().Before(end); {
		ping <- 1
		<-pong
	}
	close(ping)
}

func main() {}
"#;

/// Another thread works, and the first ends after so many milliseconds.
const C: &str = r#"#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
#include "lib.h"

static void *work(void *unused) {
	for (;;)
		GoWork(100);
	return unused;
}

int main(int count, char **arguments) {
	pthread_t thread;
	if (count != 2 || pthread_create(&thread, 0, work, 0))
		return 1;
	usleep(1000 * atoi(arguments[1]));
	pthread_exit(0);
}
"#;

/// The C program that Go is linked into, in a folder of its own.
struct Built {
    dir: TempDir,
    program: PathBuf,
}

impl Built {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let write =
            |name: &str, text: &str| -> Result<()> { Ok(std::fs::write(dir.path().join(name), text)?) };
        let toolchain = toolchain::newest()?;
        write("lib.go", GO)?;
        // Apart from the Go package, whose C files cgo compiles.
        std::fs::create_dir(dir.path().join("host"))?;
        write("host/main.c", C)?;
        write(
            "go.mod",
            &format!("module leader\n\ngo 1.{}\n", toolchain.minor()),
        )?;
        let mut go = toolchain.go();
        go.current_dir(dir.path())
            .args(["build", "-buildmode=c-archive", "-o", "lib.a", "."])
            .env("CGO_ENABLED", "1");
        succeeds(&mut go)?;
        let program = dir.path().join("leaderless");
        let mut cc = Command::new("cc");
        cc.current_dir(dir.path())
            .args(["-I.", "host/main.c", "lib.a", "-lpthread", "-o"])
            .arg(&program);
        succeeds(&mut cc)?;
        Ok(Self { dir, program })
    }
}

fn succeeds(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The running program, killed on drop.
struct Running(Child);

impl Running {
    /// Starts the program; its first thread ends after so many milliseconds.
    fn start(program: &Path, milliseconds: u32) -> Result<Self> {
        let child = Command::new(program)
            .arg(milliseconds.to_string())
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }

    fn leaderless(program: &Path) -> Result<Self> {
        let running = Self::start(program, 0)?;
        let end = Instant::now() + Duration::from_secs(30);
        let stat = format!("/proc/{}/stat", running.pid());
        while !std::fs::read_to_string(&stat)?.contains(") Z ") {
            if Instant::now() > end {
                bail!("its first thread does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(running)
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
        let running = Running::start(&built.program, 2_000)?;
        let mut tracer = Attach::to(running.pid())
            .mode(mode)
            .duration(Duration::from_secs(4))
            .spawn()?;
        tracer.attached()?;
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
