//! Many processes, many starts, a program that is expensive to watch, and a daemon that is killed: nothing leaks,
//! nothing is missed, and no target pays more than its budget.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use gmpscope_tests::crowd::{Crowd, REPORTED};
use gmpscope_tests::daemon::Held;
use gmpscope_tests::exposition::Exposition;
use gmpscope_tests::host::watchdogs_of;
use gmpscope_tests::kernel::{Runs, bpf_objects_of, patched_text, wait_until_gone};
use gmpscope_tests::{Daemon, Variant, Workload, environment, machine, toolchain};
use tempfile::TempDir;

/// Copies a program to a path that no other process runs.
fn copy(workload: &str) -> Result<(TempDir, PathBuf)> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join(workload);
    std::fs::copy(Variant::Stripped.build(&toolchain::newest()?, workload)?, &path)?;
    Ok((dir, path))
}

fn rule(exe: &Path, tier: &str) -> String {
    format!("[[target]]\nexe = \"{}\"\ntier = \"{tier}\"\n", exe.display())
}

/// In how many periods the memory is compared.
const PERIODS: u32 = 2;

#[test]
fn processes_that_come_and_go() -> Result<()> {
    let _one = machine();
    let (live, starts, time) = match environment::full() {
        true => (300, 40, Duration::from_secs(30)),
        false => (60, 10, Duration::from_secs(10)),
    };
    let mut crowd = Crowd::of("idle", live, &[])?;
    let daemon = Daemon::start(&crowd.rule("passive"))?;
    // First until it has allocated what it needs at most, then twice to see whether it still grows.
    crowd.pass(&daemon, starts, time / 4)?;
    let mut held = vec![crowd.wait_until_alone(&daemon)?];
    for _ in 0..PERIODS {
        let passed = crowd.pass(&daemon, starts, time / PERIODS)?;
        assert_eq!(
            passed.missed,
            BTreeSet::new(),
            "lived {REPORTED:?}, and never reported"
        );
        held.push(crowd.wait_until_alone(&daemon)?);
    }
    println!("{held:?}");
    let [before, .., after] = held.as_slice() else {
        bail!("nothing was measured");
    };
    assert_eq!(after.descriptors, before.descriptors);
    // Threads that examine and read processes end after 10 s without work; a thousand starts must not leave any.
    ensure!(
        after.threads <= before.threads + 4,
        "{} threads, before {}",
        after.threads,
        before.threads
    );
    // Whatever starts leave behind, they leave in each period. What is allocated once, for the most that ever happened at
    // a time, is in one of them.
    let growth = |two: &[Held]| match two {
        [first, second] => second.private_bytes.saturating_sub(first.private_bytes),
        _ => 0,
    };
    let least = held.windows(2).map(growth).min().unwrap_or_default();
    let whole = after.private_bytes.saturating_sub(before.private_bytes);
    let sizes: Vec<u64> = held.iter().map(|held| held.private_bytes >> 10).collect();
    ensure!(
        least <= 1 << 20 && whole <= 4 << 20,
        "while some {} programs started in each period, its memory grew: {sizes:?} KiB",
        u64::from(starts) * time.as_secs() / u64::from(PERIODS)
    );
    assert_eq!(crowd.count_ended(), 0, "some that were watched have ended");
    Ok(())
}

/// How many targets are probed when the daemon is killed.
const PROBED: usize = 20;

#[test]
fn killed_it_leaves_nothing_and_the_targets_run_on() -> Result<()> {
    let _one = machine();
    let (_dir, exe) = copy("checksum")?;
    let ample = "[budget]\ntarget = \"100%\"\ntarget_floor = \"1s\"\nhost = \"100%\"\n";
    let mut daemon = Daemon::start(&format!("{ample}{}", rule(&exe, "sampled")))?;
    let mut targets = Vec::new();
    for _ in 0..PROBED {
        let mut workload = Workload::start(&exe, 1, &["-pause", "5ms"])?;
        workload.go()?;
        targets.push(workload);
    }
    for target in &targets {
        daemon.wait_for_tier(target.pid(), "sampled")?;
        ensure!(
            !patched_text(target.pid())?.is_empty(),
            "there is no probe in the text"
        );
    }
    let ours = bpf_objects_of(daemon.pid())?;
    ensure!(
        ours.iter().filter(|(kind, _)| *kind == "link").count() >= PROBED,
        "fewer links than targets: {ours:?}"
    );
    daemon.signal(libc::SIGKILL);
    daemon.wait(Duration::from_secs(20))?;
    wait_until_gone(&ours, Duration::from_secs(20))?;
    let mut earlier = Vec::new();
    for target in &mut targets {
        ensure!(
            patched_text(target.pid())?.is_empty(),
            "there are breakpoints after the end"
        );
        earlier.push(target.count()?.iterations);
    }
    std::thread::sleep(Duration::from_millis(500));
    for (target, earlier) in targets.iter_mut().zip(earlier) {
        let now = target.count()?.iterations;
        ensure!(
            now > earlier,
            "process {} computes nothing any more",
            target.pid()
        );
        // The program ends by itself if a block is wrong.
        target.park()?;
        ensure!(target.alive(), "process {} ended", target.pid());
    }
    Ok(())
}

