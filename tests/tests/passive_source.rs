//! The passive source compared with what programs report, with addresses from the Go toolchain: no part of gmpscope is
//! used but the source and its table of layouts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::histogram::compare_passive;
use gmpscope_tests::toolchain::Toolchain;
use gmpscope_tests::{Variant, Workload, environment::monotonic_ns, machine, toolchain};
use tracer_user::binary::layout::{self, Layout};
use tracer_user::binary::{Arch, Globals, GoVersion};
use tracer_user::document::hist::Hist;
use tracer_user::latency::Latency;
use tracer_user::model::Model;
use tracer_user::process::memory::ProcessMemory;
use tracer_user::sources::passive::PassiveSource;
use tracer_user::stream::{Kind, Snapshot};

/// Addresses of a binary with symbols, from `go tool nm`.
fn globals(toolchain: &Toolchain, binary: &Path) -> Result<Globals> {
    let output = toolchain.go().args(["tool", "nm"]).arg(binary).output()?;
    ensure!(
        output.status.success(),
        "go tool nm: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let address = |name: &str| -> Result<Option<u64>> {
        let line = text
            .lines()
            .find(|line| line.ends_with(&format!(" runtime.{name}")));
        let line = line.with_context(|| format!("{} has no runtime.{name}", binary.display()))?;
        let digits = line.split_whitespace().next().context("an empty line")?;
        Ok(Some(u64::from_str_radix(digits, 16)?))
    };
    Ok(Globals {
        sched: address("sched")?,
        time_to_run: None,
        allp: address("allp")?,
        allgs: address("allgs")?,
        allm: address("allm")?,
        gomaxprocs: address("gomaxprocs")?,
    })
}

fn layout(toolchain: &Toolchain) -> Result<Layout> {
    let arch = if cfg!(target_arch = "aarch64") {
        Arch::Arm64
    } else {
        Arch::Amd64
    };
    let version = GoVersion {
        raw: format!("go{}", toolchain.version()),
        minor: toolchain.minor(),
        patch: toolchain.number.1,
        vendor_or_prerelease: None,
        experiments: Vec::new(),
    };
    Ok(layout::find(&version, arch, &[])?.0)
}

/// A program and a source that reads it.
struct Watched {
    workload: Workload,
    source: PassiveSource<ProcessMemory>,
    globals: Globals,
    layout: Layout,
    minor: u32,
}

impl Watched {
    fn start(toolchain: &Toolchain, program: &str, gomaxprocs: u32) -> Result<Self> {
        let binary = Variant::Plain.build(toolchain, program)?;
        let workload = Workload::start(&binary, gomaxprocs, &[])?;
        let layout = layout(toolchain)?;
        let memory = ProcessMemory::new(workload.pid());
        let globals = globals(toolchain, &binary)?;
        let source = PassiveSource::new(memory, &globals, 0, Some(layout.clone()), toolchain.minor());
        Ok(Self {
            workload,
            source,
            globals,
            layout,
            minor: toolchain.minor(),
        })
    }

    /// A source that knows only where the histogram is.
    fn without_layout(&self) -> Result<PassiveSource<ProcessMemory>> {
        let sched = self.globals.sched.context("no sched")?;
        let time_to_run = sched + u64::from(self.layout.sched.time_to_run);
        let globals = Globals {
            time_to_run: Some(time_to_run),
            ..Globals::default()
        };
        Ok(PassiveSource::new(
            ProcessMemory::new(self.workload.pid()),
            &globals,
            0,
            None,
            self.minor,
        ))
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        Ok(self.source.snapshot(monotonic_ns())?)
    }
}

#[test]
fn every_bucket_is_that_of_runtime_metrics() -> Result<()> {
    let _one = machine();
    for toolchain in toolchain::selection()? {
        for program in ["mixed", "pingpong"] {
            let mut watched = Watched::start(&toolchain, program, 2)?;
            let scheme = watched.source.scheme().context("no scheme")?;
            let mut latency = Latency::new(scheme);
            let mut model = Model::default();
            let begin = watched.workload.count()?;
            let mut bare = watched.without_layout()?;
            bare.observe_waits(monotonic_ns())?;
            let observed = watched.source.observe(monotonic_ns())?;
            ensure!(
                observed
                    .iter()
                    .all(|o| !matches!(o.kind, Kind::HistogramDelta(_))),
                "a delta of one reading"
            );
            watched.workload.go()?;
            // Intervals while it is running, and the rest when it is parked: they sum up to the whole.
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(50));
                watched
                    .source
                    .observe(monotonic_ns())?
                    .iter()
                    .for_each(|o| latency.observe(o));
            }
            let end = watched.workload.park()?;
            for observation in watched.source.observe(monotonic_ns())? {
                latency.observe(&observation);
                model.observe(&observation);
            }
            let mut once = Latency::new(scheme);
            bare.observe_waits(monotonic_ns())?
                .iter()
                .for_each(|o| once.observe(o));
            assert_eq!(
                once.total(),
                latency.total(),
                "the whole is the sum of its intervals"
            );
            let own = end.latencies.since(&begin.latencies);
            ensure!(own.count() > 100, "{program} waits too little: {own:?}");
            let mut seen = Hist::of(&latency.total());
            // Absent if there were none.
            seen.excluded_zero = seen.excluded_zero.or(Some(0));
            let differences = compare_passive(&own, &seen, toolchain.minor() >= 26);
            assert_eq!(
                differences,
                Vec::<String>::new(),
                "Go {} {program}",
                toolchain.version()
            );
        }
    }
    Ok(())
}

