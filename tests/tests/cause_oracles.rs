//! The time of causes compared with what others count on the same run: the kernel's run_delay of the thread that has the P,
//! the throttled time of a control group, the runtime's own histogram of stopped worlds, and `runtime/trace`. Each agrees
//! within 5 %.
//!
//! The workloads have the same number of runnable goroutines for as long as the cause holds, so that the time of the cause
//! is that number times what the other side counts. They do a given number of iterations from park to park, so that both
//! sides see the same, and it does not matter where a window begins.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::again::{self, Verdict};
use gmpscope_tests::causes::pathology::Way;
use gmpscope_tests::causes::{Reading, Running};
use gmpscope_tests::environment::monotonic_ns;
use gmpscope_tests::surroundings::placement::FOREMOST;
use gmpscope_tests::surroundings::{Cpus, Quota};
use gmpscope_tests::{Attach, Event, Variant, Workload, machine, oracle, toolchain};
use tracer_user::model::sched::Cause;

/// How far both sides may be apart.
const TOLERANCE: f64 = 0.05;

/// How many goroutines wait for the only P, of those that compute: all but one.
fn waiting(event: &Event) -> Result<u64> {
    let computers = event.number("computers")?;
    ensure!(computers > 1, "only {computers} goroutines compute");
    Ok(computers - 1)
}

/// Compares a time with what the other side counts, and fails at once if the capture contradicts itself.
fn compared(what: &str, reading: &Reading, ours_ns: u64, theirs_ns: u64) -> Result<Verdict> {
    let violations = reading.violations();
    ensure!(violations.is_empty(), "{what}: {}", violations.join("\n"));
    ensure!(
        theirs_ns > 100_000_000,
        "{what}: the other side counts {theirs_ns} ns"
    );
    let ratio = ours_ns as f64 / theirs_ns as f64;
    Ok(Verdict::unless((ratio - 1.0).abs() > TOLERANCE, || {
        format!(
            "{what}: {ours_ns} ns, the other side {theirs_ns} ns: a ratio of {ratio:.3}; {}",
            reading.describe()
        )
    }))
}

/// What the kernel has counted for a thread (Documentation/scheduler/sched-stats.rst).
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    on_cpu_ns: u64,
    run_delay_ns: u64,
}

/// The accounts of all threads of a process.
fn accounts(pid: u32) -> Result<BTreeMap<u32, Account>> {
    let mut accounts = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let entry = entry?;
        let tid: u32 = entry.file_name().to_string_lossy().parse()?;
        let text = fs::read_to_string(entry.path().join("schedstat"))?;
        let mut fields = text.split_whitespace().map(str::parse::<u64>);
        let mut next = || {
            fields
                .next()
                .with_context(|| format!("not a schedstat: {text:?}"))
        };
        let account = Account {
            on_cpu_ns: next()??,
            run_delay_ns: next()??,
        };
        accounts.insert(tid, account);
    }
    Ok(accounts)
}

/// The other process has the same weight, so that each has the CPU for half of the time, and an error of either side shows.
/// Bias: other threads of the program (sysmon) wait for the CPU, too, and are not counted, since they have no P.
#[test]
fn time_without_a_cpu_is_the_kernels_run_delay() -> Result<()> {
    const ITERATIONS: u64 = 1_000;
    let _one = machine();
    let way = Way {
        cpus: Cpus::Last,
        hogs: &[FOREMOST],
        ..Way::alone(Cause::OsPreempted)
    };
    again::once_more(|| {
        let mut running = Running::start(&way)?;
        let before = accounts(running.pid())?;
        let whole = running.capture_iterations(ITERATIONS)?;
        let spent = accounts(running.pid())?.into_iter().map(|(tid, after)| {
            let before = before.get(&tid).copied().unwrap_or_default();
            Account {
                on_cpu_ns: after.on_cpu_ns - before.on_cpu_ns,
                run_delay_ns: after.run_delay_ns - before.run_delay_ns,
            }
        });
        let spent: Vec<Account> = spent.collect();
        let has_p = spent
            .iter()
            .max_by_key(|account| account.on_cpu_ns)
            .context("no threads")?;
        let on_cpu_ns: u64 = spent.iter().map(|account| account.on_cpu_ns).sum();
        ensure!(
            has_p.on_cpu_ns * 10 > on_cpu_ns * 9,
            "the P was not on one thread: {spent:?}"
        );
        compared(
            "run_delay",
            &whole.reading,
            whole.reading.total_ns(Cause::OsPreempted),
            waiting(&whole.after)? * has_p.run_delay_ns,
        )
    })
}

