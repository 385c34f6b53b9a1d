//! How programs start, compared with the runtime's own clock, outside clocks, and known causes.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::again::{Verdict, once_more};
use gmpscope_tests::consistency::disagreements;
use gmpscope_tests::start::{Ran, Traced, init_traces, partition};
use gmpscope_tests::surroundings::{Group, Quota};
use gmpscope_tests::{Toolchain, Variant, environment, machine, toolchain};
use tracer_user::model::start::{Ended, TimesFrom};

const PROGRAM: &str = "slow_start";

fn newest() -> Result<PathBuf> {
    Variant::Plain.build(&toolchain::newest()?, PROGRAM)
}

/// Every build variant to test, with the names of its phases before those of the packages.
fn builds() -> Result<Vec<(Toolchain, Variant)>> {
    let mut builds = Vec::new();
    for toolchain in toolchain::selection()? {
        let mut variants = vec![Variant::Plain, Variant::Pie, Variant::Cgo, Variant::Stripped];
        if environment::full() {
            variants.extend([Variant::PieStripped, Variant::CgoPie]);
        }
        builds.extend(variants.into_iter().map(|variant| (toolchain.clone(), variant)));
    }
    Ok(builds)
}

#[test]
fn every_build_is_parted_into_all_phases() -> Result<()> {
    let _one = machine();
    let mut sysmons = 0;
    for (toolchain, variant) in builds()? {
        let binary = variant.build(&toolchain, PROGRAM)?;
        let ran = Traced::new(&binary)?.run()?;
        let run = ran.start()?;
        let name = format!("Go {} {}", toolchain.version(), variant.name());
        partition(run).context(name.clone())?;
        let pairs = disagreements(ran.capture.as_ref().context("no capture")?);
        ensure!(pairs.is_empty(), "{name}:\n{}", pairs.join("\n"));
        let mut first: Vec<&str> = run.phases.iter().map(|phase| phase.name.raw()).take(8).collect();
        let dynamic = !matches!(variant, Variant::Plain | Variant::Stripped);
        let mut expected = vec![
            "exec",
            "rt0",
            "osinit",
            "schedinit",
            "main_created",
            "main_started",
            "runtime_main",
        ];
        if dynamic {
            expected.insert(1, "loader");
        }
        first.truncate(expected.len());
        ensure!(first == expected, "{name}: {first:?}");
        for package in ["init:runtime", "init:gmpscope.test/workloads/slow_start/cause"] {
            let found = run.phases.iter().filter(|phase| phase.name == package).count();
            ensure!(found == 1, "{name}: {package} {found} times");
        }
        ensure!(
            run.t0 == TimesFrom::Execve && run.ended == Ended::Main,
            "{name}: {run:?}"
        );
        let spans: Vec<&str> = run.spans.iter().map(|span| span.name.raw()).collect();
        ensure!(
            spans == ["mallocinit", "gcinit", "procresize"],
            "{name}: {spans:?}"
        );
        sysmons += usize::from(run.marks.iter().any(|mark| mark.name == "sysmon"));
        for mark in ["p_bound:0", "main.main"] {
            ensure!(
                run.marks.iter().any(|m| m.name == mark),
                "{name}: no mark {mark}: {:?}",
                run.marks
            );
        }
        ensure!(
            run.phases
                .iter()
                .all(|phase| phase.off_cpu_ns <= Some(phase.duration_ns)),
            "{name}: longer off the CPU than it took: {run:?}"
        );
        let faults: u64 = run.phases.iter().filter_map(|phase| phase.minor_faults).sum();
        ensure!(faults > 50, "{name}: {faults} page faults");
    }
    // Its thread may run for the first time only after main.main.
    ensure!(sysmons > 0, "sysmon was never seen");
    Ok(())
}

#[test]
fn the_runtimes_own_clock_agrees() -> Result<()> {
    let _one = machine();
    let runs = if environment::full() { 20 } else { 5 };
    for (toolchain, variant) in builds()? {
        let binary = variant.build(&toolchain, PROGRAM)?;
        let name = format!("Go {} {}", toolchain.version(), variant.name());
        let (mut all, mut off) = (0, Vec::new());
        for _ in 0..runs {
            let ran = Traced::new(&binary)?.env("GODEBUG", "inittrace=1").run()?;
            let run = ran.start()?;
            let inits: BTreeMap<&str, u64> = run
                .phases
                .iter()
                .filter_map(|phase| Some((phase.name.raw().strip_prefix("init:")?, phase.duration_ns)))
                .collect();
            let traces = init_traces(&ran.stderr)?;
            ensure!(
                traces.len() >= 10,
                "{name}: {} lines of inittrace:\n{}",
                traces.len(),
                ran.stderr
            );
            ensure!(
                traces.len() == inits.len(),
                "{name}: {} packages printed, {} seen",
                traces.len(),
                inits.len()
            );
            for trace in traces {
                let seen = *inits
                    .get(trace.package.as_str())
                    .with_context(|| format!("{name}: the init of {} was not seen", trace.package))?;
                let slack = (trace.clock_ns * 0.05).max(20e3);
                let expected = trace.clock_ns - slack..=trace.clock_ns + trace.digit_ns + slack;
                all += 1;
                if !expected.contains(&(seen as f64)) {
                    off.push(format!(
                        "{} {} ns, printed {}",
                        trace.package, seen, trace.clock_ns
                    ));
                }
            }
        }
        println!("{name}: {} of {all} package inits agree", all - off.len());
        ensure!(
            off.len() * 20 <= all,
            "{name}: {} of {all} are off: {off:?}",
            off.len()
        );
    }
    Ok(())
}

