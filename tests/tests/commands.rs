//! The command line as users see it: `inspect`, `doctor`, wrong usage, closed pipes, several matches.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::environment::gmpscope;
use gmpscope_tests::run::gmpscope_with;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::{Attach, Variant, machine, toolchain};
use serde_json::Value;

/// Runs `inspect --format json` on a file or process.
fn inspected(subject: &str) -> Result<Value> {
    let outcome = gmpscope_with(["inspect", "--format", "json", subject])?;
    ensure!(outcome.code() == 0, "inspect {subject}: {}", outcome.stderr);
    Ok(serde_json::from_str(&outcome.json.unwrap_or_default())?)
}

fn mode<'v>(inspection: &'v Value, name: &str) -> Result<&'v Value> {
    let modes = inspection["modes"].as_array().context("no modes")?;
    modes
        .iter()
        .find(|mode| mode["mode"] == name)
        .with_context(|| format!("no mode {name}"))
}

#[test]
fn inspect_tells_how_a_file_was_built_and_plans_all_modes() -> Result<()> {
    for t in toolchain::selection()? {
        for (variant, build_mode, stripped) in [
            (Variant::Plain, "exe", false),
            (Variant::Stripped, "exe", true),
            (Variant::PieStripped, "pie", true),
        ] {
            let file = variant.build(&t, "mixed")?;
            let file = file.to_str().context("a path of bytes")?;
            let it = inspected(file)?;
            let what = format!("{file}: {it:#}");
            ensure!(it["binary"]["go_version"] == t.version(), "{what}");
            ensure!(it["binary"]["build_mode"] == build_mode, "{what}");
            ensure!(it["binary"]["stripped"] == stripped, "{what}");
            ensure!(it["process"].is_null(), "{what}");
            for (name, fewest) in [("passive", 0), ("sampled", 1), ("exact", 10)] {
                let plan = mode(&it, name)?;
                ensure!(plan["possible"] == true, "{name} of {what}");
                let sites = plan["sites"].as_array().map_or(0, Vec::len);
                ensure!(sites >= fewest && (fewest > 0 || sites == 0), "{name} of {what}");
                ensure!(plan["prediction"].is_null(), "a file does nothing: {what}");
            }
            let text = gmpscope_with(["inspect", file])?.json.unwrap_or_default();
            for line in text.lines().filter(|line| !line.contains(file)) {
                ensure!(line.chars().count() <= 80, "too long: {line}");
            }
        }
    }
    Ok(())
}

#[test]
fn inspect_says_which_modes_of_a_file_take_a_live_process() -> Result<()> {
    let t = toolchain::newest()?;
    let version = "devel go1.28-abcdef Mon Nov 30 10:00:00 2026";
    let case = Case::new(&t, Variant::Version(version), "mixed");
    let file = case.variant.build(&t, case.program)?;
    let file = file.to_str().context("a path of bytes")?;
    let it = inspected(file)?;
    ensure!(it["binary"]["go_version"] == version, "{it:#}");
    ensure!(it["layouts"]["source"].is_null(), "{it:#}");
    let nearest = format!("that of go{}", t.version());
    ensure!(it["layouts"]["candidates"][0] == nearest.as_str(), "{it:#}");
    let full = mode(&it, "full")?;
    ensure!(full["possible"] == false, "{full:#}");
    ensure!(full["possible_once_confirmed"] == true, "{full:#}");
    ensure!(mode(&it, "exact")?["possible"] == true, "{it:#}");
    let text = gmpscope_with(["inspect", file])?.json.unwrap_or_default();
    ensure!(text.contains("full     if live"), "{text}");

    // The memory of a process confirms it.
    let _machine = machine();
    let workload = case.start()?;
    let it = inspected(&workload.pid().to_string())?;
    ensure!(mode(&it, "full")?["possible"] == true, "{it:#}");
    let source = it["layouts"]["source"].as_str().unwrap_or_default();
    ensure!(
        source == format!("{nearest}, unproven for {version}, live invariants hold"),
        "{it:#}"
    );
    Ok(())
}

#[test]
fn inspect_foretells_what_sampling_a_process_costs() -> Result<()> {
    let _machine = machine();
    let mut workload = Case::new(&toolchain::newest()?, Variant::Stripped, "mixed").start()?;
    workload.go()?;
    let it = inspected(&workload.pid().to_string())?;
    ensure!(it["process"]["pid"] == workload.pid(), "{it:#}");
    let predicted = mode(&it, "sampled")?["prediction"]["hits_per_second"][0]
        .as_f64()
        .context("no forecast")?;
    ensure!(
        mode(&it, "passive")?["prediction"]["hits_per_second"][1] == 0.0,
        "{it:#}"
    );

    let capture = Attach::to(workload.pid())
        .mode("sampled")
        .duration(Duration::from_secs(2))
        .run()?
        .captured()?;
    let real = capture.capture.probe_hits as f64 / (capture.capture.duration_ns as f64 / 1e9);
    // The load is not even, and probes slow it down.
    ensure!(
        (0.3..3.0).contains(&(predicted / real)),
        "predicted {predicted} hits per second, measured {real}"
    );
    Ok(())
}

