//! The workloads and oracles by themselves: every other test depends on them.

use std::time::Duration;

use anyhow::Result;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::{Variant, Workload, environment, machine, oracle, toolchain};

fn started(program: &'static str, procs: u32) -> Result<Workload> {
    Case::new(&toolchain::newest()?, Variant::Plain, program)
        .gomaxprocs(procs)
        .start()
}

/// Runs a workload under runtime/trace alone.
fn traced(w: &mut Workload, time: Duration) -> Result<(oracle::Waits, u64)> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("trace");
    let before = w.trace_start(&file)?;
    let after = w.go_during(time)?;
    w.trace_stop()?;
    let waits = oracle::waits(&file, before.at_ns, after.at_ns, false)?;
    Ok((waits, after.iterations - before.iterations))
}

#[test]
fn a_parked_program_records_nothing() -> Result<()> {
    let _one = machine();
    for t in toolchain::selection()? {
        for (program, procs) in [("mixed", 2), ("pingpong", 1), ("spawn", 2)] {
            let mut w = Case::new(&t, Variant::Plain, program).gomaxprocs(procs).start()?;
            let parked = w.go_during(Duration::from_millis(100))?;
            assert!(parked.latencies.count() > 10, "{program} does not schedule");
            std::thread::sleep(Duration::from_millis(300));
            let held = w.go()?;
            // When it continues, the goroutine that serves the protocol may find that it is to be preempted.
            let since = held.latencies.since(&parked.latencies);
            assert!(
                since.count() <= 1,
                "Go {} {program}: {since:?} while parked",
                t.version()
            );
        }
    }
    Ok(())
}

#[test]
fn iterations_are_the_waits_that_the_name_says() -> Result<()> {
    let _one = machine();
    for (program, procs, waits_each) in [("pingpong", 1, 2.0), ("gosched_storm", 2, 1.0), ("spawn", 2, 1.0)] {
        let (waits, n) = traced(&mut started(program, procs)?, Duration::from_millis(100))?;
        let ratio = waits.count as f64 / n as f64 / waits_each;
        assert!(
            (0.98..1.25).contains(&ratio),
            "{program}: {} waits in {n} iterations",
            waits.count
        );
    }
    Ok(())
}

#[test]
fn the_trace_and_the_runtime_agree() -> Result<()> {
    let _one = machine();
    let mut w = started("gosched_storm", 2)?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("trace");
    let before = w.trace_start(&file)?;
    let after = w.go_during(Duration::from_millis(200))?;
    w.trace_stop()?;
    let waits = oracle::waits(&file, before.at_ns, after.at_ns, false)?;
    let own = after.latencies.since(&before.latencies);
    // Nominally one in eight.
    let nominal = waits.count as f64 / own.count() as f64;
    assert!(
        (7.5..8.5).contains(&nominal),
        "{} waits, {} sampled",
        waits.count,
        own.count()
    );
    let (low, high) = own.quantile(0.5).expect("not empty");
    let p50 = waits.p50_ns as i64;
    assert!(
        p50 > low * 7 / 10 && p50 < high * 14 / 10,
        "trace {p50}, runtime [{low}, {high})"
    );
    Ok(())
}

#[test]
fn a_number_of_iterations_is_kept() -> Result<()> {
    let _one = machine();
    for program in ["pingpong", "gosched_storm", "spawn", "pool", "release"] {
        let mut w = started(program, 2)?;
        let n = if program == "release" { 3 } else { 1001 };
        let (a, b) = (w.go_for(n)?, w.go_for(n)?);
        assert_eq!((a.iterations, b.iterations), (n, 2 * n), "{program}");
    }
    Ok(())
}

#[test]
fn every_workload_builds_with_every_toolchain() -> Result<()> {
    let programs = std::fs::read_dir(environment::package().join("workloads"))?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.join("main.go").is_file())
        .filter_map(|p| p.file_name()?.to_str().map(str::to_owned))
        .collect::<Vec<_>>();
    assert!(programs.len() >= 16, "{programs:?}");
    for t in toolchain::selection()? {
        for p in &programs {
            let v = if p == "cgo" || p == "forks_first" {
                Variant::Cgo
            } else {
                Variant::Stripped
            };
            v.build(&t, p)?;
        }
        Variant::Library.build(&t, "library")?;
    }
    Ok(())
}

/// Builds what the other tests need before they have the machine: most of the work of a build is the standard library,
/// which Go caches for each build variant.
#[test]
fn every_variant_builds_with_every_toolchain() -> Result<()> {
    // The newest first: most tests use it.
    for t in toolchain::selection()?.iter().rev() {
        for v in [
            Variant::Stripped,
            Variant::Plain,
            Variant::Pie,
            Variant::PieStripped,
            Variant::Cgo,
            Variant::CgoPie,
            Variant::Plugin,
            Variant::Arm64,
            Variant::Arm64PieStripped,
        ] {
            v.build(t, "mixed")?;
        }
    }
    Ok(())
}
