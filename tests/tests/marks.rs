//! Marks of a start, on whichever thread, compared with the clock of the program itself.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::start::{Ran, Traced};
use gmpscope_tests::{Variant, machine, toolchain};

/// Marks of events that happen only on request.
const WANTED: [&str; 3] = ["first_goroutine", "first_gc", "first_stw"];

fn run(binary: &Path, cause: &str) -> Result<Ran> {
    Traced::new(binary)?.env("SLOW_START", cause).run()
}

/// The time at which the program printed this word, on its own clock, relative to the start of its process.
fn said(ran: &Ran, word: &str) -> Result<u64> {
    let (_, at_ns) = *ran
        .said(word)
        .first()
        .with_context(|| format!("it never said {word}"))?;
    let start = ran.start()?;
    at_ns.checked_sub(start.t0_ns).context("said before it started")
}

#[test]
fn the_first_goroutine_collection_and_stop_are_where_an_init_asks_for_them() -> Result<()> {
    let _one = machine();
    let mut unprobed = Vec::new();
    for toolchain in toolchain::selection()? {
        for variant in [Variant::Plain, Variant::PieStripped] {
            let name = format!("Go {} {}", toolchain.version(), variant.name());
            let binary = variant.build(&toolchain, "slow_start")?;
            let ran = run(&binary, "collects")?;
            let start = ran.start()?;
            let phase = "init:gmpscope.test/workloads/slow_start/collects";
            let phase = start
                .phases
                .iter()
                .find(|p| p.name == phase)
                .context("no such phase")?;
            let at = |mark: &str| -> Result<u64> {
                let found = start.marks.iter().find(|m| m.name == mark);
                Ok(found
                    .with_context(|| format!("{name}: no {mark}: {:?}", start.marks))?
                    .at_ns)
            };
            let (gc, stw) = (at("first_gc")?, at("first_stw")?);
            let (begun, started, collected) = (
                said(&ran, "begun")?,
                said(&ran, "started")?,
                said(&ran, "collected")?,
            );
            // In the order of the source, and all in this phase. Where no instruction of newproc is cheap to probe (Go
            // 1.19), a note says so.
            let notes = &ran.capture.as_ref().context("no capture")?.capture.notes;
            if notes.iter().any(|note| note.raw().contains("runtime.newproc")) {
                unprobed.push(name.clone());
            } else {
                let goroutine = at("first_goroutine")?;
                ensure!(
                    (begun..=started).contains(&goroutine),
                    "{name}: {goroutine} is not in {begun}..={started}"
                );
            }
            for (mark, at_ns) in [("first_gc", gc), ("first_stw", stw)] {
                ensure!(
                    (started..=collected).contains(&at_ns),
                    "{name}: {mark} {at_ns} is not in {started}..={collected}"
                );
            }
            let within = phase.start_ns..=phase.start_ns + phase.duration_ns;
            ensure!(
                within.contains(&begun) && within.contains(&collected),
                "{name}: {within:?}"
            );
            // The control run has none of them before main.main.
            let control = run(&binary, "none")?;
            let marks = &control.start()?.marks;
            let main = marks
                .iter()
                .find(|m| m.name == "main.main")
                .context("no main.main")?
                .at_ns;
            let early: Vec<_> = marks
                .iter()
                .filter(|m| WANTED.contains(&m.name.raw()) && m.at_ns < main)
                .collect();
            ensure!(early.is_empty(), "{name}: the control has {early:?}");
        }
    }
    ensure!(
        unprobed.iter().all(|name| name.starts_with("Go 1.19")),
        "{unprobed:?}"
    );
    Ok(())
}
