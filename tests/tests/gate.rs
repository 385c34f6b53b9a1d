//! `run --follow` does not affect programs of others, whether it is short of descriptors, stopped or killed.
//!
//! The tests run on a file system of their own, with a copy of gmpscope that sees no other.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gmpscope_tests::host::{children_of, watchdogs_of};
use gmpscope_tests::island::Island;
use gmpscope_tests::{Variant, environment, machine, toolchain};
use tracer_user::document::capture::Capture;
use tracer_user::document::followed::TreeOf;

/// How long anything here may take on a machine where other tests compile.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an execve may wait for a stopped gmpscope: some 0.3 s, and what a busy machine adds.
const BOUND: Duration = Duration::from_secs(3);
/// A script that runs the program again and again until a file appears.
const LOOP: &str = "while [ ! -e /tmp/end ]; do /bin/family sleep 30; done; echo done";

/// Makes an island with gmpscope, a shell and a Go program.
fn island() -> Result<Island> {
    let island = Island::new()?;
    island.add(environment::gmpscope()?.as_ref(), "gmpscope")?;
    island.add("/bin/sh".as_ref(), "sh")?;
    island.add(&Variant::Plain.build(&toolchain::newest()?, "family")?, "family")?;
    Ok(island)
}

/// `gmpscope run --follow` of a script.
fn follow(island: &Island, script: &str) -> Command {
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

/// Sets the soft and hard limits of descriptors.
fn limited(mut command: Command, soft: libc::rlim_t, hard: libc::rlim_t) -> Command {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the closure makes one system call, on memory of its own.
    unsafe {
        command.pre_exec(
            move || match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            },
        );
    }
    command
}

fn capture(island: &Island) -> Result<Capture> {
    let text = fs::read_to_string(island.path("tmp/capture.json"))?;
    Ok(serde_json::from_str(
        text.lines().last().context("an empty capture")?,
    )?)
}

fn tree(capture: &Capture) -> Result<&TreeOf> {
    let init = capture.init.as_ref().context("no init")?;
    init.tree.as_ref().context("no tree")
}

