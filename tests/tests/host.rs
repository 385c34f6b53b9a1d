//! Watches several targets with one load of the kernel side, through the library, and compares with what the programs
//! and the processes' parent know themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gmpscope_tests::environment::monotonic_ns;
use gmpscope_tests::histogram::counts_agree;
use gmpscope_tests::host::{Subject, host, storm};
use gmpscope_tests::{Variant, machine, toolchain};
use tracer_user::bpf::ProgramKind;
use tracer_user::model::start::{Ended, Starts};
use tracer_user::plan::start::{self, StartPlan};
use tracer_user::process::Target;
use tracer_user::sources::host::{HostKernel, ProcessEvent, StartsBy, StartsRequest};
use tracer_user::sources::starts::Functions;
use tracer_user::stream::{HistogramKey, Kind, Observation};

/// The sum of a target's observations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sum {
    waits: u64,
    zeros: u64,
    hits: u64,
    sites: BTreeSet<u64>,
    lost: u64,
}

impl Sum {
    fn of(seen: &[Observation]) -> Self {
        let mut sum = Self::default();
        for observation in seen {
            match &observation.kind {
                Kind::HistogramDelta(delta) => {
                    sum.waits += delta.counts.iter().map(|(_, n)| n).sum::<u64>();
                    sum.zeros += delta.excluded_zero;
                    if let HistogramKey::CreationSite(gopc) = delta.key {
                        sum.sites.insert(gopc);
                    }
                }
                Kind::Hits(hits) => sum.hits += hits,
                Kind::Loss(loss) if loss.cause.makes_incomplete() => sum.lost += loss.count,
                _ => {}
            }
        }
        sum
    }
}

/// Whether the descriptor becomes readable.
fn readable(host: &HostKernel, within: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd: host.events_fd().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd, as the count says.
    unsafe { libc::poll(&raw mut poll, 1, within.as_millis() as i32) == 1 }
}

#[test]
fn two_processes_at_once_have_each_its_own_waits() -> Result<()> {
    let _one = machine();
    for toolchain in toolchain::selection()? {
        let mut host = host(8, false)?;
        let mut subjects = Vec::new();
        for (program, iterations) in [("pingpong", 20_000), ("spawn", 3_000)] {
            let subject = Subject::start(&toolchain, program)?;
            let slot = subject.attach(&mut host, ProgramKind::Sampled, None)?;
            subjects.push((subject, slot, iterations));
        }
        let mut own = Vec::new();
        for (subject, _, iterations) in &mut subjects {
            let before = subject.workload.count()?.latencies;
            let after = subject.workload.go_for(*iterations)?.latencies;
            own.push(after.since(&before));
        }
        let now = monotonic_ns();
        let mut sites = BTreeSet::new();
        for ((subject, slot, _), own) in subjects.iter().zip(own) {
            let sum = Sum::of(&host.observe(*slot, now)?);
            let what = format!(
                "Go {}, {}: the runtime has {own:?}, we {sum:?}",
                toolchain.version(),
                subject.workload.first.workload
            );
            ensure!(sum.lost == 0, "{what}");
            // The runtime's lowest bucket also has records that were not waits; from 1.26 on we see those, too.
            let waits = own.without_zeros().count();
            ensure!(waits > 500, "{what}");
            ensure!(
                waits.saturating_sub(waits / 50 + 50) <= sum.waits
                    && sum.waits <= own.count() + waits / 50 + 50,
                "{what}"
            );
            if toolchain.minor() >= 26 {
                ensure!(
                    counts_agree(own.count(), sum.waits + sum.zeros, 0.01, 50),
                    "{what}"
                );
            }
            sites.extend(sum.sites);
        }
        ensure!(sites.len() >= 2, "creation sites: {sites:?}");
    }
    Ok(())
}

