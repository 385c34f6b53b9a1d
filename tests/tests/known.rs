//! Compares with known answers.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use gmpscope_tests::histogram::quantile;
use gmpscope_tests::run::Attach;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::workload::Workload;
use gmpscope_tests::{Variant, environment, machine, toolchain};
use tracer_user::document::by_name::ByName;
use tracer_user::document::capture::CaptureInfo;
use tracer_user::document::hist::Hist;
use tracer_user::stream::{LossCause, Origin};

const MS: u64 = 1_000_000;

/// Counts waits whose bucket lies wholly in [low, high].
fn between(h: &Hist, low: u64, high: u64) -> u64 {
    let mut below = 0;
    let mut n = 0;
    for b in &h.buckets {
        let width = (b.le_ns as f64 * h.resolution) as u64;
        if below.max(b.le_ns.saturating_sub(width)) >= low.saturating_sub(width) && b.le_ns <= high + width {
            n += b.count;
        }
        below = b.le_ns;
    }
    n
}

/// Counts waits of at least `low`, including those of the bucket that holds the bound.
fn at_least(h: &Hist, low: u64) -> u64 {
    h.buckets.iter().filter(|b| b.le_ns >= low).map(|b| b.count).sum()
}

fn newest(program: &'static str) -> Result<Case> {
    Ok(Case::new(&toolchain::newest()?, Variant::Stripped, program))
}

#[test]
fn a_spinner_makes_others_wait_one_preemption_step() -> Result<()> {
    let _one = machine();
    let time = if environment::full() { 2000 } else { 1000 };
    let case = newest("spinner")?
        .gomaxprocs(1)
        .during(Duration::from_millis(time));
    let m = case.measure("exact")?;
    m.verdict().map_err(anyhow::Error::msg)?;
    // sysmon preempts after 10 ms at the earliest, and has looked again after 20 ms at the latest. Another program on
    // the machine can make it later, by the CPU time that it takes, but nothing makes it earlier.
    let preempted = m
        .capture
        .by_origin
        .get(&ByName(Origin::Preempted))
        .context("none was preempted")?;
    let latest = (25.0 * MS as f64 / m.share()) as u64;
    let steps = between(preempted, 10 * MS, latest);
    let early = preempted.count - at_least(preempted, 9 * MS);
    assert!(
        steps * 10 >= preempted.count * 7 && steps >= 5 && early * 5 <= preempted.count,
        "{steps} of {} in 10 ms to {latest} ns, {early} before: {:?}",
        preempted.count,
        preempted.buckets
    );
    Ok(())
}

#[test]
fn the_kth_of_those_released_at_once_waits_k_times_the_loop() -> Result<()> {
    let _one = machine();
    let (n, looped) = (16_u64, 500_000_u64);
    let case = newest("release")?
        .gomaxprocs(1)
        .args(&["-goroutines", "16", "-loop", "500us"])
        .during(Duration::from_millis(1500));
    let m = case.measure("exact")?;
    m.verdict().map_err(anyhow::Error::msg)?;
    let unblocked = m
        .capture
        .by_origin
        .get(&ByName(Origin::Unblocked))
        .context("none was unblocked")?;
    let rounds = m.iterations;
    assert!(rounds >= 10, "only {rounds} rounds");
    // One goroutine of each round waits k loops, so n - k of each wait longer than k - 1/2. Other programs on the
    // machine make waits longer: upper bounds grow by their share, and the longest wait has none.
    let above = 1.25 / m.share();
    for k in 1..n {
        let longer = at_least(unblocked, k * looped - looped / 2) as f64;
        let expected = (rounds * (n - k)) as f64;
        assert!(
            longer >= 0.9 * expected && (k > n / 2 || longer <= above * expected),
            "{longer} waits of more than {k} - 1/2 loops in {rounds} rounds, not {expected}: {:?}",
            unblocked.buckets
        );
    }
    // Together: 0 + 1 + … + 15 loops a round.
    if let Some(sum) = unblocked.sum_ns {
        let expected = rounds * looped * (n * (n - 1) / 2);
        let ratio = sum as f64 / expected as f64;
        assert!(
            (0.95..1.2 * above).contains(&ratio),
            "all waits together are {ratio} of what they must be"
        );
    }
    Ok(())
}