fn within(time: Duration, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + time;
    while !done()? {
        ensure!(Instant::now() < end, "not within {time:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A gmpscope that a test may signal, and the file that ends the loop of its command. Both end on drop.
struct Running(Child, PathBuf);

impl Running {
    /// Starts a gmpscope that follows [`LOOP`], and waits until the loop has begun.
    fn follow(island: &Island) -> Result<Self> {
        let mut command = follow(island, LOOP);
        let said = fs::File::create(island.path("tmp/said"))?;
        let running = Self(command.stdout(said).spawn()?, island.path("tmp/end"));
        running.wait_for_more(island)?;
        Ok(running)
    }

    fn signal(&self, signal: i32) {
        send(self.0.id(), signal);
    }

    /// Stops it while a program of the loop waits for it. As long as the execve waits, the shell's child is still a
    /// shell.
    fn stop_while_it_holds(&self) -> Result<()> {
        let shells = children_of(self.0.id(), "sh")?;
        let shell = *shells.first().context("no shell")?;
        within(PATIENCE, "it holds a program", || {
            let holds = !children_of(shell, "sh")?.is_empty();
            if holds {
                self.signal(libc::SIGSTOP);
            }
            Ok(holds)
        })
    }

    /// Waits until a few more programs of the loop have begun.
    fn wait_for_more(&self, island: &Island) -> Result<()> {
        let lines = || -> Result<usize> { Ok(fs::read_to_string(island.path("tmp/said"))?.lines().count()) };
        let before = lines()?;
        within(PATIENCE, "the loop continues", || Ok(lines()? > before + 2))
    }

    /// Ends the loop, and returns the capture.
    fn end(mut self, island: &Island) -> Result<Capture> {
        fs::write(island.path("tmp/end"), "")?;
        let status = self.ended(PATIENCE)?;
        ensure!(status.success(), "{status}");
        ensure!(fs::read_to_string(island.path("tmp/said"))?.ends_with("done\n"));
        capture(island)
    }

    fn ended(&mut self, time: Duration) -> Result<ExitStatus> {
        let mut status = None;
        within(time, "a process ends", || {
            status = self.0.try_wait()?;
            Ok(status.is_some())
        })?;
        status.context("it has ended")
    }

    /// The PID of the process that watches over its gate.
    fn watchdog(&self) -> Result<u32> {
        let mut found = None;
        within(PATIENCE, "there is a watchdog", || {
            found = watchdogs_of(self.0.id())?.first().copied();
            Ok(found.is_some())
        })?;
        found.context("no watchdog")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once it has been waited for, its PID may be another process's.
        if let Ok(None) = self.0.try_wait() {
            self.signal(libc::SIGCONT);
            _ = self.0.kill();
            _ = self.0.wait();
        }
        // The command outlives a gmpscope that was killed.
        _ = fs::write(&self.1, "");
    }
}

fn send(pid: u32, signal: i32) {
    // SAFETY: takes two numbers.
    unsafe { libc::kill(pid as i32, signal) };
}

/// Whether a process exists and is not a zombie.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, behind)| !behind.starts_with('Z'))
}

/// A program outside the command's tree, executed on the island. `spawn` returns only after the execve, so a separate
/// thread calls it; the thread is on the island, since it inherits the mount namespace.
struct Other(std::thread::JoinHandle<Result<(Output, Duration)>>);

impl Other {
    fn execute(island: &Island, program: &str) -> Self {
        let mut command = island.command(program);
        command.args(["exit", "4"]).stdin(Stdio::null());
        let begun = Instant::now();
        Self(std::thread::spawn(move || {
            let output = command.output().context("an execve of another was refused")?;
            Ok((output, begun.elapsed()))
        }))
    }

    fn is_done(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for its end, and returns how long it took.
    fn took(self) -> Result<Duration> {
        within(PATIENCE, "another's program is not held for ever", || {
            Ok(self.is_done())
        })?;
        let (output, took) = self.0.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        ensure!(output.status.code() == Some(4), "{output:?}");
        Ok(took)
    }
}

/// Executes programs of others all the time until `until` holds, and returns how many.
fn storm(island: &Island, until: impl Fn() -> Result<bool>) -> Result<u64> {
    let mut executed = 0;
    while !until()? {
        let others: Vec<Other> = (0..4).map(|_| Other::execute(island, "/bin/family")).collect();
        for other in others {
            other.took()?;
            executed += 1;
        }
    }
    Ok(executed)
}

#[test]
fn no_program_is_refused_for_want_of_descriptors() -> Result<()> {
    let _one = machine();
    const PROGRAMS: usize = 24;
    for limit in [128, 160, 256] {
        let island = island()?;
        // Each is a separate file, which takes a descriptor while it waits, and more when it is probed.
        for n in 0..PROGRAMS {
            fs::copy(island.path("bin/family"), island.path(&format!("bin/family{n}")))?;
        }
        let line: String = (0..PROGRAMS)
            .map(|n| format!("for i in 1 2; do /bin/family{n} exit 0 || echo refused $?; done & "))
            .collect();
        let mut command = limited(follow(&island, &format!("{line} wait; echo done")), limit, limit);
        let said = fs::File::create(island.path("tmp/said"))?;
        let mut running = Running(command.stdout(said).spawn()?, island.path("tmp/end"));
        let others = std::cell::Cell::new(0);
        let ended = std::cell::Cell::new(None);
        let child = std::cell::RefCell::new(&mut running.0);
        others.set(storm(&island, || {
            ended.set(child.borrow_mut().try_wait()?);
            Ok(ended.get().is_some())
        })?);
        let said = fs::read_to_string(island.path("tmp/said"))?;
        ensure!(
            ended.get().is_some_and(|status| status.success()),
            "{limit}: {said}"
        );
        ensure!(
            said.ends_with("done\n") && !said.contains("refused"),
            "{limit}: {said}"
        );
        ensure!(said.matches("main ").count() == 2 * PROGRAMS, "{limit}: {said}");
        ensure!(others.get() > 3, "{limit}: {} others", others.get());
        // Starts that were not traced are counted: every execve is in one of these.
        let capture = capture(&island)?;
        let tree = tree(&capture)?;
        let init = capture.init.as_ref().context("no init")?;
        println!(
            "limit {limit}: {} others; {tree:?}; {:?}",
            others.get(),
            capture.capture.notes
        );
        ensure!(
            init.runs + init.unfinished + tree.others + tree.unseen + tree.ended_early == tree.execs,
            "{limit}: {init:#?}"
        );
        ensure!(tree.execs == 2 * PROGRAMS as u64 + 1, "{limit}: {tree:#?}");
        ensure!(
            capture.capture.complete == (tree.unseen == 0),
            "{limit}: {:#?}",
            capture.capture
        );
    }
    Ok(())
}

#[test]
fn too_few_descriptors_are_refused_before_anything_is_held() -> Result<()> {
    let _one = machine();
    let island = island()?;
    for limit in [112, 64, 40] {
        let output = limited(follow(&island, "echo ran"), limit, limit).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(125),
            "{limit}: {} {stderr}",
            output.status
        );
        ensure!(output.stdout.is_empty(), "{limit}: the command was run");
        let named = ["RLIMIT_NOFILE", &limit.to_string(), "128", "ulimit -n"];
        ensure!(
            named.iter().all(|name| stderr.contains(name)),
            "{limit}: {stderr}"
        );
    }
    Ok(())
}

#[test]
fn the_limit_is_raised_for_gmpscope_and_not_for_the_command() -> Result<()> {
    let _one = machine();
    let island = island()?;
    let script = "ulimit -Sn; ulimit -Hn; while read line; do case $line in \
                  'Max open files'*) echo $line;; esac; done < /proc/$PPID/limits";
    let output = limited(follow(&island, script), 64, 1024).output()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = stdout.lines().collect();
    ensure!(
        lines == ["64", "1024", "Max open files 1024 1024 files"],
        "{stdout} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn nobody_waits_long_for_a_gmpscope_that_is_stopped() -> Result<()> {
    let _one = machine();
    let island = island()?;
    let running = Running::follow(&island)?;
    running.stop_while_it_holds()?;
    // The stop may take effect a moment later.
    let others: Vec<Other> = (0..8)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(20));
            Other::execute(&island, "/bin/family")
        })
        .collect();
    for other in others {
        let took = other.took()?;
        ensure!(took < BOUND, "the execve of another took {took:?}");
    }
    // The command's own programs continue, too, and later ones do not wait.
    running.wait_for_more(&island)?;
    let took = Other::execute(&island, "/bin/family").took()?;
    ensure!(took < BOUND, "a later execve of another took {took:?}");
    running.signal(libc::SIGCONT);
    let resumed_ns = environment::monotonic_ns();
    // It holds programs again, and traces them.
    for _ in 0..4 {
        running.wait_for_more(&island)?;
    }
    ensure!(watchdogs_of(running.0.id())?.len() == 1);
    let capture = running.end(&island)?;
    let tree = tree(&capture)?;
    println!("{tree:?} {:?}", capture.capture.notes);
    ensure!(tree.released_unprobed > 0 && tree.unseen > 0, "{tree:#?}");
    ensure!(!capture.capture.complete, "{:#?}", capture.capture);
    let notes: Vec<String> = capture.capture.notes.iter().map(ToString::to_string).collect();
    let notes = notes.join("\n");
    ensure!(notes.contains("gmpscope was stopped"), "{notes}");
    let init = capture.init.as_ref().context("no init")?;
    let behind = init
        .starts
        .iter()
        .filter(|start| start.t0_ns > resumed_ns)
        .count() as u64;
    ensure!(
        behind > 0 && init.runs > behind,
        "{behind} behind the stop: {init:#?}"
    );
    ensure!(
        init.runs + init.unfinished + tree.others + tree.unseen + tree.ended_early == tree.execs,
        "{init:#?}"
    );
    Ok(())
}