#[test]
fn a_slot_that_was_taken_back_starts_from_nothing() -> Result<()> {
    let _one = machine();
    let toolchain = toolchain::newest()?;
    let mut host = host(1, true)?;
    let mut first = Subject::start(&toolchain, "spawn")?;
    for program in [ProgramKind::Exact, ProgramKind::Sampled, ProgramKind::Exact] {
        let slot = first.attach(&mut host, program, Some(1 << 40))?;
        first.workload.go_for(2_000)?;
        let sum = Sum::of(&host.observe(slot, monotonic_ns())?);
        ensure!(sum.waits > 100, "{program:?}: {sum:?}");
        // Nobody observes what comes from here on.
        first.workload.go_for(2_000)?;
        let second = Subject::start(&toolchain, "idle")?;
        ensure!(
            second.attach(&mut host, program, None).is_err(),
            "there is one slot, and it is taken"
        );
        host.detach(slot)?;
        ensure!(
            host.observe(slot, monotonic_ns()).is_err(),
            "it was detached before"
        );
        let until = Instant::now() + Duration::from_secs(20);
        let slot = loop {
            match second.attach(&mut host, program, None) {
                Ok(slot) => break slot,
                Err(e) if Instant::now() < until => {
                    ensure!(e.to_string().contains("being detached"), "{e:#}");
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(e) => return Err(e),
            }
        };
        first.workload.go_for(2_000)?;
        let sum = Sum::of(&host.observe(slot, monotonic_ns())?);
        ensure!(
            sum.waits < 50 && sum.hits < 200,
            "{program:?}: of a parked process {sum:?}"
        );
        host.detach(slot)?;
        while second.attach(&mut host, program, None).is_err() {
            ensure!(Instant::now() < until, "the slot is not given back");
            std::thread::sleep(Duration::from_millis(10));
        }
        host.detach_all();
        host = gmpscope_tests::host::host(1, true)?;
    }
    Ok(())
}

#[test]
fn past_the_cap_nothing_is_let_through_and_we_are_woken() -> Result<()> {
    const CAP: u64 = 1_000;
    let _one = machine();
    let toolchain = toolchain::newest()?;
    for program in [ProgramKind::Sampled, ProgramKind::Exact] {
        let mut host = host(4, true)?;
        let mut subject = Subject::start(&toolchain, "pingpong")?;
        let slot = subject.attach(&mut host, program, Some(CAP))?;
        // Below the cap the reader is not woken, window after window.
        for _ in 0..3 {
            subject.workload.go_for(100)?;
            ensure!(!readable(&host, Duration::ZERO), "woken below the cap");
            host.begin_window(slot, CAP)?;
        }
        let before = Sum::of(&host.observe(slot, monotonic_ns())?);
        ensure!(before.hits > 0 && !host.is_capped(slot), "{before:?}");
        host.begin_window(slot, CAP)?;
        subject.workload.go()?;
        ensure!(readable(&host, Duration::from_secs(10)), "{program:?}: not woken");
        let events = host.take_events()?;
        ensure!(events.capped == [slot], "{program:?}: {events:?}");
        ensure!(host.is_capped(slot));
        // It stays off even if a new window begins.
        host.begin_window(slot, CAP)?;
        std::thread::sleep(Duration::from_millis(100));
        subject.workload.park()?;
        let sum = Sum::of(&host.observe(slot, monotonic_ns())?);
        let let_through = match program {
            ProgramKind::Sampled => sum.waits + sum.zeros,
            _ => sum.waits * 2,
        };
        ensure!(
            let_through <= CAP && let_through > CAP * 8 / 10,
            "{program:?}: {let_through} of {sum:?}"
        );
        ensure!(sum.hits > CAP, "what came afterwards is counted: {sum:?}");
        ensure!(subject.workload.alive());
    }
    Ok(())
}

/// The processes whose exec and exit were seen, and how many events were lost.
#[derive(Default)]
struct Seen {
    execed: BTreeSet<u32>,
    exited: BTreeSet<u32>,
    lost: u64,
}

impl Seen {
    fn read(&mut self, host: &mut HostKernel) -> Result<()> {
        let events = host.take_events()?;
        for event in events.processes {
            match event {
                ProcessEvent::Exec { pid, .. } => self.execed.insert(pid),
                ProcessEvent::Exit { pid, .. } => self.exited.insert(pid),
            };
        }
        self.lost += events.lost;
        Ok(())
    }

    fn missing(&self, pids: &BTreeSet<u32>) -> usize {
        pids.difference(&self.execed).count() + pids.difference(&self.exited).count()
    }
}

#[test]
fn processes_that_come_and_go_are_reported_or_counted_as_lost() -> Result<()> {
    let _one = machine();
    let mut host = host(1, false)?;
    host.watch_processes()?;
    let mut seen = Seen::default();
    let pids = storm(2_000, || seen.read(&mut host))?;
    seen.read(&mut host)?;
    ensure!(
        seen.missing(&pids) == 0 && seen.lost == 0,
        "{} events are missing, {} lost",
        seen.missing(&pids),
        seen.lost
    );
    // Nobody reads until the ring is full.
    let mut seen = Seen::default();
    let pids = storm(6_000, || Ok(()))?;
    ensure!(readable(&host, Duration::ZERO), "a full ring does not wake");
    seen.read(&mut host)?;
    let missing = seen.missing(&pids) as u64;
    ensure!(missing > 0, "the ring was to be too small for this test");
    ensure!(
        missing <= seen.lost,
        "{missing} events are missing, {} lost",
        seen.lost
    );
    Ok(())
}

#[test]
fn a_thread_that_ends_is_no_end_of_its_process() -> Result<()> {
    let _one = machine();
    let mut host = host(1, false)?;
    host.watch_processes()?;
    std::thread::spawn(|| {}).join().expect("an empty thread");
    let mut seen = Seen::default();
    seen.read(&mut host)?;
    ensure!(!seen.exited.contains(&std::process::id()));
    Ok(())
}

/// A binary whose starts are timed.
struct Started {
    target: Target,
    plan: StartPlan,
}

impl Started {
    fn open(path: &Path) -> Result<Self> {
        let (target, plan) = Target::of_file(path, |target, binary| {
            let program = start::Program {
                entry: binary.image().entry,
                dynamic: binary.image().interpreter.is_some(),
                library: target.facts.library,
                version: &target.facts.version,
            };
            StartPlan::of(binary, &program, None)
                .map_err(|attempt| tracer_user::error::Error::failed(attempt.outcome))
        })?;
        Ok(Self { target, plan })
    }
}

impl Functions for Started {
    fn beginning_at(&self, _: u32, addresses: &BTreeSet<u64>) -> BTreeMap<u64, String> {
        self.target
            .with_binary(|binary| {
                let named = addresses
                    .iter()
                    .filter_map(|address| Some((*address, binary.outermost_at(*address)?.to_owned())));
                named.collect()
            })
            .unwrap_or_default()
    }
}

#[test]
fn starts_of_two_binaries_are_distinguished() -> Result<()> {
    const EACH: usize = 5;
    let _one = machine();
    let toolchain = toolchain::newest()?;
    let mut host = host(4, false)?;
    let mut binaries = Vec::new();
    for (program, variant) in [("hello", Variant::Plain), ("slow_start", Variant::Pie)] {
        let path = variant.build(&toolchain, program)?;
        let binary = Started::open(&path)?;
        let slot = host.attach_starts(&StartsRequest {
            file: binary.target.file.file(),
            plan: &binary.plan,
            by: StartsBy::Holding(binary.target.file.state()),
        })?;
        binaries.push((path, binary, slot, BTreeSet::new()));
    }
    for _ in 0..EACH {
        let mut children = Vec::new();
        for (path, _, _, pids) in &mut binaries {
            let child = Command::new(&path)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()?;
            pids.insert(child.id());
            children.push(child);
        }
        // A process of neither binary.
        children.push(Command::new("/bin/true").spawn()?);
        for mut child in children {
            child.wait()?;
        }
    }
    for (path, binary, slot, pids) in &binaries {
        let seen = host.observe_starts(*slot, monotonic_ns(), binary)?;
        let mut starts = Starts::default();
        if binary.plan.dynamic {
            starts.set_dynamic(0);
        }
        let ended: Vec<_> = seen
            .iter()
            .filter_map(|observation| starts.observe(observation))
            .collect();
        let theirs: BTreeSet<u32> = ended.iter().map(|start| start.pid).collect();
        ensure!(
            theirs == *pids && ended.len() == EACH,
            "{}: {theirs:?}, not {pids:?}",
            path.display()
        );
        for start in ended {
            ensure!(start.ended == Ended::Main, "{start:?}");
            let names: Vec<String> = start.phases.iter().map(|phase| phase.kind.name()).collect();
            ensure!(
                names.contains(&"exec".to_owned()) && names.contains(&"schedinit".to_owned()),
                "{names:?}"
            );
            ensure!(names.iter().any(|name| name == "init:runtime"), "{names:?}");
        }
        let lost: u64 = Sum::of(&seen).lost;
        ensure!(lost == 0, "{lost} lost");
    }
    // Without probes nothing is reported any more.
    let (path, binary, slot, _) = binaries.remove(0);
    host.detach_starts(slot)?;
    Command::new(&path).stdout(Stdio::null()).status()?;
    ensure!(host.observe_starts(slot, monotonic_ns(), &binary).is_err());
    Ok(())
}

#[test]
fn many_links_are_removed_at_once() -> Result<()> {
    const LINKS: usize = 30;
    let _one = machine();
    let toolchain = toolchain::newest()?;
    let mut host = host(LINKS as u32, false)?;
    let subject = Subject::start(&toolchain, "idle")?;
    for _ in 0..LINKS {
        subject.attach(&mut host, ProgramKind::Sampled, None)?;
    }
    let begin = Instant::now();
    host.detach_all();
    let took = begin.elapsed();
    eprintln!("{LINKS} targets detached in {took:?}");
    ensure!(
        took < Duration::from_secs(3) || !multi_links(),
        "{LINKS} targets took {took:?}"
    );
    Ok(())
}

fn multi_links() -> bool {
    use tracer_user::bpf::multi::{Support, support};
    support() == Support::Works && std::env::var_os("GMPSCOPE_PERF_EVENTS").is_none()
}
