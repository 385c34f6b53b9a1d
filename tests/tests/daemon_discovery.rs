//! Which processes the daemon finds, and what it does with them: running ones, new ones, those that become another
//! program, are in other namespaces, lose their file, or are excluded by a rule.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gmpscope_tests::exposition::Exposition;
use gmpscope_tests::{Daemon, Toolchain, Variant, Workload, machine, toolchain};
use tempfile::TempDir;

/// A metric that every watched process has.
const WAITS_COUNT: &str = "gmpscope_sched_latencies_seconds_count";
/// Starts a daemon that learns of new processes from the kernel's events alone: the next scan comes late. Each target
/// is logged.
fn start_without_scans(config: &str) -> Result<Daemon> {
    Daemon::start_with(config, |command| {
        command.args(["--discovery-interval", "1h", "-v"]);
        Ok(())
    })
}

/// A program that forks like a C program, without execve: the child continues with one thread.
const FORKS: &str = "package main
import (\"fmt\"; \"syscall\"; \"time\")
func main() {
	pid, _, errno := syscall.RawSyscall(syscall.SYS_FORK, 0, 0, 0)
	if pid == 0 && errno == 0 {
		for { syscall.RawSyscall6(syscall.SYS_PAUSE, 0, 0, 0, 0, 0, 0) }
	}
	fmt.Println(pid)
	time.Sleep(time.Hour)
}";

/// A folder of programs that no other process on this machine runs.
struct Programs(TempDir);

impl Programs {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn add(&self, go: &Toolchain, workload: &str) -> Result<PathBuf> {
        let path = self.0.path().join(format!("{workload}-{}", go.version()));
        fs::copy(Variant::Stripped.build(go, workload)?, &path)?;
        Ok(path)
    }

    fn newest(&self, workload: &str) -> Result<PathBuf> {
        self.add(&toolchain::newest()?, workload)
    }

    /// Makes a rule for all of them.
    fn rule(&self, rest: &str) -> String {
        format!("[[target]]\nexe = \"{}/*\"\n{rest}\n", self.0.path().display())
    }
}

/// A process, killed on drop with everything in its namespace.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Whether a process is watched.
fn shows(page: &Exposition, pid: u32) -> bool {
    let pid = pid.to_string();
    page.find(WAITS_COUNT, &[("pid", &pid)]).next().is_some()
}

fn wait_until_shown(daemon: &Daemon, pid: u32) -> Result<()> {
    daemon.wait_for(&format!("process {pid}"), |page| shows(page, pid).then_some(()))
}

fn wait_until_gone(daemon: &Daemon, pid: u32) -> Result<()> {
    daemon.wait_for(&format!("that process {pid} is gone"), |page| {
        (!shows(page, pid)).then_some(())
    })
}

#[test]
fn running_processes_and_later_ones_are_watched() -> Result<()> {
    let _one = machine();
    let programs = Programs::new()?;
    let mut before = Vec::new();
    let mut binaries = Vec::new();
    for go in toolchain::selection()? {
        let binary = programs.add(&go, "idle")?;
        before.push(Workload::start(&binary, 2, &[])?);
        binaries.push((go, binary));
    }
    let daemon = start_without_scans(&programs.rule("tier = \"passive\""))?;
    for workload in &before {
        wait_until_shown(&daemon, workload.pid())?;
    }
    for (go, binary) in &binaries {
        let mut later = Workload::start(binary, 2, &[])?;
        wait_until_shown(&daemon, later.pid())?;
        let page = daemon.metrics()?;
        let (version, pid) = (go.version(), later.pid().to_string());
        let labels = [("go_version", version.as_str()), ("pid", pid.as_str())];
        assert_eq!(page.value("gmpscope_target_info", &labels)?, 1.0);
        later.signal(libc::SIGKILL);
        later.wait(Duration::from_secs(10))?;
        wait_until_gone(&daemon, later.pid())?;
    }
    for workload in &before {
        ensure!(
            shows(&daemon.metrics()?, workload.pid()),
            "it is watched to its end"
        );
    }
    Ok(())
}

#[test]
fn a_process_that_becomes_another_program() -> Result<()> {
    let _one = machine();
    let programs = Programs::new()?;
    let binary = programs.newest("execs_other")?;
    let daemon = start_without_scans(&programs.rule("tier = \"passive\""))?;
    // A process that no longer runs Go.
    let mut other = Workload::start(&binary, 2, &[])?;
    wait_until_shown(&daemon, other.pid())?;
    other.go()?;
    wait_until_gone(&daemon, other.pid())?;
    ensure!(other.alive(), "it sleeps");
    // A process that executes the same program again: earlier counts belong to its previous life.
    let mut anew = Workload::start(&binary, 2, &["-self"])?;
    wait_until_shown(&daemon, anew.pid())?;
    anew.go()?;
    let found = format!("target {} (", anew.pid());
    let times = || {
        let said = daemon.log();
        said.lines()
            .filter(|line| line.contains(&found) && line.contains(", go1."))
            .count()
    };
    let end = Instant::now() + Duration::from_secs(30);
    while times() < 2 {
        ensure!(Instant::now() < end, "{}", daemon.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    wait_until_shown(&daemon, anew.pid())
}

#[test]
fn a_child_that_is_forked_without_execve() -> Result<()> {
    let _one = machine();
    let programs = Programs::new()?;
    let (source, binary) = (
        programs.0.path().join("main.go"),
        programs.0.path().join("forks_bare"),
    );
    fs::write(&source, FORKS)?;
    let built = toolchain::newest()?
        .go()
        .env("CGO_ENABLED", "0")
        .args(["build", "-o"])
        .args([&binary, &source])
        .output()?;
    ensure!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let daemon = Daemon::start(&programs.rule("tier = \"passive\""))?;
    let mut parent = Running(Command::new(&binary).stdout(Stdio::piped()).spawn()?);
    let mut line = String::new();
    let mut out = parent.0.stdout.take().context("no stdout")?;
    while !line.ends_with('\n') {
        let mut byte = [0];
        out.read_exact(&mut byte)?;
        line.push(char::from(byte[0]));
    }
    let child: u32 = line.trim().parse()?;
    wait_until_shown(&daemon, parent.0.id())?;
    let seen = wait_until_shown(&daemon, child);
    // SAFETY: kill takes two numbers; the child is the one that the program has just named.
    unsafe { libc::kill(child as i32, libc::SIGKILL) };
    seen?;
    wait_until_gone(&daemon, child)
}

#[test]
fn a_process_whose_file_is_deleted_or_replaced() -> Result<()> {
    let _one = machine();
    let programs = Programs::new()?;
    let all = toolchain::selection()?;
    let (old, new) = (all.first().context("no Go")?, toolchain::newest()?);
    let path = programs.0.path().join("server");
    fs::copy(Variant::Stripped.build(old, "idle")?, &path)?;
    let first = Workload::start(&path, 2, &[])?;
    fs::remove_file(&path)?;
    let daemon = Daemon::start(&programs.rule("tier = \"passive\""))?;
    wait_until_shown(&daemon, first.pid())?;
    fs::copy(Variant::Stripped.build(&new, "idle")?, &path)?;
    let second = Workload::start(&path, 2, &[])?;
    wait_until_shown(&daemon, second.pid())?;
    let page = daemon.metrics()?;
    for (workload, go) in [(&first, old), (&second, &new)] {
        let (pid, version, exe) = (
            workload.pid().to_string(),
            go.version(),
            path.display().to_string(),
        );
        let labels = [("pid", pid.as_str()), ("go_version", &version), ("exe", &exe)];
        assert_eq!(page.value("gmpscope_target_info", &labels)?, 1.0);
    }
    Ok(())
}

#[test]
fn a_process_in_other_namespaces_whose_path_exists_only_there() -> Result<()> {
    let _one = machine();
    let programs = Programs::new()?;
    let binary = programs.newest("idle")?;
    let hidden = programs.0.path().join("hidden");
    fs::create_dir(&hidden)?;
    let daemon = Daemon::start(&programs.rule("tier = \"sampled\""))?;
    // A file system that exists only in that mount namespace, and PIDs that count from 1.
    let inside = hidden.join("app");
    let script = "mount -t tmpfs none \"$2\" && cp \"$1\" \"$3\" && exec \"$3\" -for 600s";
    let namespaces = Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .args([&binary, &hidden, &inside])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("unshare (util-linux) cannot be started: apt-get install util-linux")?;
    let namespaces = Running(namespaces);
    let exe = inside.display().to_string();
    let pid: u32 = daemon.wait_for(&format!("a process of {exe}"), |page| {
        let labels = [("exe", exe.as_str())];
        let found = page.find(WAITS_COUNT, &labels).next()?;
        found.labels.get("pid")?.parse().ok()
    })?;
    ensure!(!inside.exists(), "the path leads nowhere here");
    // Probes can be attached, too.
    daemon.wait_for_tier(pid, "sampled")?;
    drop(namespaces);
    wait_until_gone(&daemon, pid)
}

#[test]
fn rules_say_who_is_watched() -> Result<()> {
    let _one = machine();
    let programs = Programs::new()?;
    // The other user must be able to reach the program.
    fs::set_permissions(programs.0.path(), Permissions::from_mode(0o755))?;
    let binary = programs.newest("idle")?;
    let start = |uid: u32| -> Result<Running> {
        let mut command = Command::new(&binary);
        command.args(["-for", "600s"]).uid(uid).gid(uid);
        Ok(Running(
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?,
        ))
    };
    let (ours, theirs) = (start(0)?, start(65_534)?);
    let rules = format!(
        "{}{}",
        programs.rule("uid = 65534\ntier = \"off\""),
        programs.rule("tier = \"passive\"")
    );
    let daemon = Daemon::start(&rules)?;
    wait_until_shown(&daemon, ours.0.id())?;
    ensure!(
        !shows(&daemon.metrics()?, theirs.0.id()),
        "a rule leaves it alone"
    );
    // The rules are swapped while the daemon is running.
    daemon.configure(&format!(
        "{}{}",
        programs.rule("uid = 0\ntier = \"off\""),
        programs.rule("tier = \"passive\"")
    ))?;
    wait_until_shown(&daemon, theirs.0.id())?;
    wait_until_gone(&daemon, ours.0.id())
}

/// Enough budget for a program that does little.
const AMPLE: &str = "budget.target = \"50%\"\nbudget.target_floor = \"100ms\"\nbudget.host = \"50%\"\n";

#[test]
fn exact_ends_with_its_window() -> Result<()> {
    let _one = machine();
    let programs = Programs::new()?;
    let workload = Workload::start(&programs.newest("idle")?, 2, &[])?;
    let daemon = Daemon::start(&format!(
        "{AMPLE}{}",
        programs.rule("tier = \"exact\"\nwindow = \"3s\"")
    ))?;
    let pid = workload.pid();
    daemon.wait_for_tier(pid, "exact")?;
    daemon.wait_for_tier(pid, "sampled")?;
    let steps = |from: &str, to: &str| -> Result<f64> {
        let pid = pid.to_string();
        let labels = [("pid", pid.as_str()), ("from", from), ("to", to)];
        Ok(daemon.metrics()?.sum("gmpscope_tier_steps_total", &labels))
    };
    assert_eq!(steps("passive", "exact")?, 1.0, "{}", daemon.log());
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(steps("passive", "exact")?, 1.0, "once is what was asked for");
    daemon.wait_for_tier(pid, "sampled")
}

#[test]
fn a_reload_leaves_the_probes_of_others_alone() -> Result<()> {
    let _one = machine();
    let (programs, others) = (Programs::new()?, Programs::new()?);
    let mut workload = Workload::start(&programs.newest("spawn")?, 2, &[])?;
    let other = Workload::start(&others.newest("idle")?, 2, &[])?;
    let rules = format!("{AMPLE}{}", programs.rule("tier = \"sampled\""));
    let mut daemon = Daemon::start(&rules)?;
    daemon.wait_for_tier(workload.pid(), "sampled")?;
    daemon.configure(&format!("{rules}{}", others.rule("tier = \"passive\"")))?;
    daemon.wait_for_notification("READY=1", Duration::from_secs(30))?;
    wait_until_shown(&daemon, other.pid())?;
    workload.go_for(2_000)?;
    let pid = workload.pid().to_string();
    let labels = [("pid", pid.as_str())];
    daemon.wait_for("hits of the probes that stayed", |page| {
        (page.sum("gmpscope_probe_hits_total", &labels) > 100.0).then_some(())
    })?;
    let page = daemon.metrics()?;
    assert_eq!(
        page.sum("gmpscope_tier_steps_total", &labels),
        1.0,
        "{}",
        daemon.log()
    );
    Ok(())
}

#[test]
fn starts_of_chosen_binaries_are_timed() -> Result<()> {
    let _one = machine();
    let programs = Programs::new()?;
    let (chosen, other) = (programs.newest("hello")?, programs.newest("http_hello")?);
    let daemon = Daemon::start(&format!("init.include = [\"{}\"]\n", chosen.display()))?;
    let exe = chosen.display().to_string();
    let labels = [("exe", exe.as_str()), ("result", "completed")];
    let completed = |page: &Exposition| {
        page.find("gmpscope_starts_total", &labels)
            .next()
            .map(|s| s.value)
    };
    daemon.wait_for("that its starts are timed", completed)?;
    for _ in 0..5 {
        run(&chosen)?;
    }
    daemon.wait_for("five starts", |page| (completed(page)? == 5.0).then_some(()))?;
    let page = daemon.metrics()?;
    let count = |phase: &str| {
        let labels = [("exe", exe.as_str()), ("phase", phase)];
        page.value("gmpscope_init_phase_seconds_count", &labels)
    };
    for phase in ["exec", "rt0", "schedinit", "runtime_main", "total"] {
        assert_eq!(count(phase)?, 5.0, "{phase}");
    }
    let other = other.display().to_string();
    assert_eq!(page.find("gmpscope_starts_total", &[("exe", &other)]).count(), 0);
    Ok(())
}

fn run(program: &Path) -> Result<()> {
    let status = Command::new(program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "{} ended with {status}", program.display());
    Ok(())
}
