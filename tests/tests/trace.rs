//! Compares with `runtime/trace` of the same run (Go ≥ 1.22): the number of waits, their quantiles, and how many
//! differ by more than 1 ms.

use std::time::Duration;

use anyhow::Result;
use gmpscope_tests::consistency::disagreements;
use gmpscope_tests::run::Attach;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::{Variant, environment, machine, oracle, toolchain};

#[test]
fn exact_has_the_waits_of_the_trace() -> Result<()> {
    let _one = machine();
    let mut cases = Vec::new();
    for t in toolchain::all()?.iter().filter(|t| t.minor() >= 22) {
        cases.push(Case::new(t, Variant::Stripped, "mixed"));
        if environment::full() {
            for (program, procs) in [("gosched_storm", 2), ("spawn", 2), ("pool", 2), ("pingpong", 1)] {
                cases.push(Case::new(t, Variant::Stripped, program).gomaxprocs(procs));
            }
            cases.push(Case::new(t, Variant::Cgo, "cgo"));
            cases.push(Case::new(t, Variant::PgoStripped, "mixed"));
        }
    }
    if !environment::full() {
        cases.drain(..cases.len().saturating_sub(2));
    }
    let mut wrong = Vec::new();
    for case in &cases {
        let case = case.clone().during(Duration::from_millis(300));
        match case.agrees("exact", true) {
            Ok(measured) => {
                let pairs = disagreements(&measured.capture);
                wrong.extend(pairs.into_iter().map(|pair| format!("{}: {pair}", measured.name)));
            }
            Err(why) => wrong.push(why),
        }
    }
    anyhow::ensure!(
        wrong.is_empty(),
        "{} of {} disagree:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn slow_waits_are_those_of_the_trace() -> Result<()> {
    let _one = machine();
    for mode in ["sampled", "exact"] {
        let case = Case::new(&toolchain::newest()?, Variant::Stripped, "oversubscribed");
        let mut w = case.start()?;
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("trace");
        w.trace_start(&file)?;
        let tracer = Attach::to(w.pid())
            .mode(mode)
            .arg("--slower")
            .arg("1ms")
            .start()?;
        let from = environment::monotonic_ns();
        w.go_during(Duration::from_millis(300))?;
        let to = environment::monotonic_ns();
        let capture = tracer.interrupt()?.captured()?;
        w.trace_stop()?;
        let waits = oracle::waits(&file, from, to, true)?;
        assert!(!capture.slow.is_empty(), "{mode}: none is slow");
        // The longest waits are listed, and among them first those in which a thread lost its CPU between the probe and
        // the trace's own clock: so not each must match to 1 ms, but nearly all to 0.1 ms.
        let mut off = capture
            .slow
            .iter()
            .map(|s| {
                assert!(s.latency_ns >= 1_000_000, "{mode}: {s:?}");
                let goid = s.goid.expect("a goid");
                let same = waits.waits.iter().filter(|(g, ..)| *g == goid);
                same.map(|(_, runnable, running, _)| s.latency_ns.abs_diff(running - runnable))
                    .min()
                    .unwrap_or_else(|| panic!("{mode}: the trace has no goroutine {goid}"))
            })
            .collect::<Vec<_>>();
        off.sort();
        let (median, most) = (off[off.len() / 2], off[off.len() * 8 / 10]);
        assert!(
            median < 100_000 && most < 1_000_000,
            "{mode}: differences in ns {off:?}"
        );
    }
    Ok(())
}
