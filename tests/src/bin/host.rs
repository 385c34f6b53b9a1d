//! Measures what the kernel side of a host costs, and prints one row of a table for each figure.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gmpscope_tests::host::{Subject, host, storm};
use gmpscope_tests::{environment::monotonic_ns, toolchain};
use tracer_user::bpf::ProgramKind;

/// Rounds of each measurement.
const ROUNDS: usize = 9;

fn main() -> Result<()> {
    println!("| what | figure |\n|---|--:|");
    memory()?;
    processes()?;
    detaching()?;
    for program in [ProgramKind::Sampled, ProgramKind::Exact] {
        cap(program)?;
    }
    Ok(())
}

fn resident_kb() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let digits = line.and_then(|line| line.split_whitespace().next());
    Ok(digits.context("no VmRSS")?.parse()?)
}

fn memory() -> Result<()> {
    let before = resident_kb()?;
    let mut host = host(128, true)?;
    host.watch_processes()?;
    let after = resident_kb()?;
    println!(
        "| resident memory of gmpscope for the kernel side of 128 targets, nothing probed | {} kB |",
        after.saturating_sub(before)
    );
    Ok(())
}

/// `BPF_ENABLE_STATS` of bpf(2): the kernel times programs while the descriptor is open.
fn timed_by_the_kernel() -> Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    const ENABLE_STATS: i32 = 32;
    let run_time = 0_u32;
    // SAFETY: the attribute is the one word that the kernel reads.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, ENABLE_STATS, &raw const run_time, 4) };
    ensure!(
        fd >= 0,
        "BPF_ENABLE_STATS: {}: run it as root",
        std::io::Error::last_os_error()
    );
    // SAFETY: the kernel has just given this descriptor to us.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd as i32) })
}

/// (runs, nanoseconds) of each raw tracepoint program that this process holds, by instructions verified.
fn run_times() -> Result<Vec<(u64, u64)>> {
    /// BPF_PROG_TYPE_RAW_TRACEPOINT
    const RAW_TRACEPOINT: u64 = 17;
    let mut times = Vec::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let field = |name: &str| -> Option<u64> {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
        };
        // Links name the type of their program, too, but not how long it ran.
        if field("prog_type") == Some(RAW_TRACEPOINT)
            && let (Some(runs), Some(ns)) = (field("run_cnt"), field("run_time_ns"))
        {
            times.push((field("verified_insns").unwrap_or(0), runs, ns));
        }
    }
    times.sort_unstable();
    times.dedup();
    Ok(times.into_iter().map(|(_, runs, ns)| (runs, ns)).collect())
}

fn processes() -> Result<()> {
    let mut host = host(1, false)?;
    host.watch_processes()?;
    let _timed = timed_by_the_kernel()?;
    storm(2_000, || host.take_events().map(drop).map_err(Into::into))?;
    // The program at the end of threads does more.
    let names = ["an execve", "an end of a thread"];
    for (name, (runs, ns)) in names.into_iter().zip(run_times()?) {
        let each = ns as f64 / runs.max(1) as f64;
        println!("| {name} of any process of the host | {each:.0} ns |");
    }
    Ok(())
}

fn detaching() -> Result<()> {
    const TARGETS: u32 = 30;
    let mut host = host(TARGETS, false)?;
    let subject = Subject::start(&toolchain::newest()?, "idle")?;
    let begin = Instant::now();
    for _ in 0..TARGETS {
        subject.attach(&mut host, ProgramKind::Sampled, None)?;
    }
    let attached = begin.elapsed();
    let begin = Instant::now();
    host.detach_all();
    let ms = |took: Duration| took.as_millis();
    println!(
        "| attaching {TARGETS} targets, one after the other | {} ms |",
        ms(attached)
    );
    println!(
        "| detaching {TARGETS} targets at once | {} ms |",
        ms(begin.elapsed())
    );
    Ok(())
}

/// CPU time of the target per hit, alternately with and without a cap.
fn cap(program: ProgramKind) -> Result<()> {
    const ITERATIONS: u64 = 40_000;
    let mut subject = Subject::start(&toolchain::newest()?, "pingpong")?;
    let mut times = [Vec::new(), Vec::new()];
    let mut hits = 0;
    for _ in 0..ROUNDS {
        for (cap, times) in [None, Some(u64::MAX >> 1)].into_iter().zip(&mut times) {
            let mut host = host(1, true)?;
            let slot = subject.attach(&mut host, program, cap)?;
            subject.workload.go_for(ITERATIONS / 10)?;
            host.observe(slot, monotonic_ns())?;
            let before = subject.workload.count()?.cpu_ns;
            let after = subject.workload.go_for(ITERATIONS)?.cpu_ns;
            times.push(after - before);
            hits = host
                .observe(slot, monotonic_ns())?
                .iter()
                .map(|seen| match seen.kind {
                    tracer_user::stream::Kind::Hits(hits) => hits,
                    _ => 0,
                })
                .sum();
        }
    }
    ensure!(hits > 0, "no hit");
    let [without, with] = times.map(|mut times| {
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0) as f64
    });
    println!(
        "| the hit cap, for each hit of {program:?} ({:.0} ns of the target's CPU time without) | {:+.0} ns |",
        without / hits as f64,
        (with - without) / hits as f64
    );
    Ok(())
}
