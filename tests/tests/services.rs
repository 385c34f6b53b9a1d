//! Of servers as many people run them, under load, hardly any of the waiting has a cause that is not known.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::again::{Verdict, once_more};
use gmpscope_tests::http;
use gmpscope_tests::machine;
use gmpscope_tests::prometheus::Prometheus;
use gmpscope_tests::run::Attach;
use gmpscope_tests::services::Service;
use tracer_user::document::capture::Capture;
use tracer_user::model::sched::Cause;

/// How long each is captured.
const WINDOW: Duration = Duration::from_secs(3);
/// What the share of what is not known must stay below.
const UNKNOWN: f64 = 0.05;

/// Captures a process while it is asked from four sides.
fn under_load(pid: u32, asks: impl Fn() -> bool + Sync) -> Result<Capture> {
    let is_over = AtomicBool::new(false);
    let (outcome, answers) = std::thread::scope(|scope| {
        let asking = [(); 4].map(|()| {
            scope.spawn(|| {
                let mut answers = 0u64;
                while !is_over.load(Ordering::Relaxed) {
                    answers += u64::from(asks());
                }
                answers
            })
        });
        let outcome = Attach::to(pid).mode("full").duration(WINDOW).run();
        is_over.store(true, Ordering::Relaxed);
        let answers: u64 = asking.into_iter().filter_map(|asks| asks.join().ok()).sum();
        (outcome, answers)
    });
    ensure!(answers > 200, "only {answers} answers were given");
    outcome?.captured()
}

/// Checks that the causes add up, and that nearly all of the time has one. Only the latter depends on the load of the
/// machine.
fn is_explained(capture: &Capture) -> Result<Verdict> {
    let total: u64 = capture.by_cause.values().map(|cause| cause.total_ns).sum();
    let causes = capture.full.as_ref().and_then(|full| full.causes.as_ref());
    let causes = causes.context("no causes")?;
    ensure!(
        causes.imbalance_ns == 0 && causes.runnable_ns == total,
        "{causes:?}, {total} ns by cause"
    );
    ensure!(total > 10_000_000, "goroutines waited only {total} ns");
    let unknown = capture
        .by_cause
        .iter()
        .find(|(cause, _)| cause.0 == Cause::Unknown)
        .map_or(0, |(_, cause)| cause.total_ns);
    let share = unknown as f64 / total as f64;
    println!("unknown: {:.2} % of {total} ns", share * 100.0);
    Ok(Verdict::unless(share >= UNKNOWN, || {
        format!("{:.1} % of the waiting is not known why", share * 100.0)
    }))
}

#[test]
fn prometheus() -> Result<()> {
    let _one = machine();
    let server = Prometheus::start_alone()?;
    let asks = || http::get(server.address(), "/metrics").is_ok_and(|answer| answer.status == 200);
    once_more(|| is_explained(&under_load(server.pid(), asks)?))
}

#[test]
fn caddy() -> Result<()> {
    let _one = machine();
    let server = Service::caddy()?;
    once_more(|| is_explained(&under_load(server.pid(), || server.answers())?))
}

#[test]
fn syncthing() -> Result<()> {
    let _one = machine();
    let server = Service::syncthing()?;
    once_more(|| is_explained(&under_load(server.pid(), || server.answers())?))
}
