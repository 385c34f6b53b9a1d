//! `gmpscope run` of a command, and starts that others make.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gmpscope_tests::start::{Traced, partition};
use gmpscope_tests::{Variant, environment, machine, toolchain};
use tracer_user::model::start::TimesFrom;

const PROGRAM: &str = "slow_start";

fn newest() -> Result<PathBuf> {
    Variant::Plain.build(&toolchain::newest()?, PROGRAM)
}

#[test]
fn the_status_and_the_streams_are_the_commands_own() -> Result<()> {
    let _one = machine();
    let toolchain = toolchain::newest()?;
    let go = toolchain.root.join("bin/go");
    // `go` is a Go program: its output comes through, and so does its failure.
    let ran = Traced::new(&go)?
        .env("GOTOOLCHAIN", "local")
        .arg("version")
        .run()?;
    ensure!(ran.stdout.starts_with("go version go1."), "{:?}", ran.stdout);
    ensure!(ran.status.code() == Some(0));
    partition(ran.start()?)?;
    let ran = Traced::new(&go)?
        .env("GOTOOLCHAIN", "local")
        .arg("no-such-command")
        .run()?;
    ensure!(ran.status.code() == Some(2), "{}", ran.status);
    let code =
        |program: &str| -> Result<Option<i32>> { Ok(Traced::new(Path::new(program))?.run()?.status.code()) };
    ensure!(code("/nonexistent")? == Some(127));
    ensure!(code("/etc/passwd")? == Some(126));
    ensure!(code("/bin/true")? == Some(125), "no Go program");
    Ok(())
}

#[test]
fn the_environment_and_the_working_directory_are_the_callers() -> Result<()> {
    let _one = machine();
    let folder = tempfile::tempdir()?;
    let ran = Traced::new(&newest()?)?
        .in_folder(folder.path())
        .env("SLOW_START_SAYS", "a \"word\"\n")
        .arg("where")
        .run()?;
    let expected = format!("{} <nil> {:?}", folder.path().display(), "a \"word\"\n");
    ensure!(ran.stdout.lines().any(|line| line == expected), "{}", ran.stdout);
    Ok(())
}

