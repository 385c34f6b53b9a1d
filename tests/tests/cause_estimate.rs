//! Why goroutines wait, without a probe: samples of a capture beside the events of mode `full` in the same capture, and
//! the daemon's figures of a program whose queues are known.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gmpscope_tests::again::{Verdict, once_more};
use gmpscope_tests::estimate::pressed::Pressed;
use gmpscope_tests::estimate::{Window, windows};
use gmpscope_tests::exposition::Exposition;
use gmpscope_tests::run::Attach;
use gmpscope_tests::surroundings::Quota;
use gmpscope_tests::{Daemon, Variant, Workload, machine, toolchain};
use tempfile::TempDir;
use tracer_user::document::capture::Capture;
use tracer_user::model::sched::Cause;

/// The length of a window, which has some fifty samples.
const WINDOW: Duration = Duration::from_millis(500);
/// Windows of each workload where it is counted how many intervals hold.
const WINDOWS: u32 = 34;
/// Windows where means are compared.
const WINDOWS_OF_MEANS: u32 = 12;
/// How much longer a capture is than its windows: the states are not known at once.
const UNKNOWN: Duration = Duration::from_secs(1);
/// The mean width of intervals.
const WIDEST: f64 = 0.7;
/// Goroutines that compute on the only P: all but one wait.
const SPINNERS: &str = "6";

/// A workload, and the causes that it has by its making.
struct Made {
    pressed: fn() -> Result<Pressed>,
    causes: &'static [Cause],
    /// The share that the last of them has at least.
    least: f64,
}

/// Captures goroutines that compute, in mode `full` and with samples, for so many windows.
fn captured(pressed: &Pressed, count: u32) -> Result<(Capture, Vec<Window>)> {
    let dir = tempfile::tempdir()?;
    let recording = dir.path().join("both.gmps");
    let binary = Variant::Stripped.build(&toolchain::newest()?, "spinner")?;
    let mut workload = pressed.start(&binary, &["-spinners", SPINNERS])?;
    workload.go()?;
    let capture = Attach::to(workload.pid())
        .mode("full")
        .duration(WINDOW * count + UNKNOWN)
        .arg("--sample-rate")
        .arg("100")
        .arg("--record")
        .arg(&recording.display().to_string())
        .run()?
        .captured()?;
    let windows = windows(&recording, WINDOW)?;
    ensure!(
        windows.len() + 2 >= count as usize,
        "{pressed:?}: {} windows",
        windows.len()
    );
    Ok((capture, windows))
}

#[test]
fn intervals_hold_what_full_saw_in_nine_of_ten_windows() -> Result<()> {
    let _one = machine();
    let (mut of_all, mut held_of_all) = (0, 0);
    for made in [
        Made {
            pressed: || Ok(Pressed::Free),
            causes: &[Cause::PBusy],
            least: 0.9,
        },
        Made {
            pressed: Pressed::crowded,
            causes: &[Cause::PBusy, Cause::OsPreempted],
            least: 0.3,
        },
        Made {
            pressed: || Pressed::throttled(Quota::of_percent(50)),
            causes: &[Cause::PBusy, Cause::CgroupThrottled],
            least: 0.3,
        },
    ] {
        let pressed = (made.pressed)()?;
        let (_, windows) = captured(&pressed, WINDOWS)?;
        let last = made.causes.last().copied().context("no cause")?;
        let mean = windows.iter().map(|window| window.share(last)).sum::<f64>() / windows.len() as f64;
        ensure!(mean >= made.least, "full says {mean} of {last:?}");
        let (mut all, mut held, mut width) = (0, 0, 0.0);
        let mut missed = Vec::new();
        for window in &windows {
            all += 1;
            let (low, high) = window.interval(last);
            width += high - low;
            if window.holds(made.causes) {
                held += 1;
            } else {
                missed.push(format!(
                    "{last:?}: {:.3} is not in {low:.3} to {high:.3}",
                    window.share(last)
                ));
            }
        }
        println!("{pressed:?}: {held} of {all}; {missed:?}");
        // Of the 34 windows of one workload chance may take three more than of all hundred.
        ensure!(
            held * 10 >= all * 8,
            "{pressed:?}: {held} of {all}:\n{}",
            missed.join("\n")
        );
        of_all += all;
        held_of_all += held;
        // An interval that holds everything would say nothing.
        let width = width / f64::from(all);
        ensure!(width < WIDEST, "{pressed:?}: the intervals are {width} wide");
    }
    ensure!(held_of_all * 10 >= of_all * 9, "{held_of_all} of {of_all}");
    Ok(())
}

