//! The checks that are made in a virtual machine.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use gmpscope_tests::privilege::{CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_SYS_RESOURCE};
use gmpscope_tests::run::gmpscope_with;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::start::{Traced, partition};
use gmpscope_tests::{Attach, Outcome, Toolchain, Variant, Workload, environment, left_behind};

use crate::finding::Finding;
use crate::machine::kernel_log;
use tracer_user::document::blocked::Incomplete;
use tracer_user::model::start::Ended;

const MODES: [&str; 4] = ["passive", "sampled", "exact", "full"];
/// How long a workload is running: an emulated machine does in this time what a real one does in a tenth.
const WINDOW: Duration = Duration::from_millis(500);
/// What the runtime records at least in that time.
const LEAST_WAITS: u64 = 50;
/// A user without any privilege.
const NOBODY: u32 = 65534;
/// The capabilities of the least privileged daemon.
const LEAST: [u32; 3] = [CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE];
/// Words in the kernel's log that indicate a fault in it.
const FAULTS: [&str; 5] = ["WARNING:", "BUG:", "Oops", "soft lockup", "detected stalls"];

/// Makes all checks and prints each finding.
pub fn all() -> Result<()> {
    let multi = doctor();
    let held = if multi { "uprobe_multi" } else { "perf_events" };
    let versions = fs::read_to_string("/versions").context("reading the list of Go versions")?;
    let toolchains = versions
        .lines()
        .map(Toolchain::elsewhere)
        .collect::<Result<Vec<_>>>()?;
    for toolchain in &toolchains {
        for mode in MODES {
            attach(&case(toolchain), "attach", mode, held);
        }
    }
    let newest = toolchains.last().context("no Go version")?;
    attach(
        &case(newest).by_perf_events(),
        "perf events",
        "exact",
        "perf_events",
    );
    for toolchain in &toolchains {
        let finding = Finding::of("stacks").go(&toolchain.version()).mode("full");
        finding.outcome(stacks(toolchain)).print();
    }
    for toolchain in &toolchains {
        start_phases(toolchain, held);
    }
    check("follow", None, || followed(newest));
    for mode in ["sampled", "exact", "full"] {
        check("killed", Some(mode), || killed(newest, mode));
    }
    check("no privilege", None, || refused(newest));
    // Without uprobe_multi, probes are perf events, which Debian's kernels reserve for the administrator.
    for (mode, works) in [("passive", true), ("sampled", multi)] {
        check("least privilege", Some(mode), || {
            captures(newest, mode, works, |attach| attach.user_with(NOBODY, &LEAST))
        });
    }
    let unlimited = [LEAST.as_slice(), &[CAP_SYS_RESOURCE]].concat();
    check("and CAP_SYS_RESOURCE", Some("sampled"), || {
        captures(newest, "sampled", multi, |attach| {
            attach.user_with(NOBODY, &unlimited)
        })
    });
    // Lockdown can be made stricter but not weaker again, so this comes last.
    for (name, level, works) in [
        ("lockdown=integrity", "integrity", true),
        ("lockdown=confidentiality", "confidentiality", multi),
    ] {
        check(name, Some("exact"), || {
            lock_down(level)?;
            captures(newest, "exact", works, |attach| attach)
        });
    }
    check("kernel log", None, no_faults);
    Ok(())
}

/// Makes one check and prints its outcome.
fn check(name: &'static str, mode: Option<&'static str>, what: impl FnOnce() -> Result<String>) {
    let finding = Finding::of(name);
    let finding = match mode {
        Some(mode) => finding.mode(mode),
        None => finding,
    };
    finding.outcome(what()).print();
}

fn case(toolchain: &Toolchain) -> Case {
    Case::new(toolchain, Variant::Stripped, "mixed")
        .during(WINDOW)
        .emulated()
}