/// On one CPU, since the kernel adds up what each CPU of the group was throttled for. Bias: where the kernel throttles each
/// thread on its way out of the kernel (Linux 6.18), sysmon, which slept when the quota was used up, gets the CPU for a
/// moment within 10 ms, to find that it is throttled as well. What came before that is not known to be throttled, and is
/// `os_preempted`: the longer the period, the less does that matter.
#[test]
fn throttled_time_is_the_control_groups() -> Result<()> {
    const ITERATIONS: u64 = 400;
    let _one = machine();
    let way = Way {
        cpus: Cpus::Last,
        quota: Some(Quota {
            time: Duration::from_millis(80),
            period: Duration::from_millis(400),
        }),
        ..Way::alone(Cause::CgroupThrottled)
    };
    again::once_more(|| {
        let mut running = Running::start(&way)?;
        let before_ns = running.throttled_ns()?;
        let whole = running.capture_iterations(ITERATIONS)?;
        let throttled_ns = running.throttled_ns()? - before_ns;
        compared(
            "throttled time",
            &whole.reading,
            whole.reading.total_ns(Cause::CgroupThrottled),
            waiting(&whole.after)? * throttled_ns,
        )
    })
}

/// The runtime's histogram has wide buckets. The stops are spread evenly over the lengths that they have, so that their sum
/// is that of the buckets' middles; it is between the sums of the bounds in any case. Bias: the goroutine that stops last
/// waits, too, from then until the world is started.
#[test]
fn stopped_time_is_the_runtimes() -> Result<()> {
    const ITERATIONS: u64 = 388;
    let _one = machine();
    let way = Way {
        gomaxprocs: 2,
        godebug: Some("asyncpreemptoff=1"),
        ..Way::alone(Cause::Stw)
    };
    again::once_more(|| {
        let whole = Running::start(&way)?.capture_iterations(ITERATIONS)?;
        let (before, after) = (whole.before.stops.as_ref(), whole.after.stops.as_ref());
        let stops = after
            .context("the runtime does not count stops")?
            .since(before.context("the runtime does not count stops")?);
        ensure!(stops.count() >= ITERATIONS, "{ITERATIONS} stops: {stops:?}");
        let (least_ns, most_ns) = stops.sum_bounds();
        let most_ns = most_ns.context("a stop without a bound")?;
        let ours_ns = whole.reading.total_ns(Cause::Stw);
        let crowd = whole.after.number("crowd")?;
        ensure!(crowd > 0, "nobody waits for the stopped world");
        let verdict = compared(
            "stopped worlds",
            &whole.reading,
            ours_ns,
            crowd * least_ns.midpoint(most_ns),
        )?;
        let each_ns = ours_ns / crowd;
        let is_possible = each_ns > least_ns && each_ns < most_ns + most_ns / 50;
        Ok(match is_possible {
            true => verdict,
            false => Verdict::TooLong(format!(
                "stopped worlds: {each_ns} ns, which is not in {least_ns}..{most_ns}"
            )),
        })
    })
}

/// Bias: each side reads its clock on its own, a microsecond apart, so waits are of milliseconds.
#[test]
fn all_waiting_is_that_of_the_trace() -> Result<()> {
    /// Programs, their `GOMAXPROCS` and arguments.
    const PROGRAMS: [(&str, u32, &[&str]); 3] = [
        ("cause", 1, &["p_busy"]),
        ("release", 1, &[]),
        ("oversubscribed", 2, &[]),
    ];
    let _one = machine();
    let newest = toolchain::newest()?;
    for (program, gomaxprocs, arguments) in PROGRAMS {
        let binary = Variant::Stripped.build(&newest, program)?;
        again::once_more(|| {
            let mut workload = Workload::start(&binary, gomaxprocs, arguments)?;
            let folder = tempfile::tempdir()?;
            let trace = folder.path().join("trace");
            workload.trace_start(&trace)?;
            let tracer = Attach::to(workload.pid()).mode("full").start()?;
            let from_ns = monotonic_ns();
            workload.go_during(Duration::from_secs(1))?;
            let to_ns = monotonic_ns();
            let reading = Reading::of(&tracer.interrupt()?)?;
            workload.trace_stop()?;
            let waits = oracle::waits(&trace, from_ns, to_ns, false)?;
            let theirs_ns = waits.latencies_ns.iter().sum();
            compared(program, &reading, reading.sum_ns(), theirs_ns)
        })?;
    }
    Ok(())
}
