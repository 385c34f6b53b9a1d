//! What is checked.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use gmpscope_tests::privilege::{CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_SYS_RESOURCE};
use gmpscope_tests::run::gmpscope_with;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::{Attach, Outcome, Toolchain, Variant, Workload, left_behind};

use crate::finding::Finding;
use crate::machine::kernel_log;

const MODES: [&str; 3] = ["passive", "sampled", "exact"];
/// An emulated machine does in this time what a real one does in a tenth.
const WINDOW: Duration = Duration::from_millis(300);
/// A user who may nothing.
const NOBODY: u32 = 65534;
/// What the least privileged of daemons has.
const LEAST: [u32; 3] = [CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE];
/// Words of the kernel's log that tell of a fault in it.
const FAULTS: [&str; 5] = ["WARNING:", "BUG:", "Oops", "soft lockup", "detected stalls"];

/// Makes all checks and prints each finding.
pub fn all() -> Result<()> {
    doctor();
    let versions = fs::read_to_string("/versions").context("reading the list of Go versions")?;
    let toolchains = versions
        .lines()
        .map(Toolchain::elsewhere)
        .collect::<Result<Vec<_>>>()?;
    for toolchain in &toolchains {
        for mode in MODES {
            attach(&case(toolchain), "attach", mode);
        }
    }
    let newest = toolchains.last().context("no Go version")?;
    attach(&case(newest).by_perf_events(), "perf events", "exact");
    for mode in ["sampled", "exact"] {
        Finding::of("killed")
            .mode(mode)
            .outcome(killed(newest, mode))
            .print();
    }
    let finding = Finding::of("no privilege");
    finding.outcome(refused(newest)).print();
    for mode in ["passive", "sampled"] {
        let with_least = works_or_says_why(newest, mode, |attach| attach.user_with(NOBODY, &LEAST));
        Finding::of("least privilege")
            .mode(mode)
            .outcome(with_least)
            .print();
    }
    let unlimited = [LEAST.as_slice(), &[CAP_SYS_RESOURCE]].concat();
    let unlimited = works_or_says_why(newest, "sampled", |attach| attach.user_with(NOBODY, &unlimited));
    Finding::of("and CAP_SYS_RESOURCE")
        .mode("sampled")
        .outcome(unlimited)
        .print();
    // It can be made stricter but not weaker again, so this comes last.
    for (check, level) in [
        ("lockdown=integrity", "integrity"),
        ("lockdown=confidentiality", "confidentiality"),
    ] {
        let finding = Finding::of(check).mode("exact");
        let locked = lock_down(level).and_then(|()| works_or_says_why(newest, "exact", |attach| attach));
        finding.outcome(locked).print();
    }
    Finding::of("kernel log").outcome(no_faults()).print();
    Ok(())
}

fn case(toolchain: &Toolchain) -> Case {
    Case::new(toolchain, Variant::Stripped, "mixed").during(WINDOW)
}

/// What `doctor` says, and which programs it could load.
fn doctor() {
    let finding = Finding::of("doctor");
    let text = || {
        let outcome = gmpscope_with(["doctor"])?;
        let said = outcome.json.clone().unwrap_or_default();
        ensure!(
            outcome.code() == 0,
            "status {}:\n{said}{}",
            outcome.code(),
            outcome.stderr
        );
        Ok(said)
    };
    finding.outcome(text()).print();
    let finding = Finding::of("programs");
    match programs() {
        Ok(figures) => finding.held(format!("{} load", figures.len())).figures(figures),
        Err(why) => finding.failed(&why),
    }
    .print();
}

/// Instructions verified, by program.
fn programs() -> Result<BTreeMap<String, u64>> {
    let outcome = gmpscope_with(["doctor", "--format", "json"])?;
    let report: serde_json::Value = serde_json::from_str(outcome.json.as_deref().unwrap_or_default())?;
    let checks = report["checks"]
        .as_array()
        .context("doctor's JSON has no checks")?;
    let programs = checks.iter().find(|check| check["name"] == "programs");
    let programs = programs.context("doctor loads no programs")?;
    ensure!(programs["status"] == "ok", "{programs}");
    Ok(serde_json::from_value(report["verified_instructions"].clone())?)
}

/// Against the runtime's own histogram.
fn attach(case: &Case, check: &'static str, mode: &'static str) {
    let finding = Finding::of(check).go(&case.toolchain.version()).mode(mode);
    let outcome = case
        .agrees(mode, false)
        .map_err(anyhow::Error::msg)
        .map(|measured| {
            let how = &measured.capture.capture;
            let by = how
                .attached_by
                .as_deref()
                .map_or_else(String::new, |by| format!(" by {by}"));
            format!("{} waits, {} hits{by}", how.events, how.probe_hits)
        });
    finding.outcome(outcome).print();
}

fn start(toolchain: &Toolchain) -> Result<Workload> {
    case(toolchain).start()
}

fn killed(toolchain: &Toolchain, mode: &str) -> Result<String> {
    let mut workload = start(toolchain)?;
    let attach = Attach::to(workload.pid()).mode(mode);
    left_behind::nothing(&mut workload, &attach, libc::SIGKILL)?;
    Ok("nothing is left, the program runs on".into())
}

/// Without any privilege there is a clear refusal.
fn refused(toolchain: &Toolchain) -> Result<String> {
    let workload = start(toolchain)?;
    let outcome = Attach::to(workload.pid()).mode("exact").user(NOBODY).run()?;
    outcome.expect_failure(4, &["root"])?;
    Ok("refused with status 4".into())
}

/// Either a whole capture, or a refusal with status 4 that says why: never a silent loss.
fn works_or_says_why(
    toolchain: &Toolchain,
    mode: &str,
    as_whom: impl Fn(Attach) -> Attach,
) -> Result<String> {
    let mut workload = start(toolchain)?;
    let mut tracer = as_whom(Attach::to(workload.pid()).mode(mode)).spawn()?;
    if tracer.attached().is_err() {
        return reason(&tracer.finish()?);
    }
    let after = workload.go_during(WINDOW)?;
    let capture = tracer.interrupt()?.captured()?;
    let own = after
        .latencies
        .since(&workload.first.latencies)
        .without_zeros()
        .count();
    let seen = capture.runnable_to_running.count;
    // `exact` sees all waits, the runtime records some; the other two see what it records.
    let enough = own.saturating_sub(own / 100 + 5);
    ensure!(
        seen >= enough,
        "the runtime recorded {own} waits, gmpscope saw {seen}"
    );
    let by = capture.capture.attached_by.unwrap_or_else(|| "no probe".into());
    Ok(format!("works, {by}"))
}

/// The message of a refusal, in one line.
fn reason(outcome: &Outcome) -> Result<String> {
    outcome.expect_failure(4, &[])?;
    let said = outcome.stderr.trim();
    ensure!(said.len() > 20, "refused without a reason: {said:?}");
    Ok(format!("refused: {}", said.replace('\n', " ")))
}

fn lock_down(level: &str) -> Result<()> {
    let file = "/sys/kernel/security/lockdown";
    fs::write(file, level).with_context(|| format!("writing {level} to {file}"))
}

fn no_faults() -> Result<String> {
    let log = kernel_log();
    ensure!(!log.is_empty(), "the kernel's log is empty");
    let faults: Vec<&str> = log
        .lines()
        .filter(|line| FAULTS.iter().any(|fault| line.contains(fault)))
        .collect();
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok("no warning, no fault".into())
}
