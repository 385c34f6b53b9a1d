//! Compares with the runtime itself: the program parks at both edges of the window and prints its own
//! `/sched/latencies:seconds`. `passive` agrees bucket by bucket, with equal counts; `sampled` has its count and
//! quantiles; `exact` pairs every wait.

use std::time::Duration;

use anyhow::Result;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::{Variant, environment, machine, toolchain};
use tracer_user::document::capture::CaptureMode;

const MODES: [&str; 3] = ["passive", "sampled", "exact"];

/// Runs all cases in all modes, and fails at the end with everything that disagreed.
fn all_agree(cases: &[Case], modes: &[&str]) -> Result<()> {
    let _one = machine();
    let mut wrong = Vec::new();
    for case in cases {
        for mode in modes {
            wrong.extend(case.agrees(mode, false).err());
        }
    }
    anyhow::ensure!(
        wrong.is_empty(),
        "{} of {} disagree:\n{}",
        wrong.len(),
        cases.len() * modes.len(),
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn every_version_and_build_in_every_mode() -> Result<()> {
    let variants = [
        Variant::Plain,
        Variant::Stripped,
        Variant::Pie,
        Variant::PieStripped,
    ];
    let mut cases = Vec::new();
    for (i, t) in toolchain::selection()?.iter().enumerate() {
        for (j, v) in variants.into_iter().enumerate() {
            // The fast subset takes one build of each version, a different one each time.
            if environment::full() || j == 3 - i % 4 {
                cases.push(Case::new(t, v, "mixed"));
            }
        }
    }
    all_agree(&cases, &MODES)
}

#[test]
fn cgo() -> Result<()> {
    let selection = toolchain::selection()?;
    let mut cases = Vec::new();
    for t in &selection {
        cases.push(Case::new(t, Variant::CgoPie, "cgo"));
        if environment::full() {
            cases.push(Case::new(t, Variant::Cgo, "cgo"));
        }
    }
    all_agree(
        if environment::full() {
            &cases
        } else {
            &cases[cases.len() - 1..]
        },
        &MODES,
    )
}

#[test]
fn profile_guided() -> Result<()> {
    let mut cases = Vec::new();
    for t in toolchain::selection()?.iter().filter(|t| t.minor() >= 21) {
        cases.push(Case::new(t, Variant::PgoStripped, "mixed"));
        if environment::full() {
            cases.push(Case::new(t, Variant::Pgo, "spawn"));
        }
    }
    all_agree(&cases, &MODES)
}

/// Builds for debuggers: the runtime's own compare-and-swap and its clock are calls in them. Package runtime is
/// compiled with optimisations all the same, so that one of the two is enough of each version.
#[test]
fn without_inlining() -> Result<()> {
    let newest = toolchain::newest()?;
    let mut cases = Vec::new();
    for t in toolchain::selection()? {
        // Up to Go 1.25 the end of a wait is the call of the clock, later that of the histogram.
        if environment::full() || t.minor() >= 25 {
            cases.push(Case::new(&t, Variant::NoInline, "mixed"));
        }
    }
    if environment::full() {
        cases.push(Case::new(&newest, Variant::NoOpt, "mixed"));
    }
    all_agree(&cases, &["passive", "sampled", "exact", "full"])
}

/// A version that is not a release of the Go project: the layout is that of a neighbour, and every output says so.
#[test]
fn versions_of_vendors() -> Result<()> {
    let _one = machine();
    let mut seen = 0;
    for t in toolchain::selection()? {
        let (version, like) = match t.minor() {
            19 => ("go1.19.13-fips", "go1.19.8"),
            22 => ("go1.22.9 (Red Hat 1.22.9-1.el9)", "go1.22.10"),
            24 => ("go1.24rc1", "go1.24.11"),
            25 => ("go1.25.5 (Red Hat 1.25.5-1.el9) X:strictfipsruntime", "go1.25.5"),
            27 => ("devel go1.28-abcdef Mon Nov 30 10:00:00 2026", "go1.27.3"),
            _ => continue,
        };
        let case = Case::new(&t, Variant::Version(version), "mixed");
        for mode in ["passive", "sampled", "exact", "full"] {
            let m = case.agrees(mode, false).map_err(anyhow::Error::msg)?;
            let expected = format!("that of {like}, unproven for {version}, live invariants hold");
            let layout = m.capture.target.layout.as_ref();
            assert_eq!(
                layout.map(|layout| layout.raw()),
                Some(expected.as_str()),
                "{mode}"
            );
            let mut notes = m.capture.capture.notes.iter();
            assert!(notes.any(|note| note.raw().contains(&expected)), "{mode}");
            seen += 1;
        }
    }
    anyhow::ensure!(seen > 0, "no toolchain: {}", environment::HINT);
    Ok(())
}

#[test]
fn experiments() -> Result<()> {
    let mut cases = Vec::new();
    for t in toolchain::all()? {
        match t.minor() {
            25 => cases.push(Case::new(&t, Variant::Experiment("greenteagc"), "mixed")),
            27 if environment::full() => {
                cases.push(Case::new(&t, Variant::Experiment("nogreenteagc"), "mixed"));
            }
            _ => {}
        }
    }
    anyhow::ensure!(
        !cases.is_empty(),
        "no toolchain of Go 1.25: {}",
        environment::HINT
    );
    all_agree(&cases, &MODES)
}

#[test]
fn every_kind_of_load() -> Result<()> {
    let mut cases = Vec::new();
    for t in toolchain::few()? {
        for (program, procs) in [
            ("pingpong", 1),
            ("gosched_storm", 2),
            ("spawn", 2),
            ("pool", 2),
            ("oversubscribed", 2),
            ("forks", 2),
            ("churn", 2),
        ] {
            cases.push(
                Case::new(&t, Variant::Stripped, program)
                    .gomaxprocs(procs)
                    .during(Duration::from_millis(200)),
            );
        }
    }
    let cases = if environment::full() {
        cases
    } else {
        cases.split_off(cases.len() - 7)
    };
    all_agree(&cases, &MODES)
}

#[test]
fn an_idle_program_has_no_waits() -> Result<()> {
    let _one = machine();
    let case = Case::new(&toolchain::newest()?, Variant::Stripped, "idle");
    for mode in MODES {
        let m = case.measure(mode)?;
        m.verdict().map_err(anyhow::Error::msg)?;
        assert!(
            m.capture.runnable_to_running.count < 60,
            "{mode}: {:?}",
            m.capture.runnable_to_running
        );
    }
    Ok(())
}

#[test]
fn without_parking_passive_lies_between_two_readings() -> Result<()> {
    let _one = machine();
    for t in toolchain::selection()? {
        let mut w = Case::new(&t, Variant::Stripped, "mixed").start()?;
        w.go()?;
        std::thread::sleep(Duration::from_millis(100));
        let outer_from = w.count()?;
        let tracer = gmpscope_tests::Attach::to(w.pid()).mode("passive").start()?;
        let inner_from = w.count()?;
        std::thread::sleep(Duration::from_millis(300));
        let inner_to = w.count()?;
        let capture = tracer.interrupt()?.captured()?;
        let outer_to = w.count()?;
        let seen = capture.runnable_to_running.count + capture.runnable_to_running.excluded_zero.unwrap_or(0);
        let least = inner_to.latencies.since(&inner_from.latencies).count();
        let most = outer_to.latencies.since(&outer_from.latencies).count();
        assert!(
            (least..=most).contains(&seen),
            "Go {}: {seen} not in {least}..={most}",
            t.version()
        );
    }
    Ok(())
}

#[test]
fn auto_samples_where_it_can() -> Result<()> {
    let _one = machine();
    let m = Case::new(&toolchain::newest()?, Variant::Stripped, "mixed").measure("auto")?;
    m.verdict().map_err(anyhow::Error::msg)?;
    assert_eq!(
        m.capture.capture.mode,
        CaptureMode::Sampled,
        "{:?}",
        m.capture.capture.mode_reason
    );
    assert!(!m.capture.by_creation_site.is_empty());
    Ok(())
}

#[test]
fn creation_sites_are_the_functions_of_the_go_statements() -> Result<()> {
    let _one = machine();
    for t in toolchain::selection()? {
        let m = Case::new(&t, Variant::Stripped, "spawn").measure("sampled")?;
        let sites = &m.capture.by_creation_site;
        let spawner = sites
            .iter()
            .find(|(name, _)| name.raw().starts_with("main.main.func"))
            .map(|(_, h)| h.count);
        let all = m.capture.runnable_to_running.count;
        // Nearly all waits are those of the goroutines that `spawn` makes in its Run.
        assert!(
            spawner.unwrap_or(0) * 10 >= all * 9,
            "Go {}: {spawner:?} of {all}: {:?}",
            t.version(),
            sites.keys()
        );
        assert_eq!(sites.values().map(|h| h.count).sum::<u64>(), all);
    }
    Ok(())
}
