//! Measures how many transitions a second pass through stream, model and histograms on one core, and how much memory a
//! live goroutine takes, with events that are made in memory, without a kernel.

use anyhow::{Context, Result, ensure};
use gmpscope_tests::environment::thread_cpu_ns;
use tracer_ebpf::full::{Transition, What, status as s, statuses};
use tracer_user::latency::Latency;
use tracer_user::model::sched::Sched;
use tracer_user::stream::SchedConfig;
use tracer_user::stream::reorder::Reorder;
use tracer_user::stream::{BucketScheme, Kind, Observation};

/// Transitions that are made, and read, at a time.
const BATCH: usize = 32_768;
/// The number of batches.
const BATCHES: usize = 1_500;
/// Goroutines that take turns.
const BUSY: u64 = 64;
/// Goroutines that are alive at once, to measure the memory of one.
const LIVING: u64 = 1_000_000;
/// Goroutines that live one after the other.
const LIVES: u64 = 50_000_000;

fn main() -> Result<()> {
    let rate = throughput();
    println!(
        "stream, model and histograms: {:.2} million transitions a second of CPU time",
        rate / 1e6
    );
    let [bytes, runnable] = per_goroutine()?;
    println!(
        "memory of a living goroutine: {bytes:.0} bytes while it waits, {runnable:.0} while it is runnable (resident, slope \
         from 0 to {LIVING})"
    );
    let grown = churn()?;
    println!(
        "after {LIVES} goroutines that lived one after the other: {} kB more resident",
        grown / 1024
    );
    ensure!(bytes <= 200.0, "a goroutine takes {bytes:.0} bytes");
    ensure!(grown < 1 << 20, "memory grows with goroutines that have ended");
    Ok(())
}

/// The address of the made-up g structs.
const fn g_at(n: u64) -> u64 {
    0xc000_0000_0000 + n * 512
}

fn change(at_ns: u64, g: u64, tid: u32, old: u8, new: u8, reason: u8) -> Transition {
    Transition {
        at_ns,
        subject: g,
        detail: if old == s::DEAD {
            0x40_1000
        } else {
            g * u64::from(new == s::DEAD)
        },
        tid,
        what: What::Goroutine as u8,
        status: statuses(u32::from(old), u32::from(new)),
        reason,
        ..Transition::default()
    }
}

fn sched() -> Sched {
    Sched::new(SchedConfig {
        minor: 27,
        syscalls: false,
        slower_ns: None,
        assists: false,
    })
}

/// Goroutines on four threads that wake one another, like ping-pong, in the order in which CPUs deliver the events.
fn batch(clock: &mut u64, turn: &mut u64, made: &mut Vec<Transition>) {
    made.clear();
    while made.len() + 3 <= BATCH {
        let (n, tid) = (*turn % BUSY, (*turn % 4) as u32 + 100);
        let (g, other) = (g_at(n), g_at((n + 4) % BUSY));
        *turn += 1;
        *clock += 1_000;
        made.push(change(*clock + 300, other, tid, s::WAITING, s::RUNNABLE, 1));
        made.push(change(*clock, g, tid, s::RUNNING, s::WAITING, 19));
        made.push(change(*clock + 600, other, tid, s::RUNNABLE, s::RUNNING, 0));
    }
}

fn throughput() -> f64 {
    let (mut sched, mut latency) = (sched(), Latency::new(BucketScheme::Kernel));
    let mut reorder = Reorder::new();
    let (mut clock, mut turn, mut made) = (1_000_000, 0, Vec::with_capacity(BATCH));
    let (mut taken, mut spent) = (0u64, 0.0);
    for _ in 0..BATCHES {
        batch(&mut clock, &mut turn, &mut made);
        // CPU time, not wall-clock time: the load of other processes does not count.
        let begin = thread_cpu_ns();
        for transition in &made {
            reorder.push(*transition);
        }
        let sorted = reorder.until(clock.saturating_sub(1_000_000));
        taken += sorted.len() as u64;
        sched.observe(&Observation {
            at_ns: clock,
            kind: Kind::Transitions(sorted),
        });
        for derived in sched.take_derived() {
            latency.observe(&derived);
        }
        spent += thread_cpu_ns().saturating_sub(begin) as f64 / 1e9;
    }
    assert!(latency.total().count() > taken / 4, "the waits are not counted");
    taken as f64 / spent
}

/// Resident bytes for each of very many goroutines that are alive: of those that wait, as nearly all of so many do, and
/// of those that are runnable, which hold a reading of the causes as well.
fn per_goroutine() -> Result<[f64; 2]> {
    let mut sched = sched();
    let before = resident()?;
    for n in 0..LIVING {
        let mut to = |old, new, reason| sched.apply(&change(1_000 + n, g_at(n), 100, old, new, reason));
        to(s::DEAD, s::RUNNABLE, 0);
        to(s::RUNNABLE, s::RUNNING, 0);
        to(s::RUNNING, s::WAITING, 19);
    }
    let waiting = resident()?;
    for n in 0..LIVING {
        sched.apply(&change(2 * LIVING + n, g_at(n), 100, s::WAITING, s::RUNNABLE, 1));
    }
    let runnable = resident()?;
    assert_eq!(sched.goroutines().count() as u64, LIVING);
    Ok([waiting, runnable].map(|after| after.saturating_sub(before) as f64 / LIVING as f64))
}

fn churn() -> Result<u64> {
    let mut sched = sched();
    let mut clock = 1_000;
    let mut live = |sched: &mut Sched, lives: u64| {
        for n in 0..lives {
            let g = g_at(n % 1_000);
            clock += 100;
            sched.apply(&change(clock, g, 100, s::DEAD, s::RUNNABLE, 0));
            sched.apply(&change(clock + 10, g, 100, s::RUNNABLE, s::RUNNING, 0));
            sched.apply(&change(clock + 20, g, 100, s::RUNNING, s::DEAD, 0));
        }
        sched.take_derived();
    };
    live(&mut sched, 10_000);
    let before = resident()?;
    live(&mut sched, LIVES);
    assert_eq!(sched.anomalies().total(), 0);
    Ok(resident()?.saturating_sub(before))
}

/// Resident memory of this process in bytes.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/statm").context("/proc/self/statm")?;
    let pages = status.split(' ').nth(1).context("no second field")?;
    Ok(pages.parse::<u64>()? * page_size())
}

fn page_size() -> u64 {
    // SAFETY: takes a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}
