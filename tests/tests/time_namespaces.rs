//! Targets, and gmpscope itself, in time namespaces, where CLOCK_MONOTONIC is not that of the host
//! (time_namespaces(7)): containers that CRIU has restored, or that a runtime gives one.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::environment::gmpscope;
use gmpscope_tests::{Attach, Daemon, Toolchain, Variant, Workload, machine, toolchain};
use serde_json::Value;

/// Seconds that the clock in a namespace is ahead of the host's. It cannot be behind by more than the host has been up.
const SHIFTS: [i64; 2] = [-20, 100_000];
/// Longer than any wait and any pause between two polls of these tests, and less than any shift.
const ABSURD_NS: u64 = 10_000_000_000;

/// A command in a time namespace, to be continued with a program. The program is a child of the command.
fn shifted(seconds: i64) -> Command {
    let mut command = Command::new("unshare");
    let shift = format!("--monotonic={seconds}");
    command.args(["--time", &shift, "--fork", "--kill-child", "--"]);
    command
}

/// A running workload in a time namespace.
struct Target {
    workload: Workload,
    pid: u32,
}

impl Target {
    fn start(toolchain: &Toolchain, seconds: i64) -> Result<Self> {
        let mut command = shifted(seconds);
        command
            .arg(Variant::Stripped.build(toolchain, "mixed")?)
            .arg("-control")
            .env("GOMAXPROCS", "2")
            .env_remove("GODEBUG");
        let workload = Workload::start_by(command).context("unshare (util-linux) is needed, and root")?;
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", workload.pid()))?;
        let pid = children
            .split_whitespace()
            .next()
            .context("unshare has no child")?;
        let pid = pid.parse()?;
        Ok(Self { workload, pid })
    }
}

/// Checks that no figure of a capture has the shift of a clock in it.
fn is_plausible(what: &str, capture: &Value) -> Result<()> {
    let waits = &capture["runnable_to_running"];
    let count = waits["count"].as_u64().unwrap_or(0);
    ensure!(count > 20, "{what}: {count} waits");
    for quantile in ["p50_ns", "p999_ns"] {
        let ns = waits[quantile].as_u64().unwrap_or(u64::MAX);
        ensure!(ns < ABSURD_NS, "{what}: {quantile} is {ns}");
    }
    let lost = &capture["capture"]["lost_by_cause"];
    ensure!(lost["negative"].is_null(), "{what}: {lost}");
    if let Some(ns) = capture["scheduler"]["since_last_poll_ns"].as_u64() {
        ensure!(ns < ABSURD_NS, "{what}: the last poll was {ns} ns ago");
    }
    if let Some(states) = capture["full"]["time_in_state_ns"].as_object() {
        ensure!(!states.is_empty(), "{what}: no time in any state");
        for (state, ns) in states {
            // Of all goroutines together, of which there are a few dozen.
            let ns = ns.as_u64().unwrap_or(u64::MAX);
            ensure!(ns < 100 * ABSURD_NS, "{what}: {ns} ns in {state}");
        }
    }
    Ok(())
}

#[test]
fn a_target_in_one_waits_no_longer_than_elsewhere() -> Result<()> {
    let _one = machine();
    for toolchain in toolchain::few()? {
        for seconds in SHIFTS {
            let mut target = Target::start(&toolchain, seconds)?;
            target.workload.go()?;
            for mode in ["passive", "sampled", "exact", "full"] {
                let what = format!("Go {}, {seconds} s, {mode}", toolchain.version());
                let outcome = Attach::to(target.pid)
                    .mode(mode)
                    .duration(Duration::from_millis(500))
                    .run()?;
                let json = outcome.json.as_deref().context("no capture")?;
                let capture: Value = serde_json::from_str(json)?;
                ensure!(outcome.code() == 0, "{what}: {}", outcome.stderr);
                is_plausible(&what, &capture)?;
                let offset = capture["target"]["clock_offset_ns"].as_i64();
                ensure!(
                    offset == Some(seconds * 1_000_000_000),
                    "{what}: the offset is {offset:?}"
                );
                ensure!(json.contains("is in a time namespace"), "{what}: it is not said");
            }
        }
    }
    Ok(())
}

#[test]
fn gmpscope_in_one_has_the_clock_of_the_host() -> Result<()> {
    let _one = machine();
    for toolchain in toolchain::few()? {
        let binary = Variant::Stripped.build(&toolchain, "mixed")?;
        let mut workload = Workload::start(&binary, 2, &[])?;
        workload.go()?;
        for mode in ["passive", "sampled", "exact", "full"] {
            let what = format!("Go {}, {mode}", toolchain.version());
            let output = shifted(1_000_000)
                .arg(gmpscope()?)
                .args(["attach", "-p", &workload.pid().to_string(), "--mode", mode])
                .args(["--duration", "500ms", "--format", "json"])
                .stdin(Stdio::null())
                .output()?;
            ensure!(
                output.status.success(),
                "{what}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            let capture: Value = serde_json::from_slice(&output.stdout)?;
            is_plausible(&what, &capture)?;
            ensure!(capture["target"]["clock_offset_ns"].is_null(), "{what}");
        }
    }
    Ok(())
}

#[test]
fn the_daemon_counts_no_time_that_nobody_waited() -> Result<()> {
    let _one = machine();
    let toolchains = toolchain::few()?;
    // The newest whose begins of waits are read from its memory.
    let toolchain = toolchains
        .iter()
        .rfind(|toolchain| toolchain.minor() <= 25)
        .context("no Go up to 1.25")?;
    let mut target = Target::start(toolchain, 100_000)?;
    target.workload.go()?;
    let pid = target.pid.to_string();
    let rule = format!(
        "[budget]\ntarget = \"100%\"\ntarget_floor = \"1s\"\nhost = \"100%\"\n\
         [[target]]\nexe = \"{}\"\ntier = \"sampled\"\n",
        Variant::Stripped.build(toolchain, "mixed")?.display()
    );
    let daemon = Daemon::start(&rule)?;
    daemon.wait_for_tier(target.pid, "sampled")?;
    const WAITS: &str = "gmpscope_sampled_latencies_seconds";
    let labels = [("pid", pid.as_str())];
    let (count, sum) = daemon.wait_for("sampled waits", |page| {
        let count = page.sum(&format!("{WAITS}_count"), &labels);
        (count > 20.0).then(|| (count, page.sum(&format!("{WAITS}_sum"), &labels)))
    })?;
    ensure!(sum / count < 1.0, "{sum} s in {count} waits");
    let lost = daemon.metrics()?.sum(
        "gmpscope_lost_total",
        &[("pid", pid.as_str()), ("cause", "negative")],
    );
    ensure!(lost == 0.0, "{lost} waits were negative");
    Ok(())
}
