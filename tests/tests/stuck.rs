//! Readers and disks that do not take gmpscope's output: the probes are removed from the target all the same, and a
//! signal ends gmpscope.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gmpscope_tests::environment::gmpscope;
use gmpscope_tests::kernel::{bpf_links_of, patched_text};
use gmpscope_tests::mounted::Small;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::unread::{Guarded, Unread, until};
use gmpscope_tests::{Variant, Workload, machine, toolchain};
use tracer_user::document::capture::Capture;
use tracer_user::stream::EndedBy;

/// How long after the first signal another one counts as a second.
const ANOTHER: Duration = Duration::from_millis(150);
/// How long anything may take on a machine where other tests compile. A failure would have taken for ever.
const PATIENCE: Duration = Duration::from_secs(25);

fn busy() -> Result<Workload> {
    let mut workload = Case::new(&toolchain::newest()?, Variant::Stripped, "mixed").start()?;
    workload.go()?;
    Ok(workload)
}

fn attach(workload: &Workload, options: &[&str]) -> Result<Command> {
    let mut command = Command::new(gmpscope()?);
    command
        .args(["attach", "-p", &workload.pid().to_string(), "-m", "exact"])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

fn probed(workload: &Workload) -> Result<()> {
    let pid = workload.pid();
    until("the target is probed", PATIENCE, || {
        Ok(!patched_text(pid)?.is_empty())
    })
}

fn not_probed(workload: &Workload) -> Result<()> {
    let pid = workload.pid();
    until("the target is rid of its probes", PATIENCE, || {
        Ok(patched_text(pid)?.is_empty())
    })
}

#[test]
fn probes_go_at_the_end_of_the_window_whoever_reads() -> Result<()> {
    let _machine = machine();
    for unread in [Unread::pipe()?, Unread::terminal()?] {
        let mut workload = busy()?;
        let folder = tempfile::tempdir()?;
        let said = folder.path().join("said");
        let mut tracer = Guarded(
            attach(&workload, &["-d", "1s", "--slower", "1us"])?
                .stdout(unread.stdio()?)
                .stderr(fs::File::create(&said)?)
                .spawn()?,
        );
        probed(&workload)?;
        not_probed(&workload).with_context(|| format!("{unread:?}"))?;
        // It has not ended: the result waits for its reader, with nothing in the target.
        std::thread::sleep(Duration::from_millis(500));
        ensure!(tracer.alive(), "{}", fs::read_to_string(&said)?);
        ensure!(bpf_links_of(tracer.0.id())?.is_empty());
        tracer.signal(libc::SIGTERM);
        let status = tracer.ends_within(PATIENCE)?;
        let said = fs::read_to_string(&said)?;
        ensure!(status.code() == Some(1), "{status}: {said}");
        ensure!(said.contains("nobody takes it from stdout"), "{said}");
        ensure!(workload.alive());
    }
    Ok(())
}

#[test]
fn one_signal_ends_a_capture_that_nobody_reads_and_a_second_one_at_once() -> Result<()> {
    let _machine = machine();
    for signals in [1, 2] {
        let workload = busy()?;
        let unread = Unread::pipe()?;
        let mut tracer = Guarded(
            attach(&workload, &["--interval", "10ms"])?
                .stdout(unread.stdio()?)
                .spawn()?,
        );
        probed(&workload)?;
        std::thread::sleep(Duration::from_millis(300));
        tracer.signal(libc::SIGTERM);
        not_probed(&workload)?;
        let began = Instant::now();
        if signals == 2 {
            std::thread::sleep(ANOTHER);
            tracer.signal(libc::SIGTERM);
        }
        let status = tracer.ends_within(PATIENCE)?;
        if signals == 1 {
            ensure!(status.code() == Some(1), "{status}");
        } else {
            ensure!(status.code() == Some(143), "{status}");
            ensure!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        }
    }
    Ok(())
}

#[test]
fn the_waiting_for_starts_ends_whoever_reads() -> Result<()> {
    let _machine = machine();
    let program = Variant::Plain.build(&toolchain::newest()?, "slow_start")?;
    for (signals, code) in [(1, 1), (2, 143)] {
        let unread = Unread::pipe()?;
        let mut tracer = Guarded(
            Command::new(gmpscope()?)
                .args(["attach", "--next", "5", "--interval", "10ms", "--exe"])
                .arg(&program)
                .stdin(Stdio::null())
                .stdout(unread.stdio()?)
                .stderr(Stdio::null())
                .spawn()?,
        );
        let pid = tracer.0.id();
        until("it is attached", PATIENCE, || Ok(!bpf_links_of(pid)?.is_empty()))?;
        std::thread::sleep(Duration::from_millis(500));
        tracer.signal(libc::SIGTERM);
        until("nothing is attached", PATIENCE, || {
            Ok(!tracer.alive() || bpf_links_of(pid)?.is_empty())
        })?;
        if signals == 2 {
            std::thread::sleep(ANOTHER);
            tracer.signal(libc::SIGTERM);
        }
        let status = tracer.ends_within(PATIENCE)?;
        ensure!(status.code() == Some(code), "{signals} signals: {status}");
    }
    Ok(())
}

#[test]
fn a_reader_who_comes_back_gets_everything_that_was_kept() -> Result<()> {
    let _machine = machine();
    let workload = busy()?;
    let unread = Unread::pipe()?;
    let mut tracer = Guarded(
        attach(&workload, &["-d", "1s", "--interval", "20ms", "--format", "json"])?
            .stdout(unread.stdio()?)
            .spawn()?,
    );
    probed(&workload)?;
    not_probed(&workload)?;
    let text = std::thread::spawn({
        let reader = unread.reader().try_clone()?;
        // Our copy would keep it from ending.
        drop(unread);
        move || std::io::read_to_string(fs::File::from(reader))
    });
    let status = tracer.ends_within(PATIENCE)?;
    ensure!(status.code() == Some(0), "{status}");
    let text = text
        .join()
        .map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    let text = text.trim_start_matches('.');
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(|| text.to_owned())?;
    let (result, intervals) = lines.split_last().context("nothing was written")?;
    let waits = |line: &serde_json::Value| line["runnable_to_running"]["count"].as_u64().unwrap_or(0);
    ensure!(result["capture"]["ended_by"] == "duration", "{result}");
    ensure!(
        intervals.len() >= 30 && intervals.iter().map(waits).sum::<u64>() == waits(result),
        "{text}"
    );
    Ok(())
}

#[test]
fn nobody_reads_stderr_and_the_capture_is_whole() -> Result<()> {
    let _machine = machine();
    for unread in [Unread::pipe()?, Unread::terminal()?] {
        let workload = busy()?;
        let folder = tempfile::tempdir()?;
        let result = folder.path().join("result");
        let result = result.to_str().context("a path of bytes")?;
        let options = ["-d", "1s", "-vv", "--format", "json", "-o", result];
        let mut tracer = Guarded(attach(&workload, &options)?.stderr(unread.stdio()?).spawn()?);
        let status = tracer.ends_within(PATIENCE)?;
        ensure!(status.code() == Some(0), "{status}");
        let capture: Capture = serde_json::from_str(&fs::read_to_string(result)?)?;
        ensure!(
            capture.capture.ended_by == EndedBy::Duration && capture.capture.complete,
            "{:?}",
            capture.capture
        );
    }
    Ok(())
}

#[test]
fn a_command_runs_and_ends_whoever_reads_what_is_said_of_it() -> Result<()> {
    let _machine = machine();
    let unread = Unread::pipe()?;
    let program = Variant::Plain.build(&toolchain::newest()?, "slow_start")?;
    let mut tracer = Guarded(
        Command::new(gmpscope()?)
            .args(["run", "-v", "--"])
            .arg(program)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(unread.stdio()?)
            .spawn()?,
    );
    let mut line = String::new();
    BufReader::new(tracer.0.stdout.take().context("no stdout")?).read_line(&mut line)?;
    ensure!(line.starts_with("main "), "{line:?}");
    // The capture ends at once, and its result waits for a reader.
    std::thread::sleep(Duration::from_secs(1));
    tracer.signal(libc::SIGTERM);
    let status = tracer.ends_within(PATIENCE)?;
    ensure!(status.code() == Some(0), "the command's own status: {status}");
    Ok(())
}

#[test]
fn a_recording_that_nobody_takes_holds_nothing_up() -> Result<()> {
    let _machine = machine();
    let workload = busy()?;
    let folder = tempfile::tempdir()?;
    let fifo = folder.path().join("fifo");
    let unread = Unread::named(&fifo)?;
    let (result, said) = (folder.path().join("result"), folder.path().join("said"));
    let mut tracer = Guarded(
        attach(&workload, &["-d", "1s", "--format", "json", "-o"])?
            .arg(&result)
            .arg("--record")
            .arg(&fifo)
            .stderr(fs::File::create(&said)?)
            .spawn()?,
    );
    probed(&workload)?;
    not_probed(&workload)?;
    // The result does not wait for it either.
    until("the result is there", PATIENCE, || {
        Ok(fs::read_to_string(&result).is_ok_and(|text| text.ends_with("}\n")))
    })?;
    tracer.signal(libc::SIGTERM);
    let status = tracer.ends_within(PATIENCE)?;
    let said = fs::read_to_string(&said)?;
    ensure!(
        status.code() == Some(5) && said.contains("is cut off: nobody takes the rest"),
        "{status}: {said}"
    );
    ensure!(unread.reader().as_raw_fd() >= 0);
    Ok(())
}

#[test]
fn a_full_disk_leaves_nothing_half_written() -> Result<()> {
    let _machine = machine();
    let workload = busy()?;
    let small = Small::mount()?;
    let old = small.path().join("old");
    fs::write(&old, "an old result")?;
    small.fill()?;
    let files = || -> Result<Vec<String>> {
        let entries = fs::read_dir(small.path())?.map(|entry| Ok(entry?.file_name()));
        let names: Result<Vec<_>> = entries.collect();
        let mut names: Vec<String> = names?
            .iter()
            .map(|it| it.to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok(names)
    };
    let before = files()?;
    for (name, code) in [("new", 1), ("old", 1)] {
        let run = attach(&workload, &["-d", "300ms", "--format", "json", "-o"])?
            .arg(small.path().join(name))
            .stderr(Stdio::piped())
            .output()?;
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        ensure!(
            run.status.code() == Some(code) && said.contains("No space left"),
            "{name}: {} {said}",
            run.status
        );
        ensure!(files()? == before, "{name}: {:?}", files()?);
        ensure!(fs::read(&old)? == b"an old result", "{name}");
    }
    let run = attach(&workload, &["-d", "300ms", "--record"])?
        .arg(small.path().join("x.gmps"))
        .stderr(Stdio::piped())
        .output()?;
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    ensure!(
        run.status.code() == Some(5) && said.contains("No space left"),
        "{} {said}",
        run.status
    );
    ensure!(files()? == before, "{:?}", files()?);
    Ok(())
}
