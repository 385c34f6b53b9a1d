//! Many processes, many starts, a program that is dear to watch, and a daemon that is killed: nothing leaks, nothing is
//! missed, and no target pays more than was agreed to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gmpscope_tests::daemon::Held;
use gmpscope_tests::kernel::{Runs, bpf_objects_of, patched_text, wait_until_gone};
use gmpscope_tests::{Daemon, Variant, Workload, environment, machine, toolchain};
use tempfile::TempDir;

/// A program under a name that no other process has.
fn copy(workload: &str) -> Result<(TempDir, PathBuf)> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join(workload);
    std::fs::copy(Variant::Stripped.build(&toolchain::newest()?, workload)?, &path)?;
    Ok((dir, path))
}

fn rule(exe: &Path, tier: &str) -> String {
    format!("[[target]]\nexe = \"{}\"\ntier = \"{tier}\"\n", exe.display())
}

/// Processes that end when this is dropped.
struct Processes(Vec<Child>);

impl Processes {
    fn start(exe: &Path, arguments: &[&str]) -> Result<Child> {
        Ok(Command::new(exe)
            .args(arguments)
            .env("GOMAXPROCS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?)
    }

    /// Forgets those that have ended.
    fn reap(&mut self) {
        self.0
            .retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            _ = child.kill();
        }
        for child in &mut self.0 {
            _ = child.wait();
        }
    }
}

/// PIDs of processes that are watched now.
fn watched(daemon: &Daemon, exe: &Path) -> Result<BTreeSet<u32>> {
    let exe = exe.display().to_string();
    let page = daemon.metrics()?;
    let labels = [("exe", exe.as_str()), ("tier", "passive")];
    let found = page.find("gmpscope_tier", &labels);
    let pids = found.filter(|sample| sample.value == 1.0);
    Ok(pids
        .filter_map(|sample| sample.labels.get("pid")?.parse().ok())
        .collect())
}

#[test]
fn processes_that_come_and_go() -> Result<()> {
    let _one = machine();
    let (live, starts, time) = match environment::full() {
        true => (300, 20, Duration::from_secs(60)),
        false => (60, 10, Duration::from_secs(15)),
    };
    /// How long one that is started meanwhile lives, and how long one must have lived to be told of.
    const LIFE: (&str, Duration) = ("2500ms", Duration::from_secs(2));
    let (_dir, exe) = copy("idle")?;
    let daemon = Daemon::start(&rule(&exe, "passive"))?;
    let mut standing = Processes(Vec::new());
    for _ in 0..live {
        standing.0.push(Processes::start(&exe, &[])?);
    }
    daemon.wait_for("all that stand", |_| {
        (watched(&daemon, &exe).ok()?.len() >= live).then_some(())
    })?;
    let round = |time: Duration| -> Result<BTreeSet<u32>> {
        let mut passing = Processes(Vec::new());
        let (mut started, mut seen) = (BTreeMap::new(), BTreeSet::new());
        let began = Instant::now();
        let mut looked = Instant::now();
        let mut next = 0;
        while began.elapsed() < time + LIFE.1 {
            if began.elapsed() < time && began.elapsed() >= Duration::from_secs(1) * next / starts {
                let child = Processes::start(&exe, &["-for", LIFE.0])?;
                started.insert(child.id(), Instant::now());
                passing.0.push(child);
                next += 1;
            }
            passing.reap();
            if looked.elapsed() >= Duration::from_millis(500) {
                looked = Instant::now();
                seen.extend(watched(&daemon, &exe)?);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        seen.extend(watched(&daemon, &exe)?);
        Ok(started.into_keys().filter(|pid| !seen.contains(pid)).collect())
    };
    // Once to have allocated what it needs at most, then to see whether it needs more and more.
    round(time / 4)?;
    let quiet = || -> Result<Held> {
        daemon.wait_for("the end of those that passed", |_| {
            (watched(&daemon, &exe).ok()?.len() == live).then_some(())
        })?;
        std::thread::sleep(Duration::from_secs(2));
        daemon.holds()
    };
    let before = quiet()?;
    let missed = round(time)?;
    assert_eq!(
        missed,
        BTreeSet::new(),
        "lived {:?} and was never told of",
        LIFE.1
    );
    let after = quiet()?;
    assert_eq!(after.descriptors, before.descriptors);
    assert_eq!(after.threads, before.threads);
    ensure!(
        after.private_bytes <= before.private_bytes + (2 << 20),
        "memory grew from {} to {} KiB",
        before.private_bytes >> 10,
        after.private_bytes >> 10
    );
    ensure!(
        watched(&daemon, &exe)?.len() == live,
        "one of those that stand was lost"
    );
    Ok(())
}

/// How many are probed when it is killed.
const PROBED: usize = 20;

#[test]
fn killed_it_leaves_nothing_and_the_targets_go_on() -> Result<()> {
    let _one = machine();
    let (_dir, exe) = copy("checksum")?;
    let dear = "[budget]\ntarget = \"100%\"\nhost = \"100%\"\n";
    let mut daemon = Daemon::start(&format!("{dear}{}", rule(&exe, "sampled")))?;
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
        // It ends by itself if a block is wrong.
        target.park()?;
        ensure!(target.alive(), "process {} ended", target.pid());
    }
    Ok(())
}

/// What the watched program may be charged at most, of its own CPU time: 0.5 % are agreed to, and the rest is what
/// estimates may be off.
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
    // The configuration has windows of 500 ms: two may pass until it is seen.
    std::thread::sleep(Duration::from_millis(1200));
    let before = (target.count()?, runs.of(daemon.pid())?, counted()?);
    let (_, cost) = before.2;
    ensure!(cost > 0.0, "the burst was not even seen");
    let hit = cost / before.2.0;
    std::thread::sleep(Duration::from_secs(4));
    let after = (target.count()?, runs.of(daemon.pid())?, counted()?);
    let cpu = (after.0.cpu_ns - before.0.cpu_ns) as f64 / 1e9;
    let told = (after.2.1 - before.2.1) / cpu;
    let kernels = (after.1 - before.1) as f64 * hit / cpu;
    ensure!(
        told <= CHARGED && kernels <= CHARGED,
        "of its CPU time it was charged {:.3} % as the daemon tells, {:.3} % as the kernel counts ({} runs of {} ns)",
        told * 100.0,
        kernels * 100.0,
        after.1 - before.1,
        hit * 1e9
    );
    // It is still watched, and it is said why with less.
    daemon.wait_for_tier(target.pid(), "passive")?;
    let why = daemon.get("/targets")?;
    ensure!(why.text()?.contains("budget"), "{}", why.text()?);
    let steps = daemon.metrics()?;
    let down = steps.sum(
        "gmpscope_tier_steps_total",
        &[("exe", &exe), ("from", "sampled"), ("to", "passive")],
    );
    ensure!(down >= 1.0, "the step down is not counted");
    Ok(())
}