#[test]
fn sixty_four_on_two_ps_wait_sixty_two_times_the_window() -> Result<()> {
    let _one = machine();
    let m = newest("oversubscribed")?
        .during(Duration::from_millis(1000))
        .measure("exact")?;
    m.verdict().map_err(anyhow::Error::msg)?;
    let h = &m.capture.runnable_to_running;
    // Little's law: the mean number of runnable goroutines is the sum of their waits over the time.
    let sum: f64 = match h.sum_ns {
        Some(s) => s as f64,
        None => h
            .buckets
            .iter()
            .map(|b| b.count as f64 * b.le_ns as f64 * (1.0 - h.resolution / 2.0))
            .sum(),
    };
    // The window includes the quiet moments at both edges, so it is a little less.
    let runnable = sum / (m.to_ns - m.from_ns) as f64;
    assert!((50.0..63.5).contains(&runnable), "{runnable} runnable at a time");
    // Each waits for at least 31 turns of 100 µs on each P.
    let (_, p50) = quantile(h, 0.5).context("no median")?;
    assert!(p50 > 31 * 90_000, "median {p50} ns");
    Ok(())
}

#[test]
fn exact_counts_what_was_done() -> Result<()> {
    let _one = machine();
    for t in toolchain::selection()? {
        let m = Case::new(&t, Variant::Stripped, "gosched_storm").measure("exact")?;
        let yielded = m
            .capture
            .by_origin
            .get(&ByName(Origin::Yielded))
            .map_or(0, |h| h.count);
        assert!(
            yielded.abs_diff(m.iterations) <= m.iterations / 500 + 70,
            "Go {}: {} Gosched, {yielded} yielded",
            t.version(),
            m.iterations
        );
        let m = Case::new(&t, Variant::Stripped, "spawn").measure("exact")?;
        let created = m
            .capture
            .by_origin
            .get(&ByName(Origin::Created))
            .map_or(0, |h| h.count);
        assert!(
            created.abs_diff(m.iterations) <= m.iterations / 500 + 20,
            "Go {}: {} go statements, {created} created",
            t.version(),
            m.iterations
        );
    }
    Ok(())
}

/// 100,000 goroutines at a time are more than the kernel's table of stamps has room for, and only a thousand of them are
/// runnable at once.
#[test]
fn goroutines_that_come_and_go_are_all_counted() -> Result<()> {
    const GOROUTINES: u64 = 300_000;
    let _one = machine();
    let mut workload = newest("crowds")?.start()?;
    let tracer = Attach::to(workload.pid()).mode("exact").start()?;
    let done = workload.go_for(GOROUTINES)?;
    // A wait that is not counted makes the capture incomplete, and its status 5.
    let capture = tracer.interrupt()?.captured()?;
    assert_eq!(done.iterations - workload.first.iterations, GOROUTINES);
    let lost = &capture.capture.lost_by_cause;
    assert!(
        !lost.contains_key(&ByName(LossCause::StampsFull)) && !lost.contains_key(&ByName(LossCause::Unseen)),
        "{lost:?}"
    );
    let count = |origin| capture.by_origin.get(&ByName(origin)).map_or(0, |h| h.count);
    // The runtime makes some for itself.
    let created = count(Origin::Created);
    assert!(
        (GOROUTINES..GOROUTINES + 50).contains(&created),
        "{created} of {GOROUTINES} goroutines are counted as created"
    );
    assert!(
        count(Origin::Unblocked) >= GOROUTINES,
        "{} of {GOROUTINES} goroutines are counted as released",
        count(Origin::Unblocked)
    );
    Ok(())
}

