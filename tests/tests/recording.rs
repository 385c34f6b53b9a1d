//! Recordings: a replay of the file alone prints what the capture printed, byte for byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::environment::gmpscope;
use gmpscope_tests::run::gmpscope_with;
use gmpscope_tests::unread::Guarded;
use gmpscope_tests::{Attach, Outcome, Variant, Workload, machine, toolchain};
use tempfile::TempDir;
use tracer_user::document::capture::Capture;
use tracer_user::stream::EndedBy;

/// A folder with a Go program, which a replay deletes.
struct Place {
    folder: TempDir,
    program: PathBuf,
}

impl Place {
    fn with(program: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let built = Variant::Stripped.build(&toolchain::newest()?, program)?;
        let program = folder.path().join(program);
        fs::copy(built, &program)?;
        Ok(Self { folder, program })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    /// Runs `gmpscope replay` in another folder and without the program.
    fn replay(&self, recording: &str, options: &[&str]) -> Result<Outcome> {
        _ = fs::remove_file(&self.program);
        let elsewhere = tempfile::tempdir()?;
        let copy = elsewhere.path().join("copy.gmps");
        fs::copy(self.at(recording), &copy)?;
        let copy = copy.display().to_string();
        let mut arguments = vec!["replay", copy.as_str()];
        arguments.extend(options);
        gmpscope_with(arguments)
    }

    /// Like [`Self::replay`], but leaves the program for later captures.
    fn replay_in_place(&self, recording: &str, options: &[&str]) -> Result<Outcome> {
        let recording = self.path(recording);
        let mut arguments = vec!["replay", recording.as_str()];
        arguments.extend(options);
        gmpscope_with(arguments)
    }
}

/// Fails and shows the first difference, if there is one.
fn same(live: &str, replayed: &Outcome, what: &str) -> Result<()> {
    let again = replayed.json.as_deref().unwrap_or_default();
    let at = live
        .bytes()
        .zip(again.bytes())
        .take_while(|(live, again)| live == again)
        .count();
    let around = |text: &str| {
        let bytes = text.as_bytes().get(at.saturating_sub(80)..).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(..200).unwrap_or(bytes)).into_owned()
    };
    ensure!(
        live == again,
        "{what}: {} bytes live, {} replayed; live\n{}\nreplayed\n{}\nit said:\n{}",
        live.len(),
        again.len(),
        around(live),
        around(again),
        replayed.stderr
    );
    Ok(())
}

fn captured(text: &str) -> Result<Capture> {
    serde_json::from_str(text.lines().last().context("nothing was written")?)
        .context("the last line is not a capture")
}