#[test]
fn killed_while_it_and_its_watchdog_are_stopped_it_lets_everything_go() -> Result<()> {
    let _one = machine();
    let island = island()?;
    let mut running = Running::follow(&island)?;
    let watchdog = running.watchdog()?;
    send(watchdog, libc::SIGSTOP);
    running.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(100));
    let other = Other::execute(&island, "/bin/family");
    std::thread::sleep(Duration::from_millis(800));
    ensure!(!other.is_done(), "nothing waited: this proves nothing");
    running.signal(libc::SIGKILL);
    running.ended(PATIENCE)?;
    other.took()?;
    within(PATIENCE, "the watchdog has ended", || Ok(!is_alive(watchdog)))?;
    // The command continues alone.
    running.wait_for_more(&island)?;
    fs::write(island.path("tmp/end"), "")?;
    within(PATIENCE, "the command ends", || {
        Ok(fs::read_to_string(island.path("tmp/said"))?.ends_with("done\n"))
    })
}

#[test]
fn the_watchdog_keeps_nothing_open_and_ends_with_gmpscope() -> Result<()> {
    let _one = machine();
    let island = island()?;
    let running = Running::follow(&island)?;
    let watchdog = running.watchdog()?;
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{watchdog}/fd"))? {
        open.push(fs::read_link(entry?.path())?);
    }
    open.sort();
    let expected = ["anon_inode:[eventfd]", "anon_inode:[fanotify]"].map(PathBuf::from);
    ensure!(open == expected, "{open:?}");
    // Signals that reach everybody (a stop of the service, Ctrl-C) are gmpscope's to act on.
    send(watchdog, libc::SIGTERM);
    send(watchdog, libc::SIGINT);
    running.wait_for_more(&island)?;
    ensure!(running.watchdog()? == watchdog);
    let capture = running.end(&island)?;
    ensure!(
        capture.capture.complete,
        "{:#?} {:#?}",
        capture.capture,
        tree(&capture)?
    );
    ensure!(!is_alive(watchdog), "the watchdog is left");
    Ok(())
}

