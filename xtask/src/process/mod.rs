//! Runs a command with its output in files, and measures its time and CPU time; ends one that runs in the background.

mod threads;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use threads::Tree;

/// How often to check whether a command has exited.
const POLL: Duration = Duration::from_millis(20);
/// How long a killed command may take to exit. The kernel lets a thread that waits for a device or a file system finish
/// that first, which may be never.
const KILLED: Duration = Duration::from_secs(30);

/// A running program, which is killed when this is dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that has exited.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// From its start to its exit.
    pub took: Duration,
    /// CPU time, including descendants that were waited for.
    pub cpu: Duration,
    /// Its peak resident memory (`VmHWM`) in KiB, to within what the last [`POLL`] has added; without descendants. `None`
    /// where it ended at once.
    pub peak_kib: Option<u64>,
    /// Whether it was killed because it ran for too long.
    pub killed: bool,
    /// The file with its standard output.
    pub stdout: PathBuf,
    /// The file with its standard error, which is the same unless they were kept apart.
    pub stderr: PathBuf,
}

impl Ended {
    /// Its output for people: all of it, or standard error if they were kept apart.
    pub fn printed(&self) -> String {
        read(&self.stderr)
    }

    /// Its standard output.
    pub fn answer(&self) -> String {
        read(&self.stdout)
    }
}

fn read(file: &Path) -> String {
    // The file was written a moment ago. If it cannot be read, the counts will be wrong, which is a failure.
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}

/// Runs a command with its output in files of `folder`, and kills it and its descendants after `at_most`, having
/// appended to its output what each of their threads waited for. With `apart`, standard output has a file of its own.
/// The scheduling priority is lowered by `niceness`.
///
/// # Errors
/// The command could not be started, waited for or killed.
pub fn run(
    command: &mut Command,
    folder: &Path,
    name: &str,
    apart: bool,
    niceness: i32,
    at_most: Duration,
) -> Result<Ended> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let stem: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let stderr = folder.join(format!("{stem}.log"));
    let errors = File::create(&stderr).with_context(|| format!("creating {}", stderr.display()))?;
    let (stdout, output) = match apart {
        true => {
            let path = folder.join(format!("{stem}.out"));
            let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
            (path, file)
        }
        false => (stderr.clone(), errors.try_clone()?),
    };
    let mut log = errors.try_clone()?;
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    if niceness > 0 {
        // If this fails, other jobs are only slower.
        let _ = rustix::process::setpriority_process(pid_of(&child), niceness);
    }
    let mut peak_kib = None;
    let killed = wait(&child, began, at_most, &mut peak_kib)?;
    if killed {
        let tree = Tree::of(child.id());
        let threads = tree.describe();
        writeln!(
            log,
            "\nstill running after {at_most:?}, so it is killed:\n{threads}"
        )?;
        tree.kill();
        let stays = wait(&child, Instant::now(), KILLED, &mut peak_kib)?;
        ensure!(
            !stays,
            "process {} cannot be killed; its threads waited for:\n{threads}",
            child.id()
        );
    }
    let took = began.elapsed();
    let cpu = cpu_of(&child).unwrap_or_default();
    Ok(Ended {
        status: child.wait()?,
        took,
        cpu,
        peak_kib,
        killed,
        stdout,
        stderr,
    })
}

/// Waits for the exit of a command and leaves it a zombie, so that its CPU time can be read. Returns whether `at_most`
/// passed first, and leaves its peak resident memory in `peak_kib`.
fn wait(child: &Child, began: Instant, at_most: Duration, peak_kib: &mut Option<u64>) -> Result<bool> {
    let pid = pid_of(child).context("a child without a process id")?;
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while waitid(WaitId::Pid(pid), ended)?.is_none() {
        *peak_kib = status_kib(child.id(), "VmHWM:").or(*peak_kib);
        if began.elapsed() > at_most {
            return Ok(true);
        }
        thread::sleep(POLL);
    }
    Ok(false)
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// A figure of `/proc/PID/status` in KiB; `None` once the process has exited.
pub fn status_kib(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time of a process that is not reaped yet, and of the children that it waited for.
fn cpu_of(child: &Child) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
    // The name, in parentheses, may contain anything; the state follows it.
    let (_, rest) = stat.rsplit_once(") ")?;
    // Fields 14 to 17 of proc(5): utime, stime, cutime, cstime. `rest` begins with field 3.
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis(
        ticks.saturating_mul(1000) / per_second.max(1),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_status_are_kept_apart_or_together() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = shell("echo to-stdout; echo to-stderr >&2; exit 3");
        let limit = Duration::from_secs(60);
        let apart = run(&mut command, folder.path(), "a::b c", true, 0, limit).unwrap();
        assert_eq!(apart.status.code(), Some(3));
        assert_eq!(apart.answer(), "to-stdout\n");
        assert_eq!(apart.printed(), "to-stderr\n");
        assert_eq!(apart.stderr, folder.path().join("a--b-c.log"));
        let together = run(&mut command, folder.path(), "d", false, 0, limit).unwrap();
        assert_eq!(together.printed(), "to-stdout\nto-stderr\n");
    }

    #[test]
    fn cpu_time_of_children_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let busy = "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; true";
        let ended = run(
            &mut shell(busy),
            folder.path(),
            "busy",
            false,
            0,
            Duration::from_secs(60),
        )
        .unwrap();
        assert!(ended.cpu > Duration::from_millis(20), "{ended:?}");
    }

    #[test]
    fn the_most_memory_is_that_of_the_command() {
        let folder = tempfile::tempdir().unwrap();
        // Bytes of a variable of the shell, which it keeps until it ends.
        let large = "x=$(head -c 30000000 /dev/zero | tr '\\0' a); sleep 0.3; echo ${#x}";
        let ended = run(
            &mut shell(large),
            folder.path(),
            "large",
            false,
            0,
            Duration::from_secs(60),
        )
        .unwrap();
        let peak = ended.peak_kib.unwrap();
        assert!((30_000..300_000).contains(&peak), "{ended:?}");
    }

    #[test]
    fn a_command_that_runs_too_long_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let limit = Duration::from_millis(100);
        let mut long = shell("echo begun; sleep 60; true");
        let ended = run(&mut long, folder.path(), "long", false, 0, limit).unwrap();
        assert!(ended.killed && !ended.status.success(), "{ended:?}");
        assert!(ended.took < Duration::from_secs(30), "{ended:?}");
        // What it and its descendants were doing is in its output.
        let printed = ended.printed();
        assert!(
            printed.starts_with("begun\n\nstill running after 100ms"),
            "{printed}"
        );
        assert!(printed.contains("sleep 60"), "{printed}");
        assert!(printed.contains("(sleeping)"), "{printed}");
    }
}