#[test]
fn a_signal_reaches_the_command() -> Result<()> {
    let _one = machine();
    let traced = Traced::new(&newest()?)?.arg("wait");
    let line = traced.command_line();
    let mut tracer = Command::new(&line[0])
        .args(&line[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    // Kept open: closing it would end the command, too.
    let _stdin = tracer.stdin.take();
    let mut stdout = BufReader::new(tracer.stdout.take().context("no stdout")?);
    let mut said = String::new();
    stdout.read_line(&mut said)?;
    ensure!(said.starts_with("main "), "{said:?}");
    // SAFETY: takes two numbers; the child is not yet waited for.
    unsafe { libc::kill(tracer.id() as i32, libc::SIGTERM) };
    let status = tracer.wait()?;
    ensure!(
        status.code() == Some(128 + libc::SIGTERM),
        "{status} {:?}",
        status.signal()
    );
    Ok(())
}

#[test]
fn a_command_outlives_a_tracer_that_is_killed() -> Result<()> {
    let _one = machine();
    let traced = Traced::new(&newest()?)?.arg("wait");
    let line = traced.command_line();
    let mut tracer = Command::new(&line[0])
        .args(&line[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdin = tracer.stdin.take().context("no stdin")?;
    let mut stdout = BufReader::new(tracer.stdout.take().context("no stdout")?);
    let mut said = String::new();
    stdout.read_line(&mut said)?;
    let pid: i32 = said.split_whitespace().nth(1).context("no pid")?.parse()?;
    tracer.kill()?;
    tracer.wait()?;
    // SAFETY: signal 0 only asks whether the process is there.
    let there = unsafe { libc::kill(pid, 0) } == 0;
    ensure!(there, "the command died with its tracer");
    // It ends when its input does.
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest)?;
    ensure!(rest.is_empty(), "{rest:?}");
    Ok(())
}

#[test]
fn a_command_runs_as_the_user_who_called_sudo() -> Result<()> {
    let _one = machine();
    // Anybody can execute it there.
    let dir = tempfile::tempdir()?;
    let program = dir.path().join(PROGRAM);
    std::fs::copy(newest()?, &program)?;
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
    for (traced, uid) in [
        (Traced::new(&program)?.env("SUDO_UID", "65534"), 65534),
        (Traced::new(&program)?.options(&["--user", "1"]), 1),
    ] {
        let ran = traced.arg("whoami").run()?;
        ran.start()?;
        ensure!(ran.stdout.contains(&format!("uid {uid}\n")), "{:?}", ran.stdout);
    }
    Ok(())
}

#[test]
fn starts_that_others_make_are_seen() -> Result<()> {
    let _one = machine();
    for variant in [Variant::Plain, Variant::Pie] {
        let binary = variant.build(&toolchain::newest()?, PROGRAM)?;
        let mut tracer = Command::new(environment::gmpscope()?)
            .args([
                "attach",
                "--format",
                "json",
                "--duration",
                "20s",
                "--next",
                "5",
                "--exe",
            ])
            .arg(&binary)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stderr = BufReader::new(tracer.stderr.take().context("no stderr")?);
        let mut line = String::new();
        stderr.read_line(&mut line)?;
        ensure!(line.starts_with("attached:"), "{line}");
        let mut pids = Vec::new();
        for _ in 0..5 {
            // Other starts are not counted.
            Command::new("/bin/true").status()?;
            let child = Command::new(&binary)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()?;
            pids.push(child.id());
            child.wait_with_output()?;
        }
        let output = tracer.wait_with_output()?;
        ensure!(output.status.success(), "{}", output.status);
        let capture: tracer_user::document::capture::Capture = serde_json::from_slice(&output.stdout)?;
        let init = capture.init.context("no starts")?;
        let mut seen: Vec<u32> = init.starts.iter().map(|start| start.pid).collect();
        seen.sort_unstable();
        pids.sort_unstable();
        ensure!(seen == pids && init.runs == 5, "{seen:?} {pids:?}");
        let run = init.run.context("no start")?;
        partition(&run)?;
        ensure!(run.t0 != TimesFrom::Execve && run.phases.len() > 20, "{run:#?}");
        ensure!(
            init.histograms
                .get(&"total".into())
                .is_some_and(|hist| hist.count == 5)
        );
    }
    Ok(())
}

#[test]
fn the_go_command_starts_and_builds() -> Result<()> {
    let _one = machine();
    let toolchain = toolchain::newest()?;
    let dir = tempfile::tempdir()?;
    std::fs::write(
        dir.path().join("go.mod"),
        format!("module x\n\ngo 1.{}\n", toolchain.minor()),
    )?;
    std::fs::write(dir.path().join("main.go"), "package main\n\nfunc main() {}\n")?;
    let go = toolchain.root.join("bin/go");
    let directory = dir.path().display().to_string();
    let ran = Traced::new(&go)?
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=mod")
        .arg("-C")
        .arg(&directory)
        .arg("build")
        .arg("./...")
        .run()?;
    ensure!(ran.status.success(), "{}", ran.stderr);
    let run = ran.start()?;
    partition(run)?;
    let packages = run
        .phases
        .iter()
        .filter(|phase| phase.name.raw().starts_with("init:"))
        .count();
    ensure!(packages > 50, "{packages} packages");

    // A proxy that takes connections and never answers: the program starts, and hangs in main.
    let proxy = TcpListener::bind("127.0.0.1:0")?;
    std::fs::write(
        dir.path().join("go.mod"),
        format!(
            "module x\n\ngo 1.{}\n\nrequire example.com/y v1.0.0\n",
            toolchain.minor()
        ),
    )?;
    let traced = Traced::new(&go)?
        .arg("-C")
        .arg(&directory)
        .arg("mod")
        .arg("download");
    let line = traced.command_line();
    let started = Instant::now();
    let mut hanging = Command::new(&line[0]);
    hanging
        .args(&line[1..])
        .envs([
            ("GOTOOLCHAIN", "local"),
            ("GOFLAGS", "-mod=mod"),
            ("GONOSUMDB", "*"),
            ("GONOSUMCHECK", "1"),
        ])
        .env("GOPROXY", format!("http://{}", proxy.local_addr()?))
        .env("GOMODCACHE", dir.path().join("cache"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut hanging = hanging.spawn()?;
    proxy.set_nonblocking(true)?;
    let connection = loop {
        match proxy.accept() {
            Ok((connection, _)) => break connection,
            Err(_) if started.elapsed() < Duration::from_secs(20) => {
                std::thread::sleep(Duration::from_millis(5))
            }
            Err(e) => {
                hanging.kill()?;
                bail!("go never asked its proxy: {e}");
            }
        }
    };
    std::thread::sleep(Duration::from_secs(1));
    ensure!(hanging.try_wait()?.is_none(), "it does not hang");
    // SAFETY: takes two numbers; the child is not yet waited for.
    unsafe { libc::kill(hanging.id() as i32, libc::SIGTERM) };
    let status = hanging.wait()?;
    drop(connection);
    ensure!(!status.success(), "{status}");
    Ok(())
}