#[test]
fn yields_do_not_hide_the_waits() -> Result<()> {
    let _one = machine();
    let (yields, waiters, looped) = (245, 4, 200_000);
    for mode in ["exact", "full"] {
        let m = newest("yields")?
            .gomaxprocs(1)
            .during(Duration::from_millis(1000))
            .measure(mode)?;
        m.verdict().map_err(anyhow::Error::msg)?;
        let (all, rounds) = (&m.capture.runnable_to_running, m.iterations);
        assert!(rounds >= 50, "{mode}: only {rounds} rounds");
        let waits = m
            .capture
            .without_yields
            .as_ref()
            .context("yields are not kept apart")?;
        let left_out = all.count - waits.count;
        assert!(
            left_out.abs_diff(rounds * yields) <= rounds * yields / 100 + 70,
            "{mode}: {left_out} yields in {rounds} rounds"
        );
        assert_eq!(left_out, m.capture.yields());
        assert!(
            left_out * 100 >= all.count * 97,
            "{mode}: {left_out} of {}",
            all.count
        );
        assert!(
            waits.count >= rounds * waiters,
            "{mode}: {} waits in {rounds} rounds",
            waits.count
        );
        // In each round one short wait of the goroutine that yields, and those of one to four loops.
        let (_, of_all) = quantile(all, 0.5).context("no median")?;
        let (_, of_waits) = quantile(waits, 0.5).context("no median")?;
        let most = (3 * looped) as f64 / m.share();
        assert!(
            of_all < looped / 2 && of_waits > looped * 3 / 2 && (of_waits as f64) < most,
            "{mode}: the median of all waits is {of_all} ns, without yields {of_waits} ns"
        );
    }
    Ok(())
}

/// What one capture claims of its overhead.
#[derive(Debug)]
struct Claims {
    /// The ratio by the program's own clock and count.
    own: f64,
    /// The ratio that gmpscope measured, over the program's own.
    measured: f64,
    /// The bounds of the predicted ratio, over the program's own.
    low: f64,
    high: f64,
    /// The ratio that is stated, over the program's own.
    stated: f64,
}

impl Claims {
    fn of(capture: &CaptureInfo, own: f64) -> Result<Self> {
        let measured = capture.overhead_measured.context("it was not measured")?;
        let predicted = capture.overhead_predicted.context("it was not predicted")?;
        let stated = capture.overhead_ratio.context("no ratio is stated")?;
        Ok(Self {
            own,
            measured: measured.ratio / own,
            low: predicted.low / own,
            high: predicted.high.map_or(f64::INFINITY, |high| high / own),
            stated: stated / own,
        })
    }

    fn median(all: &[Self], part: fn(&Self) -> f64) -> f64 {
        let mut parts: Vec<f64> = all.iter().map(part).collect();
        parts.sort_by(f64::total_cmp);
        parts[parts.len() / 2]
    }
}

/// The overhead that a capture states is that of the program's own clock and count. On a virtual machine the cost of an
/// iteration without probes differs by up to a half between two moments. So each capture is compared with the moments just
/// before and just after it, and of several captures in turn the medians count.
#[test]
fn the_measured_overhead_is_that_of_the_programs_own_clock() -> Result<()> {
    const ROUNDS: usize = 3;
    let _one = machine();
    let binary = Variant::Stripped.build(&toolchain::newest()?, "pingpong")?;
    let mut program = Workload::start(&binary, 1, &[])?;
    program.go()?;
    sleep(Duration::from_millis(300));
    let mut before = cpu_per_iteration(&mut program)?;
    for (mode, least) in [("sampled", 1.1), ("exact", 4.0), ("full", 5.0)] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let tracer = Attach::to(program.pid()).mode(mode).start()?;
            // The cost of a hit is measured first, on CPUs that the program needs, too.
            sleep(Duration::from_millis(300));
            let during = cpu_per_iteration(&mut program)?;
            let capture = tracer.interrupt()?.captured()?.capture;
            let after = cpu_per_iteration(&mut program)?;
            let own = during / (before * after).sqrt();
            rounds.push(Claims::of(&capture, own)?);
            before = after;
        }
        let median = |part: fn(&Claims) -> f64| Claims::median(&rounds, part);
        let is_own = 0.67..1.5;
        assert!(
            is_own.contains(&median(|it| it.measured)) && median(|it| it.own) > least,
            "{mode}: measured: {rounds:#?}"
        );
        assert!(
            median(|it| it.low) < 1.5 && median(|it| it.high) > 1.0 / 1.5,
            "{mode}: predicted: {rounds:#?}"
        );
        assert!(
            is_own.contains(&median(|it| it.stated)),
            "{mode}: stated: {rounds:#?}"
        );
    }
    Ok(())
}

/// CPU time of a program per iteration, in nanoseconds, over 0.4 s.
fn cpu_per_iteration(program: &mut Workload) -> Result<f64> {
    let begin = program.count()?;
    sleep(Duration::from_millis(400));
    let end = program.count()?;
    Ok((end.cpu_ns - begin.cpu_ns) as f64 / (end.iterations - begin.iterations) as f64)
}
