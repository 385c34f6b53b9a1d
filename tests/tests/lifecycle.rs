//! Events during a capture: the target ends, becomes another program, forks; another capture of it is running; gmpscope
//! is stopped or killed. The target must live on, and nothing of ours may be left.

use std::time::Duration;

use anyhow::{Context, Result};
use gmpscope_tests::histogram::counts_agree;
use gmpscope_tests::kernel::{bpf_links_of, patched_text};
use gmpscope_tests::left_behind;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::{Attach, Variant, Workload, machine, toolchain};
use tracer_user::document::by_name::ByName;
use tracer_user::document::capture::{Capture, CaptureMode};
use tracer_user::stream::{EndedBy, Origin};

const MODES: [&str; 3] = ["passive", "sampled", "exact"];
const ALL_MODES: [&str; 4] = ["passive", "sampled", "exact", "full"];

/// Checks that the transitions up to the end fit one another, whatever ended the capture.
fn fits(capture: &Capture) -> bool {
    capture
        .full
        .as_ref()
        .is_none_or(|full| full.model.transitions > 100 && full.model.inferred.is_empty())
}

fn start(program: &'static str) -> Result<Workload> {
    Case::new(&toolchain::newest()?, Variant::Stripped, program).start()
}

#[test]
fn a_target_that_ends_meanwhile() -> Result<()> {
    let _one = machine();
    for mode in ALL_MODES {
        let mut w = start("exits_early")?;
        let tracer = Attach::to(w.pid()).mode(mode).start()?;
        w.go()?;
        assert!(
            w.wait(Duration::from_secs(10))?.success(),
            "{mode}: it did not end as it would have alone"
        );
        let o = tracer.finish()?;
        assert_eq!(o.code(), 5, "{mode}: {}", o.stderr);
        let c = o.capture.expect("it is printed all the same");
        assert_eq!(c.capture.ended_by, EndedBy::TargetExit, "{mode}");
        assert!(!c.capture.complete, "{mode}");
        assert!(fits(&c), "{mode}: {:?}", c.full);
        if mode != "passive" {
            assert!(
                c.runnable_to_running.count > 100,
                "{mode}: {:?}",
                c.runnable_to_running.count
            );
        }
    }
    Ok(())
}

#[test]
fn a_target_that_is_killed_meanwhile() -> Result<()> {
    let _one = machine();
    for mode in ALL_MODES {
        let mut w = start("mixed")?;
        let tracer = Attach::to(w.pid()).mode(mode).start()?;
        w.go()?;
        std::thread::sleep(Duration::from_millis(100));
        w.signal(libc::SIGKILL);
        w.wait(Duration::from_secs(10))?;
        let o = tracer.finish()?;
        assert_eq!(o.code(), 5, "{mode}: {}", o.stderr);
        let c = o.capture.expect("a capture");
        assert_eq!(c.capture.ended_by, EndedBy::TargetExit, "{mode}");
        assert!(fits(&c), "{mode}: {:?}", c.full);
    }
    Ok(())
}

#[test]
fn a_target_that_becomes_another_program() -> Result<()> {
    let _one = machine();
    for mode in ALL_MODES {
        let mut w = start("execs_other")?;
        let tracer = Attach::to(w.pid()).mode(mode).start()?;
        w.go()?;
        let o = tracer.finish()?;
        assert_eq!(o.code(), 5, "{mode}: {}", o.stderr);
        let c = o.capture.expect("a capture");
        assert_eq!(c.capture.ended_by, EndedBy::TargetExec, "{mode}");
        assert!(fits(&c), "{mode}: {:?}", c.full);
        assert!(w.alive(), "{mode}: the other program runs on");
    }
    Ok(())
}

#[test]
fn a_target_that_starts_itself_anew() -> Result<()> {
    let _one = machine();
    for mode in ALL_MODES {
        let case = Case::new(&toolchain::newest()?, Variant::PieStripped, "execs_other").args(&["-self"]);
        let mut w = case.start()?;
        let tracer = Attach::to(w.pid()).mode(mode).start()?;
        w.go()?;
        let o = tracer.finish()?;
        assert_eq!(o.code(), 5, "{mode}: {}", o.stderr);
        let c = o.capture.expect("a capture");
        assert_eq!(c.capture.ended_by, EndedBy::TargetExec, "{mode}");
        assert!(fits(&c), "{mode}: {:?}", c.full);
        // Its last two are created before the execve, the next program's eight or more after it.
        if let Some(created) = c.by_origin.get(&ByName(Origin::Created)) {
            let n = created.count;
            assert!(
                (1..=4).contains(&n),
                "{mode}: {n} goroutines, some of them the next program's"
            );
        }
        assert!(w.alive(), "{mode}: it runs on");
    }
    Ok(())
}

