//! Names of files, processes and functions that their owner chose to do harm. Text for people must have no control byte
//! but its own newlines, and no line that somebody else wrote.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::binary::{replace_all, write_executable};
use gmpscope_tests::environment::gmpscope;
use gmpscope_tests::{Daemon, Variant, Workload, machine, toolchain};
use serde_json::Value;
use tempfile::TempDir;
use tracer_user::escape::is_dangerous;

/// An operating system command, a newline, a word that would begin a line, right-to-left text, and a byte that is not
/// UTF-8. A process that runs such a file is named after it, until it names itself.
const FILE: &[u8] = b"x\x1b]0;owned\x07\nFORGED gmpscope: error: FORGED\r\xe2\x80\xaeevil\xff";
/// The name that the workload gives itself.
const COMM: &str = "a\nFORGED\u{1b}[31m";
/// A name of a function in the workload, and its escaped form.
const FUNCTION: (&[u8], &[u8]) = (
    b"nameThatATestOverwrites0123456789",
    b"f\x1b[2J\nFORGED\x1b]0;x\x07\xe2\x80\xaeoverwrites__",
);
/// The end of the name of its source file, and its escaped form.
const SOURCE: (&[u8], &[u8]) = (b"/hostile/main.go", b"/h\nFORGED\x1bain.go");

/// Fails if `text` would control a terminal, or has a forged line.
fn harmless(what: &str, text: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(text);
    let dangerous = text.chars().find(|c| *c != '\n' && is_dangerous(*c));
    ensure!(dangerous.is_none(), "{what}: {dangerous:?} in {text:?}");
    let forged = text.lines().find(|line| line.trim_start().starts_with("FORGED"));
    ensure!(forged.is_none(), "{what}: a line was forged: {text:?}");
    ensure!(!text.contains("panicked"), "{what}: {text}");
    Ok(())
}

/// A folder with a hostile program.
struct Hostile {
    dir: TempDir,
    program: PathBuf,
}

impl Hostile {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let program = dir.path().join(OsStr::from_bytes(FILE));
        let mut bytes = std::fs::read(Variant::Stripped.build(&toolchain::newest()?, "hostile")?)?;
        for (old, new) in [FUNCTION, SOURCE] {
            ensure!(replace_all(&mut bytes, old, new)? > 0, "{old:?} is not in it");
        }
        write_executable(&program, &bytes)?;
        Ok(Self { dir, program })
    }

    fn start(&self) -> Result<Workload> {
        Workload::start(&self.program, 2, &[])
    }

    fn file(&self, name: &str) -> OsString {
        self.dir.path().join(name).into_os_string()
    }
}

