//! Counts of goroutines after a burst of them, when nearly all gs of the program are dead, compared with what the program
//! says of itself: `runtime.NumGoroutine` and `/sched/goroutines:goroutines`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::consistency::disagreements;
use gmpscope_tests::run::Attach;
use gmpscope_tests::{Daemon, Event, Toolchain, Variant, Workload, machine, toolchain};
use tracer_user::document::gauges::Goroutines;

/// Goroutines of the program that live after the burst: main and six that wait.
const LIVING: u64 = 7;
/// Most goroutines that the runtime keeps for itself, with two Ps.
const OF_THE_RUNTIME: u64 = 16;

fn started(toolchain: &Toolchain, size: &str) -> Result<Workload> {
    let binary = Variant::Stripped.build(toolchain, "burst")?;
    Workload::start(&binary, 2, &["-size", size])
}

/// Checks what the program says: the oracle.
fn checked(toolchain: &Toolchain, said: &Event) -> Result<u64> {
    ensure!(said.goroutines == LIVING, "{said:?}");
    let own = said.sched_goroutines.context("no /sched/goroutines:goroutines")?;
    // From Go 1.26 on it includes those of the runtime itself.
    match toolchain.minor() {
        ..26 => ensure!(own == LIVING, "{own} goroutines"),
        _ => ensure!(
            (LIVING + 1..=LIVING + OF_THE_RUNTIME).contains(&own),
            "{own} goroutines"
        ),
    }
    Ok(own)
}

/// Compares what a capture says of the end with the program's own counts.
fn compare(toolchain: &Toolchain, goroutines: &Goroutines, own: u64) -> Result<()> {
    ensure!(
        goroutines.user == Some(LIVING),
        "{:?} by runtime.NumGoroutine",
        goroutines.user
    );
    match toolchain.minor() {
        ..26 => ensure!(
            (LIVING + 1..=LIVING + OF_THE_RUNTIME).contains(&goroutines.live),
            "{} live",
            goroutines.live
        ),
        _ => ensure!(goroutines.live == own, "{} live, {own} of them", goroutines.live),
    }
    ensure!(goroutines.live_range.is_none(), "{:?}", goroutines.live_range);
    Ok(())
}

#[test]
fn passive_counts_those_that_live_and_estimates_their_states() -> Result<()> {
    let _one = machine();
    for toolchain in toolchain::selection()? {
        let name = format!("Go {}", toolchain.version());
        let mut workload = started(&toolchain, "60000")?;
        let own = checked(&toolchain, &workload.go_for(1)?)?;
        let capture = Attach::to(workload.pid())
            .mode("passive")
            .duration(Duration::from_millis(300))
            .run()?
            .captured()?;
        let goroutines = capture.goroutines.as_ref().context("no goroutines")?;
        compare(&toolchain, goroutines, own).with_context(|| name.clone())?;
        // More than can be read in that time.
        ensure!(goroutines.estimated, "{name}: {goroutines:?}");
        let scheduler = capture.scheduler.as_ref().context("no gauges")?;
        ensure!(scheduler.allgs >= Some(60_000), "{name}: {:?}", scheduler.allgs);
        let pairs = disagreements(&capture);
        ensure!(pairs.is_empty(), "{name}:\n{}", pairs.join("\n"));
    }
    Ok(())
}

#[test]
fn full_counts_those_that_live_by_their_states() -> Result<()> {
    let _one = machine();
    const SIZE: u64 = 10_000;
    for toolchain in toolchain::few()? {
        let name = format!("Go {}", toolchain.version());
        let mut workload = started(&toolchain, &SIZE.to_string())?;
        let tracer = Attach::to(workload.pid()).mode("full").start()?;
        let own = checked(&toolchain, &workload.go_for(1)?)?;
        let capture = tracer.interrupt()?.captured()?;
        let goroutines = capture.goroutines.as_ref().context("no goroutines")?;
        compare(&toolchain, goroutines, own).with_context(|| name.clone())?;
        ensure!(!goroutines.estimated, "{name}: {goroutines:?}");
        let mut states = goroutines.by_state.iter();
        let waiting = states.find(|(state, _)| state.raw() == "waiting");
        let waiting = waiting.map_or(0, |(_, count)| *count);
        // All but main, which serves the test.
        ensure!(waiting + 1 >= LIVING, "{name}: {goroutines:?}");
        let created = goroutines.created.context("not counted")?;
        ensure!(
            (SIZE..SIZE + 100).contains(&created) && goroutines.exited >= Some(SIZE),
            "{name}: {goroutines:?}"
        );
        let pairs = disagreements(&capture);
        ensure!(pairs.is_empty(), "{name}:\n{}", pairs.join("\n"));
    }
    Ok(())
}

#[test]
fn the_daemon_exports_those_that_live() -> Result<()> {
    let _one = machine();
    let toolchain = toolchain::newest()?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("burst");
    std::fs::copy(Variant::Stripped.build(&toolchain, "burst")?, &path)?;
    let mut workload = Workload::start(&path, 2, &["-size", "60000"])?;
    let own = checked(&toolchain, &workload.go_for(1)?)?;
    let daemon = Daemon::start(&format!(
        "[[target]]\nexe = \"{}/*\"\ntier = \"passive\"\n",
        dir.path().display()
    ))?;
    let pid = workload.pid().to_string();
    let labels = |of| [("pid", pid.as_str()), ("of", of)];
    let page = daemon.wait_for("its goroutines", |page| {
        page.value("gmpscope_goroutines_live", &labels("user"))
            .ok()
            .map(|_| page.clone())
    })?;
    let live = |of| page.value("gmpscope_goroutines_live", &labels(of));
    ensure!(
        live("user")? == LIVING as f64,
        "{} by NumGoroutine",
        live("user")?
    );
    ensure!(live("all")? == own as f64, "{} of {own}", live("all")?);
    let of_it = [("pid", pid.as_str())];
    ensure!(
        page.value("gmpscope_goroutines_estimated", &of_it)? == 1.0,
        "it has read 60,000 gs"
    );
    let by_state = page.sum("gmpscope_goroutines", &of_it);
    // None of them may be in the sample.
    ensure!(
        by_state == 0.0 || (by_state - own as f64).abs() <= 3.0,
        "{by_state} in all states together, {own} live"
    );
    for low in page.find("gmpscope_goroutines_estimate_low", &of_it) {
        let state = low.labels.get("state").context("no state")?;
        let labels = [("pid", pid.as_str()), ("state", state.as_str())];
        let high = page.value("gmpscope_goroutines_estimate_high", &labels)?;
        let value = page.value("gmpscope_goroutines", &labels)?;
        ensure!(
            low.value <= value && value <= high && high <= own as f64,
            "{state}: {value} in {} to {high}",
            low.value
        );
    }
    Ok(())
}