/// Runs `doctor`, and reports what it says and which programs it could load. Returns whether it found uprobe_multi.
fn doctor() -> bool {
    check("doctor", None, || {
        let outcome = gmpscope_with(["doctor"])?;
        let said = outcome.json.clone().unwrap_or_default();
        ensure!(
            outcome.code() == 0,
            "status {}:\n{said}{}",
            outcome.code(),
            outcome.stderr
        );
        Ok(said)
    });
    let finding = Finding::of("programs");
    let (finding, multi) = match programs() {
        Ok((figures, multi)) => {
            let detail = format!("{} load", figures.len());
            (finding.held(detail).figures(figures), multi)
        }
        Err(why) => (finding.failed(&why), false),
    };
    finding.print();
    multi
}

/// Parses the verified instructions by program, and whether there is uprobe_multi.
fn programs() -> Result<(BTreeMap<String, u64>, bool)> {
    let outcome = gmpscope_with(["doctor", "--format", "json"])?;
    let report: serde_json::Value = serde_json::from_str(outcome.json.as_deref().unwrap_or_default())?;
    let checks = report["checks"]
        .as_array()
        .context("doctor's JSON has no checks")?;
    let named = |name: &str| checks.iter().find(|check| check["name"] == name);
    let programs = named("programs").context("doctor loads no programs")?;
    ensure!(programs["status"] == "ok", "{programs}");
    let multi = named("uprobe_multi").context("doctor does not look for uprobe_multi")?;
    let counts = serde_json::from_value(report["verified_instructions"].clone())?;
    Ok((counts, multi["status"] == "ok"))
}

/// Compares with the runtime's own histogram.
fn attach(case: &Case, check: &'static str, mode: &'static str, held: &str) {
    let finding = Finding::of(check).go(&case.toolchain.version()).mode(mode);
    let outcome = case
        .agrees(mode, false)
        .map_err(anyhow::Error::msg)
        .and_then(|measured| {
            let how = &measured.capture.capture;
            let by = how.attached_by.map(|by| by.to_string());
            ensure!(
                by.as_deref() == (mode != "passive").then_some(held),
                "the probes were held by {by:?}, not by {held}"
            );
            ensure!(
                measured.own.count() >= LEAST_WAITS,
                "the runtime recorded only {} waits",
                measured.own.count()
            );
            let by = by.map_or_else(String::new, |by| format!(" by {by}"));
            Ok(format!("{} waits, {} hits{by}", how.events, how.probe_hits))
        });
    finding.outcome(outcome).print();
}

/// Checks `--stacks`: every stack is there, and leads from the runtime to the functions of the program.
fn stacks(toolchain: &Toolchain) -> Result<String> {
    let mut workload = start(toolchain)?;
    let tracer = Attach::to(workload.pid()).mode("full").arg("--stacks").start()?;
    workload.go_during(WINDOW)?;
    let capture = tracer.interrupt()?.captured()?;
    let full = capture.full.context("no part of full")?;
    let info = full.stacks.context("no stacks")?;
    ensure!(
        info.walked > 0 && info.lost_full + info.lost_unreadable == 0,
        "stacks are missing: {info:?}"
    );
    let mut ours = 0;
    for place in &full.blocked_at {
        // Before Go 1.21 a stack that is moved on arm64 keeps the old frame pointers (runtime/stack.go, adjustframe):
        // the chain ends there, and the capture says so.
        let is_moved = place.incomplete == Some(Incomplete::Broken) && moved_chains_break(toolchain);
        ensure!(
            (place.incomplete.is_none() || is_moved)
                && place.stack.iter().all(|call| !call.raw().starts_with("0x")),
            "a stack is not whole, or leads out of Go's code: {place:?}"
        );
        let is_ours = |call: &str| call.starts_with("main.") && call.contains(".go:");
        ours += usize::from(place.stack.iter().any(|call| is_ours(call.raw())));
    }
    ensure!(
        ours > 0,
        "no function of the program blocks: {:?}",
        full.blocked_at
    );
    Ok(format!(
        "{} stacks, {} different, {ours} of the program's own",
        info.walked, info.different
    ))
}

fn moved_chains_break(toolchain: &Toolchain) -> bool {
    cfg!(target_arch = "aarch64") && toolchain.minor() < 21
}