fn command(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Command> {
    let mut command = Command::new(gmpscope()?);
    command.args(args).stdin(Stdio::null());
    Ok(command)
}

/// Runs gmpscope to its end with this status, and fails if its output could do harm.
fn said(what: &str, code: i32, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Output> {
    checked(what, code, command(args)?.env("HOSTILE_QUICK", "1").output()?)
}

fn checked(what: &str, code: i32, output: Output) -> Result<Output> {
    harmless(&format!("stdout of {what}"), &output.stdout)?;
    harmless(&format!("stderr of {what}"), &output.stderr)?;
    ensure!(output.status.code() == Some(code), "{what}: {output:?}");
    Ok(output)
}

fn words<'a>(args: &'a str, more: &[&'a OsStr]) -> Vec<&'a OsStr> {
    args.split(' ')
        .map(OsStr::new)
        .chain(more.iter().copied())
        .collect()
}

#[test]
fn attach_and_what_it_recorded() -> Result<()> {
    let _one = machine();
    let hostile = Hostile::new()?;
    let mut workload = hostile.start()?;
    workload.go()?;
    let pid = workload.pid().to_string();
    for mode in ["passive", "sampled", "exact", "full --stacks"] {
        let recording = hostile.file("recording");
        let args = format!("attach -p {pid} --duration 300ms -vv --mode {mode} --record");
        let text = said(mode, 0, words(&args, &[&recording]))?;
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        // It is this very process.
        ensure!(text.contains("evil"), "{text}");
        if mode != "exact" && mode != "passive" {
            ensure!(text.contains("overwrites"), "{text}");
        }
        for args in ["replay -v", "replay --interval 100ms", "replay --format json"] {
            said(&format!("{args} of {mode}"), 0, words(args, &[&recording]))?;
        }
        std::fs::remove_file(&recording)?;
    }
    // JSON has the name as it is, and escapes by its own rules.
    let args = format!("attach -p {pid} --duration 100ms --mode passive --format json");
    let json = said("json", 0, words(&args, &[]))?;
    let json: Value = serde_json::from_slice(&json.stdout)?;
    ensure!(
        json["target"]["exe"].as_str() == Some(&*hostile.program.to_string_lossy()),
        "{json:#}"
    );
    Ok(())
}

#[test]
fn inspect_and_several_that_match() -> Result<()> {
    let hostile = Hostile::new()?;
    let (one, _other) = (hostile.start()?, hostile.start()?);
    let program = hostile.program.as_os_str();
    let several = said("attach --exe", 2, words("attach --exe", &[program]))?;
    let text = String::from_utf8_lossy(&several.stderr).into_owned();
    ensure!(
        text.contains("2 processes") && text.lines().count() == 3,
        "{text}"
    );
    said("attach --comm", 2, words("attach --comm", &[OsStr::new(COMM)]))?;
    said(
        "attach --comm of none",
        3,
        words("attach --comm", &[OsStr::new("none\nFORGED")]),
    )?;
    let pid = one.pid().to_string();
    for subject in [OsStr::new(&pid), program] {
        for args in ["inspect", "inspect --format json", "inspect -vv"] {
            said(args, 0, words(args, &[subject]))?;
        }
    }
    Ok(())
}

#[test]
fn run_and_attach_next() -> Result<()> {
    let _one = machine();
    let hostile = Hostile::new()?;
    let program = hostile.program.as_os_str();
    for args in ["run --", "run -vv --", "run --repeat 3 --", "run --follow --"] {
        let ran = said(
            args,
            0,
            words(args, &[program, OsStr::new("arg\n\u{1b}[2JFORGED")]),
        )?;
        let text = String::from_utf8_lossy(&ran.stderr).into_owned();
        ensure!(text.contains("attached:"), "{args}: {text}");
    }
    let mut next = command(words("attach --next 1 --exe", &[program]))?
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = attached(&mut next)?;
    let status = Command::new(program).env("HOSTILE_QUICK", "1").status()?;
    ensure!(status.success(), "{status}");
    let mut output = next.wait_with_output()?;
    output.stderr = stderr;
    checked("attach --next", 0, output)?;
    Ok(())
}

/// Reads a child's stderr up to the end of the line that says that it is attached.
fn attached(child: &mut Child) -> Result<Vec<u8>> {
    let mut lines = BufReader::new(child.stderr.take().context("no stderr")?);
    let mut text = Vec::new();
    // A long name takes several lines, up to the last words.
    while !text.ends_with(b"instructions\n") {
        ensure!(
            lines.read_until(b'\n', &mut text)? > 0,
            "{}",
            String::from_utf8_lossy(&text)
        );
    }
    // Later output is discarded, so that it blocks nobody.
    std::thread::spawn(move || _ = lines.read_to_end(&mut Vec::new()));
    Ok(text)
}

#[test]
fn errors() -> Result<()> {
    let hostile = Hostile::new()?;
    let sleep = hostile
        .dir
        .path()
        .join(OsStr::from_bytes(&[b"sleep ", FILE].concat()));
    std::fs::copy("/bin/sleep", &sleep)?;
    let mut sleeps = Command::new(&sleep).arg("60").stdin(Stdio::null()).spawn()?;
    let pid = sleeps.id().to_string();
    let nothing = hostile
        .dir
        .path()
        .join(OsStr::from_bytes(&[b"nothing ", FILE].concat()));
    let (sleep, nothing) = (sleep.as_os_str(), nothing.as_os_str());
    let all = || -> Result<()> {
        said("attach", 3, words("attach -p", &[OsStr::new(&pid)]))?;
        said("inspect PID", 3, words("inspect", &[OsStr::new(&pid)]))?;
        said("inspect FILE", 3, words("inspect", &[sleep]))?;
        said("inspect of nothing", 3, words("inspect", &[nothing]))?;
        said("attach --exe of nothing", 3, words("attach --exe", &[nothing]))?;
        said("attach --next", 3, words("attach --next 1 --exe", &[sleep]))?;
        said("run", 125, words("run --", &[sleep]))?;
        said("run of nothing", 127, words("run --", &[nothing]))?;
        said(
            "run of a folder",
            126,
            words("run --", &[hostile.dir.path().as_os_str()]),
        )?;
        said("replay", 1, words("replay", &[sleep]))?;
        let inside = Path::new(nothing).join("x");
        said(
            "-o",
            1,
            words("attach -p 1 --mode passive -o", &[inside.as_os_str()]),
        )?;
        Ok(())
    };
    let done = all();
    sleeps.kill()?;
    sleeps.wait()?;
    done
}

#[test]
fn the_daemons_log_and_pages() -> Result<()> {
    let _one = machine();
    let hostile = Hostile::new()?;
    let mut workload = hostile.start()?;
    workload.go()?;
    let rule = "[budget]\ntarget = \"100%\"\ntarget_floor = \"1s\"\nhost = \"100%\"\n\
                [init]\ninclude = [\"*FORGED*evil*\"]\n\
                [[target]]\nexe = \"*FORGED*evil*\"\ntier = \"sampled\"\n";
    let mut daemon = Daemon::start_with(rule, |command| {
        command.arg("-v");
        Ok(())
    })?;
    daemon.wait_for_tier(workload.pid(), "sampled")?;
    for page in ["/targets", "/metrics", "/healthz"] {
        let page_text = daemon.get(page)?;
        harmless(page, page_text.text()?.as_bytes())?;
    }
    let targets = daemon.get("/targets")?;
    let targets: Value = serde_json::from_str(targets.text()?)?;
    ensure!(targets.to_string().contains("evil"), "{targets:#}");
    ensure!(
        targets["targets"]
            .as_array()
            .is_some_and(|all| all.iter().any(|target| target["comm"] == COMM)),
        "{targets:#}"
    );
    workload.signal(libc::SIGKILL);
    workload.wait(Duration::from_secs(10))?;
    std::thread::sleep(Duration::from_secs(3));
    let (status, _) = daemon.stop()?;
    ensure!(status.success(), "{status}");
    let log = daemon.log();
    harmless("the log", log.as_bytes())?;
    ensure!(log.contains("FORGED"), "it does not name the process: {log}");
    Ok(())
}

/// The kernel keeps 15 bytes of a process's name, and these letters have two bytes each: it cuts one of them.
const CUT: &str = "планировщик";

#[test]
fn a_name_that_the_kernel_has_cut_within_a_letter() -> Result<()> {
    let _one = machine();
    let dir = tempfile::tempdir()?;
    let program = dir.path().join(CUT);
    std::fs::copy(Variant::Stripped.build(&toolchain::newest()?, "mixed")?, &program)?;
    let mut workload = Workload::start(&program, 2, &[])?;
    workload.go()?;
    let pid = workload.pid();
    let comm = std::fs::read(format!("/proc/{pid}/comm"))?;
    ensure!(std::str::from_utf8(&comm).is_err(), "{comm:?}");
    for mode in ["passive", "sampled", "exact", "full"] {
        let args = format!("attach -p {pid} --duration 200ms --mode {mode}");
        said(&args, 0, words(&args, &[]))?;
    }
    let attach = "attach --duration 200ms --mode passive";
    said(
        "--comm",
        0,
        words(&format!("{attach} --comm"), &[OsStr::new(CUT)]),
    )?;
    said(
        "--exe",
        0,
        words(&format!("{attach} --exe"), &[program.as_os_str()]),
    )?;
    said("inspect", 0, words("inspect", &[OsStr::new(&pid.to_string())]))?;
    // In rules the half letter is one that `?` stands for.
    let daemon = Daemon::start("[[target]]\ncomm = \"планиро?\"\ntier = \"passive\"\n")?;
    daemon.wait_for_tier(pid, "passive")
}