#[test]
fn first_and_last_moment_agree_with_outside_clocks() -> Result<()> {
    let _one = machine();
    let binary = newest()?;
    // The program executes itself again, so that the moment before its second execve is known. Only --follow sees more
    // than the first start.
    let ran = Traced::new(&binary)?
        .env("SLOW_START_AGAIN", "1")
        .options(&["--follow", "--repeat", "11"])
        .run()?;
    let init = ran.init()?;
    ensure!(init.runs == 22, "{} starts of 22", init.runs);
    let (mains, execves) = (ran.said("main"), ran.said("execve"));
    let mut begins = Vec::new();
    let mut ends = Vec::new();
    for (pid, before) in execves {
        let start = init
            .starts
            .iter()
            .filter(|start| start.pid == pid)
            .max_by_key(|start| start.t0_ns)
            .context("no such start")?;
        // It was held there, which is not part of the start.
        begins.push((start.t0_ns - start.held_ns).abs_diff(before));
        let (_, main) = mains
            .iter()
            .rfind(|(of, _)| *of == pid)
            .context("it never said main")?;
        ends.push((start.t0_ns + start.duration_ns).abs_diff(*main));
    }
    begins.sort_unstable();
    ends.sort_unstable();
    println!("first mark off by {begins:?} ns, last by {ends:?} ns");
    // Between a mark and the clock that it is compared with the thread may lose its CPU: hence the median.
    let middle = begins.len() / 2;
    ensure!(
        begins[middle] < 100_000 && ends[middle] < 100_000,
        "{begins:?} {ends:?}"
    );
    Ok(())
}

/// The findings about phases, without those about the environment.
fn phase_findings(ran: &Ran) -> Vec<(String, String)> {
    let ids = ran.capture.iter().flat_map(|capture| &capture.findings);
    ids.filter(|finding| finding.id.starts_with("start-phase"))
        .map(|finding| (finding.title.to_string(), finding.evidence.to_string()))
        .collect()
}

/// Runs the workload with and without its cause. The first run must have one finding with these words, the second none.
fn cause(
    variant: Variant,
    name: &str,
    environment: &[(&str, &str)],
    before: &[&str],
    words: &[&str],
) -> Result<()> {
    once_more(|| cause_once(variant, name, environment, before, words))
}

fn cause_once(
    variant: Variant,
    name: &str,
    environment: &[(&str, &str)],
    before: &[&str],
    words: &[&str],
) -> Result<Verdict> {
    let binary = variant.build(&toolchain::newest()?, PROGRAM)?;
    let traced = |cause: &str| -> Result<Ran> {
        let mut traced = Traced::new(&binary)?.env("SLOW_START", cause);
        for (name, value) in environment {
            traced = traced.env(name, value);
        }
        let ran = traced.run_by(before)?;
        ensure!(ran.status.success(), "{name}: {}: {}", ran.status, ran.stderr);
        Ok(ran)
    };
    let phase = format!("init:gmpscope.test/workloads/slow_start/{name}");
    let slow = traced(name)?;
    let findings = phase_findings(&slow);
    let reported: Vec<String> = findings
        .iter()
        .map(|(title, evidence)| format!("{title}: {evidence}"))
        .collect();
    let (named, others): (Vec<_>, Vec<_>) = reported
        .iter()
        .partition(|finding| finding.starts_with(&phase) && words.iter().all(|word| finding.contains(word)));
    ensure!(
        named.len() == 1,
        "{name}: one finding of {phase} was expected, with {words:?}: {findings:#?} {:#?}",
        slow.start()?
    );
    let control = traced("none")?;
    let of_control = phase_findings(&control);
    ensure!(
        of_control.iter().all(|(title, _)| !title.starts_with(&phase)),
        "the control of {name}: {of_control:?} {:#?}",
        control.start()?
    );
    // On a busy machine another phase may have got no CPU, which says nothing, or have been slow, too.
    let others: Vec<_> = others
        .into_iter()
        .filter(|finding| !finding.contains("got no CPU"))
        .collect();
    Ok(Verdict::unless(
        !others.is_empty() || !of_control.is_empty(),
        || format!("{name}: other phases are reported: {others:?}, {of_control:?}"),
    ))
}

#[test]
fn an_init_that_sleeps_is_named() -> Result<()> {
    let _one = machine();
    cause(Variant::Plain, "sleeps", &[], &[], &["waited for", "asleep"])
}

#[test]
fn an_init_that_builds_a_large_map_is_named() -> Result<()> {
    let _one = machine();
    cause(Variant::Plain, "table", &[], &[], &["page faults", "on the CPU"])
}

