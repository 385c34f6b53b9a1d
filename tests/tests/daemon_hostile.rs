//! Wrong settings, full or unread logs, silent file systems and hidden processes: the daemon keeps running.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gmpscope_tests::daemon::SEEN;
use gmpscope_tests::exposition::Exposition;
use gmpscope_tests::kernel::bpf_links_of;
use gmpscope_tests::mounted::Mounted;
use gmpscope_tests::{Daemon, Variant, Workload, machine, toolchain};
use tempfile::TempDir;

/// A budget that any target fits: other tests check the budget.
const AMPLE: &str = "[budget]\ntarget = \"100%\"\ntarget_floor = \"1s\"\nhost = \"100%\"\n";

/// Starts a parked program in a folder of its own, and makes a rule that names it.
fn target(workload: &str, tier: &str) -> Result<(TempDir, Workload, String)> {
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let path = dir.path().join(workload);
    fs::copy(Variant::Stripped.build(&toolchain::newest()?, workload)?, &path)?;
    let workload = Workload::start(&path, 2, &[])?;
    let rule = format!("[[target]]\nexe = \"{}\"\ntier = \"{tier}\"\n", path.display());
    Ok((dir, workload, rule))
}

#[test]
fn a_storm_of_reloads() -> Result<()> {
    let _one = machine();
    let (_dir, mut workload, rule) = target("mixed", "sampled")?;
    let rule = format!("{AMPLE}{rule}");
    let mut daemon = Daemon::start(&rule)?;
    daemon.wait_for_tier(workload.pid(), "sampled")?;
    workload.go()?;
    let links = bpf_links_of(daemon.pid())?;
    let before = daemon.holds()?;
    for n in 0..60 {
        match n % 3 {
            0 => daemon.configure(&format!("{rule}[metrics]\ncreation_sites = {}\n", 5 + n))?,
            1 => daemon.configure(&format!("{rule}[metrics]\ncreation_site = {n}\n"))?,
            _ => daemon.replace_config(&b"[tier\xff"[..1 + n % 6])?,
        }
        daemon.signal(libc::SIGHUP);
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.configure(&format!("{rule}[metrics]\ncreation_sites = 7\n"))?;
    daemon.signal(libc::SIGHUP);
    let health =
        || -> Result<serde_json::Value> { Ok(serde_json::from_str(daemon.get("/health/config")?.text()?)?) };
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let health = health()?;
        let set = health["valid"].to_string().contains("metrics.creation_sites");
        if health["ok"] == true && set {
            break;
        }
        ensure!(
            Instant::now() < end,
            "the last configuration is not in force: {health}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    // The rule for this program was the same in every configuration that was in force.
    ensure!(
        bpf_links_of(daemon.pid())? == links,
        "its probe was taken away meanwhile:\n{}",
        daemon.log()
    );
    let page = daemon.metrics()?;
    for result in ["ok", "error"] {
        let n = page.sum("gmpscope_config_reloads_total", &[("result", result)]);
        ensure!(n > 0.0, "no reload with result {result}");
    }
    let after = daemon.holds()?;
    assert_eq!(
        after.open(),
        before.open(),
        "{:?}\n{:?}",
        before.descriptors,
        after.descriptors
    );
    // Each reload is one line of JSON.
    let said = daemon.log();
    let lines = said.lines().filter(|line| line.starts_with('{'));
    let reloads = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let reloads: Vec<_> = reloads
        .filter(|line| line.to_string().contains("sha256"))
        .collect();
    ensure!(
        reloads.len() > 5,
        "{} lines about reloads:\n{said}",
        reloads.len()
    );
    ensure!(daemon.alive(), "{}", daemon.log());
    Ok(())
}

#[test]
fn no_room_for_logs() -> Result<()> {
    let _one = machine();
    let (_dir, workload, rule) = target("mixed", "passive")?;
    let mut daemon = Daemon::start_with(&rule, |command| {
        command.stderr(File::options().write(true).open("/dev/full")?);
        Ok(())
    })?;
    daemon.wait_for_tier(workload.pid(), "passive")?;
    // Each of these would be logged.
    for n in 0..5 {
        daemon.configure(&format!("{rule}[metrics]\ncreation_sites = {}\n", 5 + n))?;
        daemon.signal(libc::SIGHUP);
        std::thread::sleep(Duration::from_millis(100));
    }
    daemon.wait_for("a reload", |page| {
        (page.sum("gmpscope_config_reloads_total", &[("result", "ok")]) > 0.0).then_some(())
    })?;
    let (status, _) = daemon.stop()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[test]
fn nobody_reads_the_log() -> Result<()> {
    let _one = machine();
    let (_dir, workload, rule) = target("mixed", "passive")?;
    let mut daemon = Daemon::start_with(&rule, |command| {
        command.arg("-v").stderr(Stdio::piped());
        Ok(())
    })?;
    let pipe = daemon.take_stderr().context("no pipe")?;
    daemon.wait_for_tier(workload.pid(), "passive")?;
    // Each mistake is reported: soon more than the pipe and the queue before it hold.
    let mistakes: String = (0..500)
        .map(|n| format!("{}{n} = 1\n", "x".repeat(100)))
        .collect();
    let dropped = [("kind", "log_lines_dropped")];
    let end = Instant::now() + SEEN;
    while daemon.metrics()?.sum("gmpscope_errors_total", &dropped) == 0.0 {
        ensure!(Instant::now() < end, "no line was dropped");
        daemon.replace_config(mistakes.as_bytes())?;
        daemon.signal(libc::SIGHUP);
        std::thread::sleep(Duration::from_millis(50));
    }
    let reloads = |page: &Exposition| page.sum("gmpscope_config_reloads_total", &[("result", "error")]);
    daemon.configure(&rule)?;
    daemon.signal(libc::SIGHUP);
    let failed = daemon.wait_for("a good reload after the bad ones", |page| {
        (page.sum("gmpscope_config_reloads_total", &[("result", "ok")]) > 0.0).then(|| reloads(page))
    })?;
    ensure!(failed > 0.0);
    ensure!(daemon.get("/healthz")?.status == 200);
    // A late reader gets the number of lines that are missing.
    let reader = std::thread::spawn(move || -> Result<String> {
        let (mut pipe, mut text) = (pipe, String::new());
        pipe.read_to_string(&mut text)?;
        Ok(text)
    });
    let (status, took) = daemon.stop()?;
    ensure!(status.success(), "{status}");
    ensure!(took < Duration::from_secs(3), "{took:?}");
    let text = reader
        .join()
        .map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    ensure!(
        text.contains("lines of this log were dropped"),
        "{} bytes",
        text.len()
    );
    Ok(())
}

#[test]
fn a_file_system_that_does_not_answer() -> Result<()> {
    let _one = machine();
    let go = toolchain::newest()?;
    let mut mounted = Mounted::with(&Variant::Stripped.build(&go, "idle")?)?;
    let silent: Vec<Workload> = (0..3)
        .map(|_| Workload::start(&mounted.program(), 2, &[]))
        .collect::<Result<_>>()?;
    mounted.fall_silent()?;
    let (_dir, workload, rule) = target("mixed", "passive")?;
    let rules = format!(
        "{rule}[[target]]\nexe = \"{}\"\ntier = \"passive\"\n",
        mounted.program().display()
    );
    let mut daemon = Daemon::start(&rules)?;
    // Its programs take all examinations that may be made at once; then others have their turn.
    daemon.wait_for_tier(workload.pid(), "passive")?;
    daemon.wait_for("a report of the file system", |page| {
        (page.sum("gmpscope_errors_total", &[("kind", "file_system_silent")]) > 0.0).then_some(())
    })?;
    let (_other_dir, other, other_rule) = target("idle", "passive")?;
    daemon.configure(&format!("{rules}{other_rule}"))?;
    daemon.wait_for_tier(other.pid(), "passive")?;
    for workload in &silent {
        let pid = workload.pid().to_string();
        ensure!(
            daemon
                .metrics()?
                .find("gmpscope_tier", &[("pid", &pid)])
                .next()
                .is_none()
        );
    }
    mounted.answer();
    for workload in &silent {
        daemon.wait_for_tier(workload.pid(), "passive")?;
    }
    mounted.fall_silent()?;
    let (status, took) = daemon.stop()?;
    ensure!(
        status.success() && took < Duration::from_secs(3),
        "{status}, {took:?}"
    );
    Ok(())
}

/// Options of setpriv for a user that may examine processes, but not files of others.
const AS_NOBODY: [&str; 6] = [
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--bounding-set=-all,+bpf,+perfmon,+sys_ptrace",
    "--inh-caps=-all,+bpf,+perfmon,+sys_ptrace",
    "--ambient-caps=-all,+bpf,+perfmon,+sys_ptrace",
];

#[test]
fn processes_that_are_hidden() -> Result<()> {
    let _one = machine();
    let (dir, workload, _) = target("mixed", "passive")?;
    let closed = dir.path().join("closed");
    fs::copy(dir.path().join("mixed"), &closed)?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700))?;
    let closed = Workload::start(&closed, 2, &[])?;
    let log = dir.path().join("stderr");
    let rule = format!(
        "[[target]]\nexe = \"{}/*\"\ntier = \"passive\"\n",
        dir.path().display()
    );
    let mut daemon = Daemon::start_with(&rule, |command| {
        // That user may not be able to reach the binary where it is.
        let binary = dir.path().join("gmpscope");
        fs::copy(command.get_program(), &binary)?;
        let mut hidden = Command::new("unshare");
        hidden
            .args(["--mount", "sh", "-c"])
            .arg("mount -t proc -o hidepid=invisible proc /proc && exec setpriv \"$@\"")
            .arg("sh")
            .args(AS_NOBODY)
            .arg(&binary)
            .args(command.get_args())
            .envs(
                command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        *command = hidden;
        Ok(())
    })
    .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    daemon.wait_for_tier(workload.pid(), "passive")?;
    let pid = closed.pid().to_string();
    let labels = [("pid", pid.as_str()), ("tier", "passive")];
    assert_eq!(daemon.metrics()?.sum("gmpscope_tier", &labels), 0.0);
    // It says which process it could not examine, and which capability that needs.
    let said = || -> Result<String> {
        let log = fs::read_to_string(&log)?;
        Ok(log + daemon.get("/targets")?.text()?)
    };
    ensure!(said()?.contains("CAP_DAC_READ_SEARCH"), "{}", said()?);
    ensure!(daemon.alive(), "{}", fs::read_to_string(&log)?);
    Ok(())
}