#[test]
fn gauges_are_what_the_program_says() -> Result<()> {
    let _one = machine();
    for toolchain in toolchain::selection()? {
        let version = toolchain.version();
        let mut watched = Watched::start(&toolchain, "oversubscribed", 2)?;
        let parked = watched.workload.count()?;
        let snapshot = watched.snapshot()?;
        assert_eq!(snapshot.gomaxprocs, Some(parked.gomaxprocs), "Go {version}");
        assert_eq!(
            snapshot.ps_by_state.iter().map(|(_, n)| n).sum::<u64>(),
            2,
            "Go {version}"
        );
        assert_eq!(snapshot.local_runqs.len(), 2, "Go {version}");
        assert_eq!(snapshot.gc_waiting, Some(false), "Go {version}");
        assert_eq!(
            snapshot.stw_pauses.is_some(),
            toolchain.minor() >= 22,
            "Go {version}"
        );
        assert!(!snapshot.goroutines_sampled, "Go {version}");
        // Goroutines of the runtime itself are in our number and not in its own.
        let live: u64 = snapshot.goroutines_by_state.iter().map(|(_, n)| n).sum();
        assert!(
            (parked.goroutines..parked.goroutines + 12).contains(&live),
            "Go {version}: {snapshot:?}"
        );
        // By the runtime's own counters, which are read without looking at a single goroutine.
        assert_eq!(
            (snapshot.goroutines_live, snapshot.goroutines_user),
            (Some(live), Some(parked.goroutines)),
            "Go {version}: {snapshot:?}"
        );

        watched.workload.go()?;
        std::thread::sleep(Duration::from_millis(200));
        // More goroutines compute than there are Ps, so nearly all of them are in a queue at any moment. A snapshot is
        // not atomic: while it is read, a P may take half of the global queue, which is then seen twice. So it is
        // enough that one of several adds up.
        let queued = |s: &Snapshot| {
            s.global_runq.unwrap_or(0) + s.local_runqs.iter().map(|n| u64::from(*n)).sum::<u64>()
        };
        let in_state = |s: &Snapshot, name: &str| {
            let mut states = s.goroutines_by_state.iter();
            states.find(|(n, _)| n == name).map_or(0, |(_, n)| *n)
        };
        let mut busy = watched.snapshot()?;
        for _ in 0..5 {
            if queued(&busy).abs_diff(in_state(&busy, "runnable")) <= 16 {
                break;
            }
            std::thread::sleep(Duration::from_millis(250));
            busy = watched.snapshot()?;
        }
        let state = |name: &str| in_state(&busy, name);
        assert!(state("runnable") >= 32, "Go {version}: {busy:?}");
        assert!(
            queued(&busy).abs_diff(state("runnable")) <= 16,
            "Go {version}: {} queued, {busy:?}",
            queued(&busy)
        );
        assert!((1..=3).contains(&state("running")), "Go {version}: {busy:?}");
        assert_eq!(busy.idle_ps, Some(0), "Go {version}: {busy:?}");
    }
    Ok(())
}

#[test]
fn a_hundred_thousand_goroutines_are_estimated_within_the_budget() -> Result<()> {
    let _one = machine();
    let toolchain = toolchain::newest()?;
    let mut watched = Watched::start(&toolchain, "many_goroutines", 2)?;
    watched.workload.go()?;
    let _first = watched.snapshot()?;
    std::thread::sleep(Duration::from_secs(1));
    let before = own_cpu_time();
    let snapshot = watched.snapshot()?;
    let took = own_cpu_time() - before;
    let live: u64 = snapshot.goroutines_by_state.iter().map(|(_, n)| n).sum();
    let length = snapshot.allgs.context("no allgs")?;
    println!(
        "{live} of {length} in {took:?}, sampled: {}",
        snapshot.goroutines_sampled
    );
    assert!(length >= 100_000);
    assert!((95_000..=105_000).contains(&live), "{snapshot:?}");
    let counted = snapshot.goroutines_live.context("no counters")?;
    assert!((100_000..100_040).contains(&counted), "{snapshot:?}");
    assert!(!snapshot.goroutines_by_state_range.is_empty(), "{snapshot:?}");
    assert!(snapshot.goroutines_sampled, "{took:?} for all of {length}");
    // One batch may begin at the budget's end, and the other gauges come on top.
    assert!(took < Duration::from_millis(10), "{took:?}");
    Ok(())
}

fn own_cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the one value that clock_gettime writes.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_process_that_is_gone_is_an_error_that_says_so() -> Result<()> {
    let _one = machine();
    let mut watched = Watched::start(&toolchain::newest()?, "idle", 1)?;
    watched.source.observe(monotonic_ns())?;
    watched.workload.signal(libc::SIGKILL);
    watched.workload.wait(Duration::from_secs(5))?;
    let error = watched.source.observe(monotonic_ns()).expect_err("it was killed");
    assert!(error.to_string().contains("has exited"), "{error}");
    Ok(())
}