#[test]
fn the_mean_number_of_waiting_goroutines_and_their_mean_wait_are_those_of_full() -> Result<()> {
    let _one = machine();
    let (capture, windows) = captured(&Pressed::Free, WINDOWS_OF_MEANS)?;
    let estimates = windows.iter().filter_map(|window| window.estimate.as_ref());
    let sampled = estimates
        .clone()
        .map(|estimate| estimate.runnable_mean)
        .sum::<f64>();
    let sampled = sampled / windows.len() as f64;
    let (runnable, length) = windows.iter().fold((0, 0), |(runnable, length), window| {
        (runnable + window.runnable_ns, length + window.length_ns)
    });
    let seen = runnable as f64 / length as f64;
    ensure!((4.5..=5.5).contains(&seen), "full says {seen}");
    ensure!(
        (sampled / seen - 1.0).abs() < 0.1,
        "samples {sampled}, full {seen}"
    );
    // Spinners are preempted, so that none inherits a time slice: the bound is the mean.
    let waits: Vec<u64> = estimates.filter_map(|estimate| estimate.mean_wait_ns).collect();
    let by_little = waits.iter().sum::<u64>() as f64 / waits.len().max(1) as f64;
    let count = capture.runnable_to_running.count;
    let mean = seen * capture.capture.duration_ns as f64 / count.max(1) as f64;
    ensure!(
        (0.8..=1.3).contains(&(by_little / mean)),
        "by Little's law {by_little} ns, by {count} waits {mean} ns"
    );
    Ok(())
}

/// Captures an idle program in `passive` for so long, and returns what its samples say.
fn idle(time: Duration, args: &[&str]) -> Result<Window> {
    let dir = tempfile::tempdir()?;
    let recording = dir.path().join("idle.gmps");
    let binary = Variant::Stripped.build(&toolchain::newest()?, "idle")?;
    let mut workload = Workload::start(&binary, 2, &[])?;
    workload.go()?;
    let attach = Attach::to(workload.pid())
        .mode("passive")
        .duration(time)
        .arg("--record")
        .arg(&recording.display().to_string());
    let attach = args.iter().fold(attach, |attach, arg| attach.arg(arg));
    attach.run()?.captured()?;
    windows(&recording, WINDOW)?.pop().context("no window")
}

#[test]
fn an_idle_program_is_sampled_unless_that_is_switched_off() -> Result<()> {
    let _one = machine();
    once_more(|| {
        let estimate = idle(Duration::from_secs(2), &[])?.estimate;
        let estimate = estimate.context("no samples")?;
        // Where each takes longer, they become fewer: a CPU that wakes up from idling for one may need 0.2 ms. What the
        // runtime does by itself waits for a CPU that others have.
        let is_idle = estimate.samples >= 20 && estimate.some < 0.02 && estimate.runnable_mean < 0.02;
        Ok(Verdict::unless(!is_idle, || format!("{estimate:?}")))
    })?;
    let none = idle(Duration::from_millis(500), &["--sample-rate", "0"])?.estimate;
    ensure!(none.is_none(), "{none:?}");
    Ok(())
}

/// A program under a name that no other process has.
fn copied(dir: &TempDir, program: &str) -> Result<String> {
    let path = dir.path().join(program);
    std::fs::copy(Variant::Stripped.build(&toolchain::newest()?, program)?, &path)?;
    Ok(path.display().to_string())
}

#[test]
fn the_daemon_counts_how_long_goroutines_wait() -> Result<()> {
    let _one = machine();
    let dir = tempfile::tempdir()?;
    let (busy, idle) = (copied(&dir, "oversubscribed")?, copied(&dir, "idle")?);
    let folder = dir.path().display();
    let daemon = Daemon::start(&format!("[[target]]\nexe = \"{folder}/*\"\ntier = \"passive\"\n"))?;
    // 62 of 64 goroutines wait at each moment.
    let mut workload = Workload::start(Path::new(&busy), 2, &[])?;
    let mut sleeper = Workload::start(Path::new(&idle), 2, &[])?;
    for workload in [&mut workload, &mut sleeper] {
        workload.go()?;
        daemon.wait_for_tier(workload.pid(), "passive")?;
    }
    let read = |page: &Exposition, name: &str, exe: &str| page.sum(name, &[("exe", exe)]);
    const WAITED: &str = "gmpscope_runnable_seconds_total";
    const SOME: &str = "gmpscope_runnable_some_seconds_total";
    daemon.wait_for("the first samples", |page| {
        (read(page, WAITED, &busy) > 0.0).then_some(())
    })?;
    let (before, began) = (daemon.metrics()?, Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    let (after, took) = (daemon.metrics()?, began.elapsed().as_secs_f64());
    let rate = |name: &str, exe: &str| (read(&after, name, exe) - read(&before, name, exe)) / took;
    let waiting = rate(WAITED, &busy);
    // A page shows what was sampled up to a second and a half before.
    ensure!((50.0..=74.0).contains(&waiting), "{waiting} goroutines wait");
    let some = rate(SOME, &busy);
    ensure!((0.85..=1.15).contains(&some), "for {some} of the time");
    ensure!(
        rate(WAITED, &idle) < 0.05 && rate(SOME, &idle) < 0.05,
        "the idle one waits"
    );
    // There is nothing else to wait for than Ps, unless the machine is busy with other things.
    let labels = [("exe", busy.as_str()), ("cause", "p_busy")];
    let by_busy = after.sum(WAITED, &labels) - before.sum(WAITED, &labels);
    ensure!(
        by_busy / took > waiting * 0.5,
        "{by_busy} s of {waiting} a second"
    );
    Ok(())
}
