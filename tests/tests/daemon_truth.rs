//! Compares what the daemon exports with what the programs themselves report, also as queried from a real Prometheus.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::exposition::Exposition;
use gmpscope_tests::{
    Daemon, Prometheus, RuntimeHistogram, Variant, Workload, machine, prometheus, toolchain,
};
use tempfile::TempDir;

const WAITS: &str = "gmpscope_sched_latencies_seconds";
/// A budget that any target fits: other tests check the budget.
const AMPLE: &str = "[budget]\ntarget = \"100%\"\ntarget_floor = \"1s\"\nhost = \"100%\"\n";
/// How long each program works.
const WORK: Duration = Duration::from_secs(1);

/// A program under a name that no other process has.
struct Program {
    go: String,
    minor: u32,
    exe: String,
    workload: Workload,
    /// What its runtime had counted before the daemon started: asking for it makes a goroutine wait, which the daemon
    /// would count.
    before: RuntimeHistogram,
}

/// Starts one program per Go version, parked; also returns their folder.
fn programs(workload: &str) -> Result<(TempDir, Vec<Program>)> {
    let dir = tempfile::tempdir()?;
    let mut all = Vec::new();
    for t in toolchain::selection()? {
        let path: PathBuf = dir.path().join(format!("{workload}-{}", t.version()));
        std::fs::copy(Variant::Stripped.build(&t, workload)?, &path)?;
        let mut workload = Workload::start(&path, 2, &[])?;
        all.push(Program {
            go: t.version(),
            minor: t.minor(),
            exe: path.display().to_string(),
            before: workload.count()?.latencies,
            workload,
        });
    }
    Ok((dir, all))
}

fn rule(dir: &TempDir, tier: &str) -> String {
    format!(
        "[[target]]\nexe = \"{}/*\"\ntier = \"{tier}\"\n",
        dir.path().display()
    )
}

/// Waits until each has been read once while it is parked: from then on everything that it does is counted.
fn watched(daemon: &Daemon, programs: &[Program], tier: &str) -> Result<()> {
    for program in programs {
        daemon.wait_for_tier(program.workload.pid(), tier)?;
        let labels = [("exe", program.exe.as_str())];
        daemon.wait_for(&format!("a reading of {}", program.exe), |page| {
            page.histogram(WAITS, &labels).ok()
        })?;
    }
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}

/// Lets all of them work at the same time, and returns what the runtime of each has counted meanwhile.
fn work(programs: &mut [Program]) -> Result<Vec<RuntimeHistogram>> {
    for program in programs.iter_mut() {
        program.workload.go()?;
    }
    std::thread::sleep(WORK);
    let mut own = Vec::new();
    for program in programs.iter_mut() {
        let all = program.workload.park()?.latencies.since(&program.before);
        // Up to Go 1.25 the lowest bucket holds zeros that were not waits, which are left out.
        own.push(match program.minor {
            ..26 => all.without_zeros(),
            _ => all,
        });
    }
    Ok(own)
}

/// Waits until a histogram has as many values as the runtime counted.
fn counted(daemon: &Daemon, program: &Program, own: &RuntimeHistogram) -> Result<Exposition> {
    let labels = [("exe", program.exe.as_str())];
    daemon.wait_for(&format!("{} waits of {}", own.count(), program.exe), |page| {
        let count = page.histogram(WAITS, &labels).ok()?.count();
        (count >= own.count() as f64).then(|| page.clone())
    })
}

#[test]
fn every_wait_that_the_runtime_counts_is_in_its_bucket() -> Result<()> {
    let _one = machine();
    let (dir, mut programs) = programs("mixed")?;
    let daemon = Daemon::start(&rule(&dir, "passive"))?;
    watched(&daemon, &programs, "passive")?;
    let own = work(&mut programs)?;
    for (program, own) in programs.iter().zip(&own) {
        ensure!(
            own.count() > 1000,
            "Go {}: only {} waits",
            program.go,
            own.count()
        );
        let page = counted(&daemon, program, own)?;
        let pid = program.workload.pid().to_string();
        let labels = [("exe", program.exe.as_str()), ("pid", pid.as_str())];
        let differences = page.histogram(WAITS, &labels)?.differences(own);
        assert_eq!(differences, Vec::<String>::new(), "Go {}", program.go);
        assert_eq!(
            page.value(&format!("{WAITS}_count"), &labels)?,
            own.count() as f64
        );
        assert_eq!(
            page.sum("gmpscope_probe_hits_total", &labels),
            0.0,
            "it was probed"
        );
    }
    // The series of a process that has ended are gone; the others remain.
    let gone = programs.pop().context("no program")?;
    let pid = gone.workload.pid().to_string();
    drop(gone);
    daemon.wait_for("the end of its series", |page| {
        let of_it = |label: &str, value: &str| {
            let all = page.samples().iter();
            all.filter(|sample| sample.labels.get(label).is_some_and(|own| own == value))
                .count()
        };
        (of_it("pid", &pid) == 0 && of_it("exe", &programs[0].exe) > 0).then_some(())
    })
}