#[test]
fn a_watchdog_that_is_killed_is_replaced() -> Result<()> {
    let _one = machine();
    let island = island()?;
    let running = Running::follow(&island)?;
    let first = running.watchdog()?;
    send(first, libc::SIGKILL);
    within(PATIENCE, "another watchdog", || {
        let now = watchdogs_of(running.0.id())?;
        Ok(!now.is_empty() && !now.contains(&first))
    })?;
    running.wait_for_more(&island)?;
    running.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(100));
    let took = Other::execute(&island, "/bin/family").took()?;
    ensure!(took < BOUND, "{took:?}");
    running.signal(libc::SIGCONT);
    running.end(&island)?;
    Ok(())
}

#[test]
fn a_signal_of_the_terminal_stops_gmpscope_and_nobody_waits() -> Result<()> {
    let _one = machine();
    let island = island()?;
    for signal in [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        let running = Running::follow(&island)?;
        running.signal(signal);
        let stat = format!("/proc/{}/stat", running.0.id());
        within(PATIENCE, "it stops", || {
            Ok(fs::read_to_string(&stat)?.contains(") T "))
        })?;
        ensure!(
            watchdogs_of(running.0.id())?.is_empty(),
            "signal {signal}: it holds programs"
        );
        let took = Other::execute(&island, "/bin/family").took()?;
        ensure!(took < BOUND, "signal {signal}: {took:?}");
        running.signal(libc::SIGCONT);
        // The command was stopped with it, by the same signal.
        running.wait_for_more(&island)?;
        // It holds programs again.
        running.watchdog()?;
        running.end(&island)?;
        fs::remove_file(island.path("tmp/end"))?;
    }
    Ok(())
}