#[test]
fn doctor_says_that_this_machine_can_do_everything() -> Result<()> {
    let outcome = gmpscope_with(["doctor", "--format", "json"])?;
    ensure!(outcome.code() == 0, "{:?} {}", outcome.json, outcome.stderr);
    let report: Value = serde_json::from_str(&outcome.json.unwrap_or_default())?;
    let modes = report["modes"].as_array().context("no modes")?;
    // passive, sampled, exact, full.
    ensure!(
        modes.len() == 4 && modes.iter().all(|mode| mode["possible"] == true),
        "{report:#}"
    );
    let mut checks = report["checks"].as_array().into_iter().flatten();
    let held = checks.find(|check| check["name"] == "held starts");
    ensure!(held.context("not checked")?["status"] == "ok", "{report:#}");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    ensure!(report["kernel"] == release.trim(), "{report:#}");
    Ok(())
}

#[test]
fn doctor_tells_a_plain_user_what_is_missing() -> Result<()> {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    // That user may not be able to reach the binary where it is.
    let dir = tempfile::tempdir()?;
    let copy = dir.path().join("gmpscope");
    std::fs::copy(gmpscope()?, &copy)?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))?;
    let out = Command::new(&copy).arg("doctor").uid(65534).gid(65534).output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    ensure!(out.status.code() == Some(4), "{text}");
    ensure!(text.contains("CAP_BPF                    missing"), "{text}");
    ensure!(text.contains("setcap"), "{text}");
    ensure!(
        text.contains("held starts                degraded  CAP_SYS_ADMIN is not held"),
        "{text}"
    );
    ensure!(text.contains("mode exact    impossible: CAP_BPF"), "{text}");
    ensure!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    Ok(())
}

#[test]
fn wrong_usage_ends_with_2_and_prints_nothing_to_stdout() -> Result<()> {
    for args in [
        "attach",
        "attach -p 0",
        "attach -p 1 --comm x",
        "attach -p 1 --duration 10",
        "attach -p 1 --duration -1s",
        "attach -p 1 --mode nonsense",
        "attach -p 1 --by origin",
        "attach -p 1 --mode passive --slower 1ms",
        "attach -p 1 --interval 1us",
        "inspect",
        "man nonsense",
        "completions nonsense",
        "nonsense",
    ] {
        let outcome = gmpscope_with(args.split(' '))?;
        outcome.expect_failure(2, &[]).with_context(|| args.to_owned())?;
        ensure!(
            outcome.json.as_deref() == Some(""),
            "{args} printed: {:?}",
            outcome.json
        );
        ensure!(!outcome.stderr.is_empty(), "{args} said nothing");
    }
    Ok(())
}

#[test]
fn settings_come_from_the_environment_and_the_command_line_wins() -> Result<()> {
    let run = |args: &[&str]| -> Result<(Option<i32>, String)> {
        let out = Command::new(gmpscope()?)
            .args(args)
            .env("GMPSCOPE_MODE", "nonsense")
            .output()?;
        Ok((
            out.status.code(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        ))
    };
    let (code, said) = run(&["attach", "-p", "4194304"])?;
    ensure!(code == Some(2) && said.contains("nonsense"), "{said}");
    let (code, said) = run(&["attach", "-p", "4194304", "--mode", "passive"])?;
    ensure!(code == Some(3) && said.contains("4194304"), "{said}");
    Ok(())
}

#[test]
fn several_processes_that_match_are_listed() -> Result<()> {
    let case = Case::new(&toolchain::newest()?, Variant::Stripped, "idle");
    let (one, other) = (case.start()?, case.start()?);
    let exe = std::fs::read_link(format!("/proc/{}/exe", one.pid()))?;
    let outcome = gmpscope_with(["attach", "--exe", exe.to_str().context("a path of bytes")?])?;
    outcome.expect_failure(2, &[&one.pid().to_string(), &other.pid().to_string(), "-p PID"])
}

#[test]
fn a_reader_that_goes_away_is_no_error() -> Result<()> {
    for args in [&["completions", "bash"][..], &["man"], &["doctor"], &["--help"]] {
        let mut child = Command::new(gmpscope()?)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // Before it writes anything.
        drop(child.stdout.take());
        let out = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(
            out.status.code() == Some(0) && said.is_empty(),
            "{args:?}: {:?} {said}",
            out.status
        );
    }
    Ok(())
}

#[test]
fn an_endless_capture_ends_when_nobody_reads_it_any_more() -> Result<()> {
    let mut workload = Case::new(&toolchain::newest()?, Variant::Stripped, "mixed").start()?;
    workload.go()?;
    let mut child = Command::new(gmpscope()?)
        .args([
            "attach",
            "-p",
            &workload.pid().to_string(),
            "--mode",
            "passive",
            "--interval",
            "100ms",
            "-q",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    drop(child.stdout.take());
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while std::time::Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            ensure!(status.code() == Some(0), "{status}");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    anyhow::bail!("it continued writing to nobody")
}