#[test]
fn starts_that_were_not_held_are_reported_and_binaries_no_longer_timed_are_closed() -> Result<()> {
    let _one = machine();
    let ((_dir, exe), (_other_dir, other)) = (copy("hello")?, copy("hello")?);
    let shown = exe.display().to_string();
    let other = other.display().to_string();
    let daemon = Daemon::start(&format!("init.include = [{shown:?}, {other:?}]\n"))?;
    let completed_of = |page: &Exposition, exe: &str| {
        let labels = [("exe", exe), ("result", "completed")];
        page.find("gmpscope_starts_total", &labels)
            .next()
            .map(|sample| sample.value)
    };
    let completed = |page: &Exposition| completed_of(page, &shown);
    daemon.wait_for("that starts of both are timed", |page| {
        completed(page).and(completed_of(page, &other))
    })?;
    // Without a watchdog no start is held, and it is unknown how many processes start meanwhile. After the fourth kill
    // the watchdog is not replaced any more.
    let mut killed = BTreeSet::new();
    for times in 1..=4 {
        let watchdog = daemon.wait_for("a watchdog", |_| {
            let now = watchdogs_of(daemon.pid()).ok()?;
            now.into_iter().find(|pid| !killed.contains(pid))
        })?;
        killed.insert(watchdog);
        send(watchdog, libc::SIGKILL);
        daemon.wait_for("that the gap is counted for both", |page| {
            let gaps = page.sum("gmpscope_errors_total", &[("kind", "starts_not_held")]);
            (gaps >= 2.0 * f64::from(times)).then_some(())
        })?;
        if times < 4 {
            let before = completed(&daemon.metrics()?).unwrap_or_default();
            ensure!(Command::new(&exe).stdout(Stdio::null()).status()?.success());
            daemon.wait_for("a start that is held again", |page| {
                (completed(page)? > before).then_some(())
            })?;
        }
    }
    ensure!(
        daemon.log().contains("killed again and again"),
        "{}",
        daemon.log()
    );
    let open = || -> Result<usize> {
        let mut open = 0;
        for entry in std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()))? {
            // A descriptor that is closed meanwhile is not open.
            let leads_to = std::fs::read_link(entry?.path()).unwrap_or_default();
            open += usize::from(leads_to == exe);
        }
        Ok(open)
    };
    ensure!(
        open()? > 0,
        "its file is not open while it is timed: this proves nothing"
    );
    // The other binary is still timed, so there is still a gate.
    daemon.configure(&format!("init.include = [{other:?}]\n"))?;
    daemon.signal(libc::SIGHUP);
    daemon.wait_for("that its file is closed", |_| (open().ok()? == 0).then_some(()))?;
    Ok(())
}

fn send(pid: u32, signal: i32) {
    // SAFETY: takes two numbers.
    unsafe { libc::kill(pid as i32, signal) };
}

/// The largest share of its own CPU time that the watched program may be charged: 0.5 % is the budget, the rest is for
/// errors of the estimates.
const CHARGED: f64 = 0.007;

#[test]
fn a_burst_costs_no_more_than_was_agreed_to() -> Result<()> {
    let _one = machine();
    let (_dir, exe) = copy("pingpong")?;
    let daemon = Daemon::start(&rule(&exe, "sampled"))?;
    let mut target = Workload::start(&exe, 2, &[])?;
    // As long as it does nothing, probing it costs nothing.
    daemon.wait_for_tier(target.pid(), "sampled")?;
    let runs = Runs::count()?;
    let exe = exe.display().to_string();
    let labels = [("exe", exe.as_str())];
    let counted = || -> Result<(f64, f64)> {
        let page = daemon.metrics()?;
        let sum = |name: &str| page.sum(name, &labels);
        Ok((
            sum("gmpscope_probe_hits_total"),
            sum("gmpscope_probe_cost_seconds_total"),
        ))
    };
    target.go()?;
    // The configuration has windows of 500 ms: two may pass until the burst is seen.
    std::thread::sleep(Duration::from_millis(1200));
    let before = (target.count()?, runs.of(daemon.pid())?, counted()?);
    let (_, cost) = before.2;
    ensure!(cost > 0.0, "the burst was not even seen");
    let hit = cost / before.2.0;
    std::thread::sleep(Duration::from_secs(4));
    let after = (target.count()?, runs.of(daemon.pid())?, counted()?);
    let cpu = (after.0.cpu_ns - before.0.cpu_ns) as f64 / 1e9;
    let charged = (after.2.1 - before.2.1) / cpu;
    let kernels = (after.1 - before.1) as f64 * hit / cpu;
    ensure!(
        charged <= CHARGED && kernels <= CHARGED,
        "of its CPU time it was charged {:.3} % as the daemon reports, {:.3} % as the kernel counts ({} runs of {} ns)",
        charged * 100.0,
        kernels * 100.0,
        after.1 - before.1,
        hit * 1e9
    );
    // It is still watched, and the page says why not more closely.
    daemon.wait_for_tier(target.pid(), "passive")?;
    let why = daemon.get("/targets")?;
    ensure!(why.text()?.contains("hits in a window"), "{}", why.text()?);
    let steps = daemon.metrics()?;
    let down = steps.sum(
        "gmpscope_tier_steps_total",
        &[("exe", &exe), ("from", "sampled"), ("to", "passive")],
    );
    ensure!(down >= 1.0, "the step down is not counted");
    Ok(())
}