/// Runs gmpscope to its end and discards its stdout: these tests have it write results to files.
fn run(arguments: &[&str]) -> Result<i32> {
    let status = Command::new(gmpscope()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    status.code().context("a signal ended it")
}

#[test]
fn each_mode_is_replayed_to_the_byte() -> Result<()> {
    let _machine = machine();
    let modes = ["passive", "sampled", "exact", "full"].map(|mode| (mode, None));
    for (mode, more) in modes.into_iter().chain([("full", Some("--stacks"))]) {
        let place = Place::with("mixed")?;
        let mut workload = Workload::start(&place.program, 2, &[])?;
        workload.go()?;
        let mut attach = Attach::to(workload.pid())
            .mode(mode)
            .duration(Duration::from_secs(2))
            .arg("--record")
            .arg(&place.path("x.gmps"));
        if let Some(more) = more {
            attach = attach.arg(more);
        }
        let outcome = attach.run()?;
        drop(workload);
        let live = outcome.json.clone().context("no JSON")?;
        let code = outcome.code();
        let capture = outcome.capture.context("no capture")?;
        ensure!(capture.capture.events > 1_000, "{mode}: {:?}", capture.capture);
        ensure!(
            mode != "sampled"
                || capture
                    .by_creation_site
                    .keys()
                    .any(|name| name.raw().starts_with("main.")),
            "no names: {:?}",
            capture.by_creation_site.keys()
        );
        ensure!(
            more.is_none() || live.contains("mixed/main.go:"),
            "no lines of the program: {live}"
        );
        let replayed = place.replay("x.gmps", &["--format", "json"])?;
        same(&live, &replayed, mode)?;
        ensure!(replayed.code() == code, "{mode}: {} and {code}", replayed.code());
    }
    Ok(())
}

#[test]
fn intervals_slow_waits_and_splits_are_replayed_as_they_were_reported() -> Result<()> {
    let _machine = machine();
    for (mode, by) in [
        ("sampled", "creation-site"),
        ("exact", "origin"),
        ("full", "origin"),
    ] {
        let place = Place::with("mixed")?;
        let mut workload = Workload::start(&place.program, 2, &[])?;
        workload.go()?;
        for format in ["text", "json"] {
            let (pid, live) = (workload.pid().to_string(), place.path("live"));
            let formatting = ["--format", format, "--interval", "250ms", "--by", by];
            let mut arguments = vec!["attach", "-p", &pid, "-m", mode, "-d", "2s", "--slower", "200us"];
            let recording = place.path(format);
            arguments.extend(["-o", &live, "--record", &recording]);
            arguments.extend(formatting);
            let code = run(&arguments)?;
            ensure!(code == 0 || code == 5, "{mode} {format}: {code}");
            let live = fs::read_to_string(place.at("live"))?;
            ensure!(live.lines().count() >= 8, "{mode} {format}: {live}");
            let replayed = place.replay_in_place(format, &formatting)?;
            same(&live, &replayed, &format!("{mode} {format}"))?;
        }
        // With another interval the same waits are divided differently.
        let whole = captured(
            &place
                .replay("json", &["--format", "json"])?
                .json
                .unwrap_or_default(),
        )?;
        let other = place.replay("json", &["--format", "json", "--interval", "400ms"])?;
        let lines: Vec<serde_json::Value> = other
            .json
            .unwrap_or_default()
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        let intervals = lines
            .iter()
            .filter(|line| line["schema"] == "gmpscope.interval/1");
        let counts = intervals
            .clone()
            .filter_map(|line| line["runnable_to_running"]["count"].as_u64());
        ensure!(
            (5..=7).contains(&intervals.count()) && counts.sum::<u64>() == whole.capture.events,
            "{mode}: {lines:?}"
        );
    }
    Ok(())
}

#[test]
fn starts_are_replayed_to_the_byte() -> Result<()> {
    let _machine = machine();
    let place = Place::with("slow_start")?;
    let (live, recording) = (place.path("live"), place.path("x.gmps"));
    let program = place.program.display().to_string();
    for options in [
        &[][..],
        &["--format", "json"],
        &["--repeat", "4"],
        &["--repeat", "4", "--format", "json"],
        &["--repeat", "4", "--interval", "50ms"],
    ] {
        let mut arguments = vec!["run", "-o", &live, "--record", &recording];
        arguments.extend(options);
        arguments.extend(["--", program.as_str()]);
        ensure!(run(&arguments)? == 0, "{options:?}");
        let formatting: Vec<&str> = match options {
            ["--repeat", _, formatting @ ..] => formatting.to_vec(),
            formatting => formatting.to_vec(),
        };
        let live = fs::read_to_string(&live)?;
        ensure!(live.contains("schedinit"), "{options:?}: {live}");
        same(
            &live,
            &place.replay_in_place("x.gmps", &formatting)?,
            &format!("run {options:?}"),
        )?;
    }
    // Starts made by others.
    let child = Command::new(gmpscope()?)
        .args(["attach", "--exe", &program, "--next", "2", "--format", "json"])
        .args(["-d", "60s", "-o", &live, "--record", &recording])
        .stderr(Stdio::piped())
        .spawn()?;
    let mut tracer = Guarded(child);
    wait_attached(&mut tracer)?;
    for _ in 0..2 {
        Command::new(&program)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
    }
    ensure!(tracer.0.wait()?.success(), "attach --next");
    let live = fs::read_to_string(&live)?;
    ensure!(captured(&live)?.init.is_some_and(|init| init.runs == 2), "{live}");
    same(&live, &place.replay("x.gmps", &["--format", "json"])?, "next")
}

/// Waits until gmpscope says that it is attached.
fn wait_attached(tracer: &mut Guarded) -> Result<()> {
    use std::io::BufRead;
    let stderr = tracer.0.stderr.as_mut().context("no stderr")?;
    let mut line = String::new();
    std::io::BufReader::new(stderr).read_line(&mut line)?;
    ensure!(line.starts_with("attached:"), "it said {line}");
    Ok(())
}

#[test]
fn a_start_with_the_latencies_behind_it_is_replayed_to_the_byte() -> Result<()> {
    let _machine = machine();
    let place = Place::with("mixed")?;
    let (live, recording) = (place.path("live"), place.path("x.gmps"));
    let program = place.program.display().to_string();
    for (mode, format) in [("exact", "json"), ("exact", "text"), ("full", "json")] {
        run(&[
            "run", "--mode", mode, "--format", format, "-o", &live, "--record", &recording, "--", &program,
            "-for", "6s",
        ])?;
        let live = fs::read_to_string(&live)?;
        ensure!(live.contains("schedinit") && live.contains("unblocked"), "{live}");
        same(
            &live,
            &place.replay_in_place("x.gmps", &["--format", format])?,
            format,
        )?;
    }
    Ok(())
}

#[test]
fn what_was_recorded_when_gmpscope_was_killed_is_shown() -> Result<()> {
    let _machine = machine();
    let place = Place::with("mixed")?;
    let mut workload = Workload::start(&place.program, 2, &[])?;
    workload.go()?;
    let tracer = Attach::to(workload.pid())
        .mode("sampled")
        .arg("--record")
        .arg(&place.path("x.gmps"))
        .start()?;
    std::thread::sleep(Duration::from_secs(4));
    tracer.signal(libc::SIGKILL);
    drop(tracer);
    ensure!(workload.alive(), "the program must run on");
    drop(workload);
    let replayed = place.replay("x.gmps", &["--format", "json"])?;
    replayed.expect_failure(5, &["ends in the middle of its capture"])?;
    let capture = captured(replayed.json.as_deref().unwrap_or_default())?;
    let info = &capture.capture;
    ensure!(
        info.ended_by == EndedBy::RecordingCut && !info.complete && info.events > 1_000,
        "{info:?}"
    );
    // All but about the last second, and some time for the kill.
    ensure!(info.duration_ns > 1_500_000_000, "{info:?}");
    ensure!(
        capture
            .by_creation_site
            .keys()
            .any(|name| name.raw().starts_with("main.")),
        "names are written as they are found: {:?}",
        capture.by_creation_site.keys()
    );

    // Truncated as by a full disk, and damaged at the same place.
    let whole = fs::read(place.at("x.gmps"))?;
    let most = whole.len() * 2 / 3;
    fs::write(place.at("cut.gmps"), whole.get(..most).unwrap_or_default())?;
    let mut bad = whole.clone();
    *bad.get_mut(most).context("too short")? ^= 4;
    fs::write(place.at("bad.gmps"), bad)?;
    for (file, why) in [("cut.gmps", "ends within"), ("bad.gmps", "checksum")] {
        let replayed = place.replay(file, &["--format", "json"])?;
        replayed.expect_failure(5, &["ends in the middle", why])?;
        let less = captured(replayed.json.as_deref().unwrap_or_default())?;
        ensure!(
            (1..info.events).contains(&less.capture.events),
            "{file}: {:?}",
            less.capture
        );
    }
    Ok(())
}

#[test]
fn a_recording_that_cannot_go_on_does_not_end_the_capture() -> Result<()> {
    let _machine = machine();
    let place = Place::with("mixed")?;
    let mut workload = Workload::start(&place.program, 2, &[])?;
    workload.go()?;
    let outcome = Attach::to(workload.pid())
        .mode("sampled")
        .duration(Duration::from_secs(2))
        .arg("--record")
        .arg("/dev/full")
        .run()?;
    outcome.expect_failure(5, &["recording /dev/full has ended", "No space left"])?;
    let capture = outcome.capture.context("no capture")?;
    ensure!(
        capture.capture.duration_ns > 1_900_000_000,
        "{:?}",
        capture.capture
    );
    ensure!(
        capture
            .capture
            .notes
            .iter()
            .any(|note| note.raw().contains("/dev/full has ended")),
        "{:?}",
        capture.capture.notes
    );
    // A recording that never began leaves no new file, and does not touch an existing one.
    fs::write(place.at("old.gmps"), "old")?;
    for name in ["old.gmps", "new.gmps"] {
        let refused = Command::new(gmpscope()?)
            .args(["attach", "--comm", "no-such-process", "--record"])
            .arg(place.at(name))
            .output()?;
        ensure!(refused.status.code() == Some(3), "{refused:?}");
    }
    ensure!(
        fs::read(place.at("old.gmps"))? == b"old",
        "the old recording is gone"
    );
    ensure!(!place.at("new.gmps").exists(), "an empty file is left");
    Ok(())
}

#[test]
fn a_recording_goes_through_pipes() -> Result<()> {
    let _machine = machine();
    let place = Place::with("mixed")?;
    let mut workload = Workload::start(&place.program, 2, &[])?;
    workload.go()?;
    let (pid, live) = (workload.pid().to_string(), place.path("live"));
    let mut tracer = Guarded(
        Command::new(gmpscope()?)
            .args([
                "attach", "-p", &pid, "-d", "1s", "-m", "exact", "-o", &live, "--record", "-",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?,
    );
    let replayed = Command::new(gmpscope()?)
        .args(["replay", "-"])
        .stdin(tracer.0.stdout.take().context("no pipe")?)
        .output()?;
    ensure!(
        tracer.0.wait()?.success() && replayed.status.success(),
        "{replayed:?}"
    );
    let live = fs::read_to_string(&live)?;
    ensure!(live.as_bytes() == replayed.stdout, "{live}\n{replayed:?}");
    let mixed = gmpscope_with(["attach", "-p", &pid, "--record", "-"])?;
    mixed.expect_failure(2, &["-o"])
}

#[test]
fn what_is_no_recording_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str, bytes: &[u8]| -> Result<String> {
        let path: PathBuf = Path::new(folder.path()).join(name);
        fs::write(&path, bytes)?;
        Ok(path.display().to_string())
    };
    let later = b"\x89GMPS\r\n\x1a\x09\0\0\0";
    for (path, words) in [
        (file("empty", b"")?, &["is not a recording", "--record"][..]),
        (file("text", b"mode sampled, 2 s")?, &["is not a recording"]),
        (gmpscope()?.display().to_string(), &["is not a recording"]),
        (file("later", later)?, &["version 9", "reads version 1"]),
        (
            file("nothing", b"\x89GMPS\r\n\x1a\x01\0\0\0")?,
            &["nothing that could be shown"],
        ),
        (
            file("x", b"")?.replace("/x", "/missing"),
            &["cannot be opened", "No such file"],
        ),
        (folder.path().display().to_string(), &["cannot be read"]),
    ] {
        gmpscope_with(["replay", &path])?.expect_failure(1, words)?;
    }
    Ok(())
}