#[test]
fn an_init_that_waits_for_a_silent_server_is_named_with_its_address() -> Result<()> {
    let _one = machine();
    // It takes connections, and never answers.
    let server = TcpListener::bind("127.0.0.1:0")?;
    let address = server.local_addr()?.to_string();
    cause(
        Variant::Plain,
        "dials",
        &[("SLOW_START_SERVER", &address), ("SLOW_START_TIMEOUT", "60ms")],
        &[],
        &["waited for", &format!("connect {address}")],
    )
}

/// Answers every connection to the name service cache daemon late and with nothing: the C library waits for it, and
/// then reads /etc/passwd itself.
fn late_name_service(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    // The thread ends with the test's process.
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            std::thread::sleep(Duration::from_millis(60));
            drop(connection);
        }
    });
    Ok(())
}

#[test]
fn a_slow_source_of_users_is_named_under_cgo() -> Result<()> {
    let _one = machine();
    let dir = tempfile::tempdir()?;
    late_name_service(&dir.path().join("socket"))?;
    // In a mount namespace of its own the daemon's socket is ours.
    let join = format!(
        "mount -t tmpfs none /run && mkdir /run/nscd && mount --bind {} /run/nscd && exec \"$@\"",
        dir.path().display()
    );
    let before = ["unshare", "-m", "sh", "-c", &join, "sh"];
    cause(
        Variant::Cgo,
        "account",
        &[],
        &before,
        &["waited for", "connect /var/run/nscd/socket"],
    )
}

#[test]
fn a_start_with_a_tenth_of_a_cpu_is_reported_as_throttled() -> Result<()> {
    let _one = machine();
    let group = Group::with_quota(Quota {
        time: Duration::from_millis(5),
        period: Duration::from_millis(50),
    })?;
    let binary = newest()?;
    once_more(|| {
        let traced = || -> Result<Traced> {
            Ok(Traced::new(&binary)?
                .env("SLOW_START", "computes")
                .env("SLOW_START_ROUNDS", "20000000"))
        };
        let join = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.folder().display());
        let slow = traced()?.run_by(&["sh", "-c", &join, "sh"])?;
        let findings = phase_findings(&slow);
        let reported = format!("{findings:?}");
        ensure!(
            reported.contains("slow_start/computes got no CPU")
                && reported.contains("0.10 CPUs")
                && reported.contains("throttled"),
            "{reported} {:#?}",
            slow.start()?
        );
        let control = traced()?.run()?;
        let of_control = phase_findings(&control);
        ensure!(
            !format!("{of_control:?}").contains("throttled"),
            "the control: {of_control:?} {:#?}",
            control.start()?
        );
        let limits = |ran: &Ran| {
            let titles = ran.findings();
            titles
                .iter()
                .any(|(title, _)| title.contains("the least that Go chooses"))
        };
        // From Go 1.25 on the runtime follows the limit by itself, but never below 2: it cannot be built any better.
        ensure!(limits(&slow) && !limits(&control), "{:?}", slow.findings());
        Ok(Verdict::unless(!of_control.is_empty(), || {
            format!("the control: {of_control:?}")
        }))
    })
}

#[test]
fn settings_that_distort_a_start_are_reported() -> Result<()> {
    let _one = machine();
    let binary = newest()?;
    let reported = |godebug: &str| -> Result<bool> {
        let ran = Traced::new(&binary)?.env("GODEBUG", godebug).run()?;
        ran.start()?;
        Ok(ran
            .findings()
            .iter()
            .any(|(_, evidence)| evidence.contains("schedtrace=1")))
    };
    ensure!(reported("schedtrace=1")? && !reported("madvdontneed=1")?);
    Ok(())
}

#[test]
fn a_start_that_hangs_is_shown_when_it_is_ended() -> Result<()> {
    let _one = machine();
    let server = TcpListener::bind("127.0.0.1:0")?;
    let address = server.local_addr()?.to_string();
    let ran = Traced::new(&newest()?)?
        .env("SLOW_START", "dials")
        .env("SLOW_START_SERVER", &address)
        .env("SLOW_START_TIMEOUT", "2s")
        .options(&["--duration", "500ms"])
        .run()?;
    let run = ran.start()?;
    partition(run)?;
    let last = run.phases.last().context("no phase")?;
    ensure!(
        run.ended == Ended::Unfinished && last.name.raw().ends_with("slow_start/dials"),
        "{run:#?}"
    );
    ensure!(
        run.phases.iter().filter(|phase| phase.ongoing).count() == 1 && last.ongoing,
        "{run:#?}"
    );
    ensure!(
        ran.capture
            .as_ref()
            .is_some_and(|capture| !capture.capture.complete),
        "a start that was cut off is said to be complete"
    );
    ensure!(
        phase_findings(&ran)
            .iter()
            .any(|(_, evidence)| evidence.contains(&address)),
        "{:?}",
        ran.findings()
    );
    // gmpscope waited for the command, and has its status.
    ensure!(
        ran.status.code() == Some(0) && ran.said("main").len() == 1,
        "{:?}",
        ran.status
    );
    Ok(())
}