#[test]
fn a_target_that_forks() -> Result<()> {
    let _one = machine();
    for mode in MODES {
        let m = Case::new(&toolchain::newest()?, Variant::Stripped, "forks").measure(mode)?;
        m.verdict().map_err(anyhow::Error::msg)?;
        assert!(m.iterations > 10, "{mode}: only {} children", m.iterations);
    }
    Ok(())
}

#[test]
fn two_captures_at_once() -> Result<()> {
    let _one = machine();
    for modes in [
        ["exact", "exact"],
        ["sampled", "exact"],
        ["sampled", "sampled"],
        ["passive", "exact"],
    ] {
        let mut w = start("mixed")?;
        let first = Attach::to(w.pid()).mode(modes[0]).start()?;
        let second = Attach::to(w.pid()).mode(modes[1]).start()?;
        let after = w.go_during(Duration::from_millis(200))?;
        let own = after.latencies.since(&w.first.latencies);
        let captures = [second.interrupt()?.captured()?, first.interrupt()?.captured()?];
        for c in &captures {
            let mode = c.capture.mode;
            assert!(c.capture.complete, "{mode} of {modes:?}");
            assert!(
                c.capture.concurrent_captures >= 1,
                "{mode} of {modes:?} does not know of the other"
            );
            let hist = &c.runnable_to_running;
            let count = hist.count;
            match mode {
                CaptureMode::Passive => assert_eq!(count, own.count(), "{modes:?}"),
                CaptureMode::Sampled => assert!(
                    counts_agree(own.sampled_waits(hist, true).count(), count, 0.01, 5),
                    "{modes:?}: {count}"
                ),
                _ => assert!(count >= own.without_zeros().count(), "{modes:?}: {count}"),
            }
        }
        if modes[0] == modes[1] {
            let [a, b] = captures.map(|c| c.runnable_to_running.count);
            assert!(counts_agree(a, b, 0.001, 2), "{modes:?}: {a} and {b}");
        }
    }
    Ok(())
}

#[test]
fn nothing_is_left_however_it_ends() -> Result<()> {
    let _one = machine();
    for mode in ["sampled", "exact"] {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
            let mut w = start("mixed")?;
            let attach = Attach::to(w.pid()).mode(mode);
            left_behind::nothing(&mut w, &attach, signal)
                .with_context(|| format!("{mode}, signal {signal}"))?;
        }
    }
    Ok(())
}

#[test]
fn passive_puts_nothing_into_the_target() -> Result<()> {
    let _one = machine();
    let mut w = start("mixed")?;
    let tracer = Attach::to(w.pid()).mode("passive").start()?;
    w.go()?;
    std::thread::sleep(Duration::from_millis(100));
    assert!(bpf_links_of(tracer.pid())?.is_empty());
    assert_eq!(patched_text(w.pid())?, Vec::<u64>::new());
    let c = tracer.interrupt()?.captured()?;
    assert_eq!(c.capture.probe_hits, 0);
    Ok(())
}

#[test]
fn a_binary_that_was_replaced_or_removed() -> Result<()> {
    let _one = machine();
    let t = toolchain::newest()?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("program");
    for mode in MODES {
        std::fs::copy(Variant::Stripped.build(&t, "mixed")?, &path)?;
        let mut w = Workload::start(&path, 2, &[])?;
        std::fs::remove_file(&path)?;
        // Another program under the same name: the old sites would be inside its instructions.
        std::fs::copy(Variant::Stripped.build(&t, "spawn")?, &path)?;
        let tracer = Attach::to(w.pid()).mode(mode).start()?;
        w.go_during(Duration::from_millis(100))?;
        let c = tracer.interrupt()?.captured()?;
        assert!(
            c.runnable_to_running.count > 100,
            "{mode}: {}",
            c.runnable_to_running.count
        );
        drop(w);
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

#[test]
fn the_duration_is_kept() -> Result<()> {
    let _one = machine();
    for mode in ALL_MODES {
        let mut w = start("mixed")?;
        w.go()?;
        let c = Attach::to(w.pid())
            .mode(mode)
            .duration(Duration::from_millis(400))
            .run()?
            .captured()?;
        assert_eq!(c.capture.ended_by, EndedBy::Duration, "{mode}");
        let off = c.capture.duration_ns.abs_diff(400_000_000);
        assert!(off < 100_000_000, "{mode}: {} ns", c.capture.duration_ns);
        assert!(c.runnable_to_running.count > 100, "{mode}");
    }
    Ok(())
}

#[test]
fn very_many_goroutines() -> Result<()> {
    let _one = machine();
    for mode in MODES {
        let m = Case::new(&toolchain::newest()?, Variant::Stripped, "many_goroutines").measure(mode)?;
        m.verdict().map_err(anyhow::Error::msg)?;
        let g = m.capture.goroutines.as_ref();
        // The walk over them may be cut short and scaled up, but the runtime's own count of them is exact.
        if let Some(g) = g {
            assert!((90_000..110_000).contains(&g.live), "{mode}: {g:?}");
        }
    }
    Ok(())
}
