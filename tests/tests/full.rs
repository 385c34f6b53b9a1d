//! Mode `full` against `runtime/trace` of the same run, change by change, and what it does when its ring is too
//! small.

use std::time::Duration;

use anyhow::{Result, ensure};
use gmpscope_tests::run::Attach;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::transitions::table::{AGREED, must_agree};
use gmpscope_tests::transitions::{Compared, compare};
use gmpscope_tests::{Variant, environment, machine, toolchain};

/// How often two that look at different moments may be asked to agree on a machine that does something else beside.
const ATTEMPTS: usize = 3;

fn agrees(case: &Case) -> std::result::Result<Compared, String> {
    let mut disagreed = Vec::new();
    for _ in 0..ATTEMPTS {
        let compared = compare(case, &[]).map_err(|e| format!("{}: {e:#}", case.name()))?;
        let agreement = &compared.agreement;
        let lost = compared
            .capture
            .full
            .as_ref()
            .map_or(u64::MAX, |full| full.model.lost);
        if agreement.share() >= AGREED && lost == 0 {
            return Ok(compared);
        }
        disagreed.push(format!(
            "{} {:?}: {} of {} changes matched, {} more, {lost} lost: {}",
            case.name(),
            case.args,
            agreement.matched,
            agreement.theirs,
            agreement.more,
            agreement.examples.join("\n  ")
        ));
    }
    Err(disagreed.join("\n"))
}

#[test]
fn full_has_the_changes_of_the_trace() -> Result<()> {
    let _one = machine();
    let mut cases = Vec::new();
    for t in toolchain::all()?.iter().filter(|t| t.minor() >= 22) {
        match environment::full() {
            true => cases.extend(must_agree(t)),
            false => cases.push(Case::new(t, Variant::Stripped, "mixed")),
        }
    }
    if !environment::full() {
        cases.drain(..cases.len().saturating_sub(2));
    }
    let during = Duration::from_millis(200);
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| agrees(&case.clone().during(during)).err())
        .collect();
    ensure!(
        wrong.is_empty(),
        "{} of {} disagree:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn what_a_ring_that_is_too_small_drops_is_counted() -> Result<()> {
    let _one = machine();
    let case = Case::new(&toolchain::newest()?, Variant::Stripped, "pingpong").gomaxprocs(1);
    let mut workload = case.start()?;
    let tracer = Attach::to(workload.pid())
        .mode("full")
        .arg("--no-threads")
        .arg("--ring")
        .arg("64k")
        .start()?;
    workload.go_during(Duration::from_millis(500))?;
    let outcome = tracer.interrupt()?;
    // What is not whole is printed all the same, and scripts can tell.
    ensure!(
        outcome.code() == 5,
        "ended with {}: {}",
        outcome.code(),
        outcome.stderr
    );
    let capture = outcome.capture.expect("a capture that is not whole");
    let full = capture.full.as_ref().expect("the part of full");
    let dropped = capture.capture.lost_by_cause.get("transitions_dropped").copied();
    // 64 KiB are 1,365 records of 32 bytes and their headers, which ping-pong makes in some 5 ms.
    ensure!(dropped.unwrap_or(0) > 0, "nothing was dropped: {:?}", full.model);
    ensure!(!capture.capture.complete, "dropped, and yet complete");
    ensure!(
        full.model.seen == full.model.transitions + full.model.lost,
        "seen in the kernel {} is not delivered {} + dropped {}",
        full.model.seen,
        full.model.transitions,
        full.model.lost
    );
    Ok(())
}