/// Checks the phases of a start with `gmpscope run`.
fn start_phases(toolchain: &Toolchain, held: &str) {
    let run = || {
        let program = Variant::Stripped.build(toolchain, "mixed")?;
        let ran = Traced::new(&program)?.arg("-for").arg("50ms").run()?;
        ensure!(ran.status.success(), "{}:\n{}", ran.status, ran.stderr);
        let run = ran.start()?;
        partition(run)?;
        ensure!(run.ended == Ended::Main, "it ended at {}", run.ended);
        let named = |name: &str| run.phases.iter().any(|phase| phase.name == name);
        for name in ["exec", "osinit", "schedinit", "main_started", "init:os"] {
            ensure!(named(name), "there is no phase {name}");
        }
        let by = ran
            .capture
            .as_ref()
            .and_then(|capture| capture.capture.attached_by)
            .map(|by| by.to_string());
        ensure!(
            by.as_deref() == Some(held),
            "the probes were held by {by:?}, not by {held}"
        );
        Ok(format!("{} phases from {}, by {held}", run.phases.len(), run.t0))
    };
    let finding = Finding::of("run").go(&toolchain.version());
    finding.outcome(run()).print();
}

/// Checks `gmpscope run --follow`. The command is a gmpscope, since there is no shell.
fn followed(toolchain: &Toolchain) -> Result<String> {
    let program = Variant::Stripped.build(toolchain, "mixed")?;
    let command = ["run", "-q", "--", &program.display().to_string(), "-for", "50ms"];
    let traced = Traced::new(&environment::gmpscope()?)?.options(&["--follow"]);
    let ran = command
        .iter()
        .fold(traced, |traced, word| traced.arg(word))
        .run()?;
    ensure!(ran.status.success(), "{}:\n{}", ran.status, ran.stderr);
    let init = ran.init()?;
    let tree = init.tree.as_ref().context("no tree")?;
    ensure!(
        init.runs == 1 && tree.others == 1 && tree.execs == 2 && tree.unseen == 0,
        "{} starts: {tree:?}",
        init.runs
    );
    let run = init.slowest.first().context("no start in full")?;
    partition(run)?;
    ensure!(
        run.phases.iter().any(|phase| phase.name == "init:os"),
        "the packages have no names"
    );
    Ok(format!("{} phases of a child from {}", run.phases.len(), run.t0))
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

/// Checks that without any privilege there is a clear refusal.
fn refused(toolchain: &Toolchain) -> Result<String> {
    let workload = start(toolchain)?;
    let outcome = Attach::to(workload.pid()).mode("exact").user(NOBODY).run()?;
    outcome.expect_failure(4, &["root"])?;
    Ok("refused with status 4".into())
}

/// Checks for a complete capture where the mode works, else for a refusal with status 4 and its reason, never a silent
/// loss.
fn captures(
    toolchain: &Toolchain,
    mode: &str,
    works: bool,
    as_whom: impl Fn(Attach) -> Attach,
) -> Result<String> {
    let mut workload = start(toolchain)?;
    let mut tracer = as_whom(Attach::to(workload.pid()).mode(mode)).spawn()?;
    let attached = tracer.attached();
    if !works {
        ensure!(attached.is_err(), "it works, though it was not expected to");
        return reason(&tracer.finish()?);
    }
    attached?;
    let after = workload.go_during(WINDOW)?;
    let capture = tracer.interrupt()?.captured()?;
    let own = after
        .latencies
        .since(&workload.first.latencies)
        .without_zeros()
        .count();
    let seen = capture.runnable_to_running.count;
    ensure!(own >= LEAST_WAITS, "the runtime recorded only {own} waits");
    // `exact` sees all waits, of which the runtime records some; the other modes see what it records.
    ensure!(
        seen >= own - own / 100 - 5,
        "the runtime recorded {own} waits, gmpscope saw {seen}"
    );
    let by = capture
        .capture
        .attached_by
        .map_or_else(|| "no probe".to_owned(), |by| by.to_string());
    Ok(format!("works, {by}"))
}

/// Returns the message of a refusal in one line.
fn reason(outcome: &Outcome) -> Result<String> {
    outcome.expect_failure(4, &["doctor"])?;
    Ok(format!("refused: {}", outcome.stderr.trim().replace('\n', " ")))
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