#[test]
fn a_hit_is_a_wait_that_the_runtime_sampled() -> Result<()> {
    let _one = machine();
    let (dir, mut programs) = programs("mixed")?;
    let daemon = Daemon::start(&format!("{AMPLE}{}", rule(&dir, "sampled")))?;
    watched(&daemon, &programs, "sampled")?;
    let own = work(&mut programs)?;
    for (program, own) in programs.iter().zip(&own) {
        let page = counted(&daemon, program, own)?;
        let labels = [("exe", program.exe.as_str())];
        // From Go 1.26 on the runtime's zeros are waits, which only the probe can distinguish from stop-the-worlds.
        let (least, most) = (own.without_zeros().count() as f64, own.count() as f64);
        let seen = page
            .histogram("gmpscope_sampled_latencies_seconds", &labels)?
            .count();
        let slack = 5.0_f64.max(0.01 * most);
        ensure!(
            (least - slack..=most + slack).contains(&seen),
            "Go {}: the runtime sampled {least} to {most} waits, the probe saw {seen}",
            program.go
        );
        let hits = page.sum("gmpscope_probe_hits_total", &labels);
        ensure!(hits >= seen, "Go {}: {hits} hits and {seen} waits", program.go);
        let cost = page.sum("gmpscope_probe_cost_seconds_total", &labels) / hits;
        ensure!(
            (1e-7..1e-5).contains(&cost),
            "Go {}: {cost} s per hit",
            program.go
        );
        let sites = page.find("gmpscope_sampled_latencies_seconds_count", &labels);
        let named = sites.filter(|site| {
            let name = site
                .labels
                .get("creation_site")
                .map(String::as_str)
                .unwrap_or_default();
            name.starts_with("main.") && site.value > 0.0
        });
        ensure!(
            named.count() > 0,
            "Go {}: no goroutine of package main",
            program.go
        );
    }
    Ok(())
}

#[test]
fn prometheus_answers_what_the_programs_say_of_themselves() -> Result<()> {
    let _one = machine();
    let (dir, mut programs) = programs("mixed")?;
    let debian = prometheus::program("prometheus")?.canonicalize()?;
    let both = format!(
        "{}[[target]]\nexe = \"{}\"\ntier = \"passive\"\n",
        rule(&dir, "passive"),
        debian.display()
    );
    let daemon = Daemon::start(&both)?;
    let classic = Prometheus::start(daemon.address(), false)?;
    let native = Prometheus::start(daemon.address(), true)?;
    watched(&daemon, &programs, "passive")?;
    let own = work(&mut programs)?;
    for (program, own) in programs.iter().zip(&own) {
        let page = counted(&daemon, program, own)?;
        let exe = &program.exe;
        let exposed = page.histogram(WAITS, &[("exe", exe)])?;
        classic.wait_for(&format!("sum({WAITS}_count{{exe=\"{exe}\"}})"), |n| {
            n >= own.count() as f64
        })?;
        native.wait_for(&format!("histogram_count({WAITS}{{exe=\"{exe}\"}})"), |n| {
            n >= own.count() as f64
        })?;
        for q in [0.5, 0.9, 0.99] {
            let (low, high) = own.quantile(q).context("no quantile")?;
            let (low, high) = (low.max(0) as f64 / 1e9, high as f64 / 1e9);
            // Classic: Prometheus interpolates inside the exported bucket with the rank. The runtime's own bucket with
            // that rank lies inside it, so the answer is off by at most that bucket.
            let (from, to) = exposed.quantile(q).context("no quantile")?;
            ensure!(
                from <= low + 1e-9 && high <= to + 1.5e-9,
                "Go {}: p{q} is in {low}..{high}, exported in {from}..{to}",
                program.go
            );
            let query = format!("histogram_quantile({q}, {WAITS}_bucket{{exe=\"{exe}\"}})");
            let answer = classic.number(&query)?.context("no answer")?;
            ensure!(
                (from..=to).contains(&answer),
                "Go {}: {query} = {answer}, not in {from}..{to}",
                program.go
            );
            // Native: a bucket of the runtime's is counted into the bucket of the exponential scale that holds some
            // value of it, so the answer lies in it or in an adjacent bucket of the scale. No bucket spans more than a
            // factor of two.
            let query = format!("histogram_quantile({q}, {WAITS}{{exe=\"{exe}\"}})");
            let answer = native.number(&query)?.context("no answer")?;
            let widest = widest(&native, exe)?;
            ensure!(widest <= 2.0, "a native bucket is {widest} times as high as low");
            ensure!(
                (low / widest..=high * widest).contains(&answer),
                "Go {}: {query} = {answer}, not in {low}..{high} with buckets of {widest}",
                program.go
            );
        }
    }
    // Prometheus is a Go program, built by Debian.
    let own = format!("{WAITS}_count{{pid=\"{}\"}}", classic.pid());
    classic.wait_for(&own, |n| n > 0.0)?;
    Ok(())
}

/// The largest ratio between the upper and the lower bound of a native bucket.
fn widest(prometheus: &Prometheus, exe: &str) -> Result<f64> {
    let series = prometheus.query(&format!("{WAITS}{{exe=\"{exe}\"}}"))?;
    let (_, histogram) = series.first().context("no native histogram")?;
    let buckets = histogram["buckets"]
        .as_array()
        .context("a native histogram without buckets")?;
    let number = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    let ratios = buckets.iter().filter_map(|bucket| {
        let (low, high) = (number(&bucket[1])?, number(&bucket[2])?);
        (low > 0.0).then_some(high / low)
    });
    ratios.reduce(f64::max).context("no native bucket above zero")
}

#[test]
fn promtool_finds_nothing_to_complain_about() -> Result<()> {
    let _one = machine();
    let (dir, mut programs) = programs("mixed")?;
    let daemon = Daemon::start(&format!("{AMPLE}{}", rule(&dir, "sampled")))?;
    watched(&daemon, &programs, "sampled")?;
    let own = work(&mut programs)?;
    counted(&daemon, &programs[0], &own[0])?;
    let page = daemon.get("/metrics")?.ok()?;
    let mut promtool = Command::new(prometheus::program("promtool")?)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    promtool.stdin.take().context("no stdin")?.write_all(&page.body)?;
    let output = promtool.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(
        output.status.success() && said.is_empty(),
        "{}\n{}",
        String::from_utf8_lossy(&said),
        page.text()?.lines().take(60).collect::<Vec<_>>().join("\n")
    );
    Ok(())
}
