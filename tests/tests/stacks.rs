//! `--stacks`: where goroutines block, compared with what the runtime reports of the same goroutines.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::goroutines::{self, Goroutine};
use gmpscope_tests::run::Attach;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::{Toolchain, Variant, machine, toolchain};
use tracer_user::document::blocked::BlockedAt;
use tracer_user::document::blocked::Incomplete;
use tracer_user::document::by_name::ByName;
use tracer_user::document::capture::Capture;
use tracer_user::document::full::Full;
use tracer_user::escape::Untrusted;
use tracer_user::stream::LossCause;

/// The number of frames that are kept.
const DEPTH: usize = 32;

/// Runs the workload `blocked` under `--stacks`, then asks it where its goroutines are.
fn traced(t: &Toolchain, variant: Variant, stacks: &str) -> Result<(Capture, Vec<Goroutine>)> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("stacks");
    let path = file.to_str().context("a path of a temporary folder")?;
    let binary = variant.build(t, "blocked")?;
    let mut workload = gmpscope_tests::Workload::start(&binary, 2, &["-stacks", path])?;
    let tracer = Attach::to(workload.pid()).mode("full").arg(stacks).start()?;
    workload.go_during(Duration::from_millis(300))?;
    let capture = tracer.interrupt()?.captured()?;
    Ok((capture, goroutines::parse(&std::fs::read_to_string(&file)?)?))
}

fn full(capture: &Capture) -> Result<&Full> {
    capture.full.as_ref().context("the part of full")
}

/// The calls that the runtime prints: its own are hidden.
fn shown<'a>(calls: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    calls.filter(|call| !call.starts_with("runtime.")).collect()
}

/// Whether both were made by the same `go` statement.
fn has_same_creator(place: &BlockedAt, goroutine: &Goroutine) -> bool {
    place.created_at.as_ref().map(Untrusted::raw) == goroutine.created_at.as_deref()
}

/// Whether a place is the one where a goroutine blocks.
fn is_of(place: &BlockedAt, goroutine: &Goroutine) -> bool {
    let ours = shown(place.stack.iter().map(Untrusted::raw));
    let theirs = shown(goroutine.calls.iter().map(String::as_str));
    let same = match place.incomplete {
        None => ours == theirs,
        // The caller's frame pointer is gone.
        Some(Incomplete::Broken) => ours.len() == 1 && theirs.len() > 1 && theirs.starts_with(&ours),
        // Inlined calls come on top of the frames that are kept, those of the runtime are among them.
        Some(Incomplete::Cut) => {
            ours.len() + 8 > DEPTH && ours.len() < theirs.len() && theirs.starts_with(&ours)
        }
    };
    same && place.wait_reason == goroutine.does && has_same_creator(place, goroutine)
}

fn agrees(t: &Toolchain, variant: Variant) -> Result<()> {
    let (capture, goroutines) = traced(t, variant, "--stacks")?;
    let full = full(&capture)?;
    let blocked = goroutines.iter().filter(|goroutine| {
        goroutine.does != "running" && goroutine.calls.iter().any(|call| call.starts_with("main."))
            // The goroutine that serves the protocol is in a system call.
            && !goroutine.calls.iter().any(|call| call.starts_with("main.main "))
    });
    let mut found = 0;
    for goroutine in blocked {
        let alike = |place: &&BlockedAt| has_same_creator(place, goroutine);
        ensure!(
            full.blocked_at.iter().any(|place| is_of(place, goroutine)),
            "not there: {goroutine:#?}\nof the same go statement: {:#?}",
            full.blocked_at.iter().filter(alike).collect::<Vec<_>>()
        );
        found += 1;
    }
    ensure!(found == 10, "{found} goroutines of the workload block");
    let broken = full
        .blocked_at
        .iter()
        .filter(|p| p.incomplete == Some(Incomplete::Broken));
    ensure!(broken.count() == 1, "{:#?}", full.blocked_at);
    let info = full.stacks.clone().context("stacks")?;
    let placed: u64 = full
        .blocked_at
        .iter()
        .map(|p| p.waits.count + p.waits.ongoing)
        .sum();
    ensure!(
        info.walked == placed && info.lost_full + info.lost_unreadable == 0 && info.other_places == 0,
        "of {} stacks {placed} have their place: {info:?}",
        info.walked
    );
    Ok(())
}

#[test]
fn goroutines_block_where_the_runtime_says_that_they_are() -> Result<()> {
    let _one = machine();
    let newest = toolchain::newest()?;
    let mut wrong = Vec::new();
    for t in toolchain::selection()? {
        let mut variants = vec![Variant::Plain, Variant::PieStripped];
        if t.minor() == newest.minor() {
            variants.extend([Variant::Cgo, Variant::PgoStripped]);
        }
        for variant in variants {
            if let Err(e) = agrees(&t, variant) {
                wrong.push(format!("Go {} {}: {e:#}", t.version(), variant.name()));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn stacks_that_find_no_room_are_counted() -> Result<()> {
    let _one = machine();
    let (capture, _) = traced(&toolchain::newest()?, Variant::Stripped, "--stacks=2")?;
    let full = full(&capture)?;
    let info = full.stacks.clone().context("stacks")?;
    let placed: u64 = full
        .blocked_at
        .iter()
        .map(|p| p.waits.count + p.waits.ongoing)
        .sum();
    let lost = capture
        .capture
        .lost_by_cause
        .get(&ByName(LossCause::StacksFull))
        .copied();
    ensure!(info.different == 2, "{info:?}");
    ensure!(
        lost == Some(info.lost_full) && info.lost_full > 0,
        "{lost:?} {info:?}"
    );
    ensure!(
        info.walked == placed + info.lost_full + info.lost_unreadable,
        "of {} stacks {placed} have their place: {info:?}",
        info.walked
    );
    // The waits themselves are complete.
    ensure!(capture.capture.complete && capture.capture.lost_events == 0);
    ensure!(
        info.unknown.count + info.unknown.ongoing >= info.lost_full,
        "{info:?}"
    );
    Ok(())
}

#[test]
fn without_the_option_no_stack_is_reported() -> Result<()> {
    let _one = machine();
    let case = Case::new(&toolchain::newest()?, Variant::Stripped, "pingpong").gomaxprocs(1);
    let mut workload = case.start()?;
    let tracer = Attach::to(workload.pid()).mode("full").start()?;
    workload.go_for(1_000)?;
    let capture = tracer.interrupt()?.captured()?;
    let full = full(&capture)?;
    ensure!(full.stacks.is_none() && full.blocked_at.is_empty(), "{full:?}");
    Ok(())
}
