//! Mode `full` compared with `runtime/trace` of the same run, change by change, and with itself, where two of its figures
//! are about one thing; on a server that does everything at once; and its behaviour when its ring is too small.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::consistency::{disagreements, disagreements_of_clocks};
use gmpscope_tests::prometheus::Prometheus;
use gmpscope_tests::run::{Attach, Outcome, gmpscope_with};
use gmpscope_tests::scenario::Case;
use gmpscope_tests::transitions::compare;
use gmpscope_tests::transitions::table::{AGREED, must_agree};
use gmpscope_tests::{Variant, Workload, again, environment, http, machine, toolchain};
use tracer_user::document::by_name::ByName;
use tracer_user::model::sched::State;
use tracer_user::stream::LossCause;

fn agrees(case: &Case) -> std::result::Result<(), String> {
    let times = compared(case)?;
    if times.is_empty() {
        return Ok(());
    }
    again::announce(&format!("{}: {}", case.name(), times.join("; ")));
    match compared(case)? {
        times if times.is_empty() => Ok(()),
        times => Err(format!("{}: {}", case.name(), times.join("\n  "))),
    }
}

/// Compares once; returns the times that differ.
fn compared(case: &Case) -> std::result::Result<Vec<String>, String> {
    let compared = compare(case, &[]).map_err(|e| format!("{}: {e:#}", case.name()))?;
    let agreement = &compared.agreement;
    let full = compared.capture.full.as_ref();
    let lost = full.map_or(u64::MAX, |full| full.model.lost);
    let pairs = disagreements(&compared.capture);
    if agreement.share() < AGREED || lost != 0 || !pairs.is_empty() {
        return Err(format!(
            "{} {:?}: {} of {} changes matched, {} more, {lost} lost: {}\n  {}",
            case.name(),
            case.args,
            agreement.matched,
            agreement.theirs,
            agreement.more,
            agreement.examples.join("\n  "),
            pairs.join("\n  ")
        ));
    }
    Ok(disagreements_of_clocks(&compared.capture))
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
fn waiting_goroutines_are_reported_at_each_moment_and_with_their_place() -> Result<()> {
    let _one = machine();
    const WAITING: u64 = 5000;
    for toolchain in toolchain::selection()?.into_iter().filter(|t| t.minor() >= 22) {
        let name = format!("Go {}", toolchain.version());
        let binary = Variant::Stripped.build(&toolchain, "many_goroutines")?;
        let mut workload = Workload::start(&binary, 2, &["-waiting", &WAITING.to_string()])?;
        let tracer = Attach::to(workload.pid()).mode("full").start()?;
        workload.go_during(Duration::from_millis(500))?;
        let outcome = tracer.interrupt()?;
        ensure!(
            outcome.code() == 0,
            "{name}: {}: {}",
            outcome.code(),
            outcome.stderr
        );
        let capture = outcome.capture.expect("a capture");
        let full = capture.full.as_ref().expect("the part of full");
        let over_time = full.over_time.as_ref().expect("states over time");
        let moments = &over_time.goroutines[&ByName(State::Waiting)];
        ensure!(moments.len() >= 20, "{name}: {over_time:?}");
        // Besides the waiting ones there are main, the two that play, and the runtime's own.
        ensure!(
            moments
                .iter()
                .all(|count| (WAITING..WAITING + 40).contains(count)),
            "{name}: {moments:?}"
        );
        let span_ns = over_time.step_ns * moments.len() as u64;
        ensure!(
            span_ns <= capture.capture.duration_ns && span_ns * 2 > capture.capture.duration_ns,
            "{name}: {span_ns} of {}",
            capture.capture.duration_ns
        );
        let pairs = disagreements(&capture);
        ensure!(pairs.is_empty(), "{name}:\n{}", pairs.join("\n"));
        // All waiting goroutines have waited since they were first read, and so have the runtime's own.
        let stands = full.longest_waits.iter().any(|wait| {
            let site = wait.creation_site.as_ref().map_or("", |site| site.raw());
            wait.ongoing && wait.reason == "chan receive" && wait.goid.is_some() && site.starts_with("main.")
        });
        ensure!(stands, "{name}: {:?}", full.longest_waits);
        ensure!(
            full.churn.iter().all(|site| !site.grows),
            "{name}: {:?}",
            full.churn
        );
        ensure!(
            full.processors
                .iter()
                .any(|p| p.utilization > 0.0 && p.utilization <= 1.0),
            "{name}: {:?}",
            full.processors
        );
    }
    Ok(())
}

/// Reading their states takes longer than the rings hold out.
#[test]
fn beside_very_many_goroutines_nothing_is_lost() -> Result<()> {
    let _one = machine();
    const WAITING: u64 = 300_000;
    const WINDOW: Duration = Duration::from_secs(3);
    let binary = Variant::Stripped.build(&toolchain::newest()?, "many_goroutines")?;
    let waiting = WAITING.to_string();
    let mut workload = Workload::start(&binary, 2, &["-waiting", &waiting, "-pause", "0", "-turns"])?;
    let tracer = Attach::to(workload.pid())
        .mode("full")
        .arg("--no-threads")
        .duration(WINDOW)
        .start()?;
    workload.go_during(WINDOW)?;
    let outcome = tracer.finish()?;
    ensure!(
        outcome.code() == 0,
        "ended with {}: {}",
        outcome.code(),
        outcome.stderr
    );
    let capture = outcome.capture.expect("a capture");
    let full = capture.full.as_ref().expect("the part of full");
    ensure!(full.model.lost == 0, "{:?}", full.model);
    let valid_from = full.model.valid_from_ns.map(Duration::from_nanos);
    ensure!(
        valid_from.is_some_and(|from| from <= Duration::from_secs(2)),
        "{:?}",
        full.model
    );
    ensure!(
        capture.runnable_to_running.count > 10_000,
        "{} waits: {:?}",
        capture.runnable_to_running.count,
        full.model
    );
    let took = Duration::from_nanos(capture.capture.duration_ns);
    ensure!(took < WINDOW + WINDOW / 6, "the window was open for {took:?}");
    let states = full.over_time.as_ref().expect("states over time");
    let last = |state: State| {
        let moments = states.goroutines.get(&ByName(state));
        moments.and_then(|moments| moments.last()).copied().unwrap_or(0)
    };
    let there = last(State::Waiting) + last(State::Runnable) + last(State::Running);
    ensure!((WAITING..WAITING + 40).contains(&there), "{there} goroutines");
    Ok(())
}

#[test]
fn a_server_of_the_distribution_under_load_holds_nothing_that_does_not_fit() -> Result<()> {
    let _machine = machine();
    let folder = tempfile::tempdir()?;
    let recording = folder.path().join("x.gmps").display().to_string();
    // It scrapes itself, and we ask for the same page from four sides.
    let server = Prometheus::start_alone()?;
    let is_over = AtomicBool::new(false);
    let (captures, answers) = std::thread::scope(|scope| {
        let asking = [(); 4].map(|()| scope.spawn(|| ask_until(&is_over, server.address())));
        let captures = captures_of_it(&server, &recording);
        is_over.store(true, Ordering::Relaxed);
        let answers: u64 = asking.into_iter().filter_map(|asks| asks.join().ok()).sum();
        (captures, answers)
    });
    let captures = captures?;
    ensure!(answers > 200, "the server gave only {answers} answers");
    for outcome in &captures {
        let capture = outcome.capture.as_ref().context("no capture")?;
        ensure!(
            capture.capture.complete && capture.capture.lost_events == 0,
            "{:?}",
            capture.capture
        );
        let model = &capture.full.as_ref().context("no part of full")?.model;
        ensure!(model.transitions > 1_000, "{model:?}");
        ensure!(model.transitions == model.seen, "{model:?}");
        ensure!(
            model.inferred.is_empty() && model.inferred_after_loss == 0,
            "{model:?}"
        );
    }
    let live = captures.last().and_then(|outcome| outcome.json.as_deref());
    let replayed = gmpscope_with(["replay", recording.as_str(), "--format", "json"])?;
    ensure!(
        live.is_some() && live == replayed.json.as_deref(),
        "the replay differs: {}",
        replayed.stderr
    );
    Ok(())
}

/// Asks for the server's metrics again and again; returns how often it answered.
fn ask_until(is_over: &AtomicBool, server: SocketAddr) -> u64 {
    let mut answers = 0;
    while !is_over.load(Ordering::Relaxed) {
        answers += u64::from(http::get(server, "/metrics").is_ok_and(|answer| answer.status == 200));
    }
    answers
}

/// Captures in mode `full`, the last of them recorded. The others are short: it is at the begin of a capture, where the
/// states are read from memory, that a goroutine is most easily believed in a wrong one.
fn captures_of_it(server: &Prometheus, recording: &str) -> Result<Vec<Outcome>> {
    let full = |millis| {
        Attach::to(server.pid())
            .mode("full")
            .duration(Duration::from_millis(millis))
    };
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        outcomes.push(full(200).run()?);
    }
    outcomes.push(full(3_000).arg("--record").arg(recording).run()?);
    Ok(outcomes)
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
    // An incomplete capture is printed all the same, and its exit status says so.
    ensure!(
        outcome.code() == 5,
        "ended with {}: {}",
        outcome.code(),
        outcome.stderr
    );
    let capture = outcome.capture.expect("a capture that is not whole");
    let full = capture.full.as_ref().expect("the part of full");
    let dropped = capture
        .capture
        .lost_by_cause
        .get(&ByName(LossCause::TransitionsDropped))
        .copied();
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
