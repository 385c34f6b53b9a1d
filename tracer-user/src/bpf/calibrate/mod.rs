//! Measures the cost of a hit on this machine, in gmpscope's own process: with the real program, in functions that do
//! what the runtime does at the probed instructions.

mod code;

use std::{path::Path, thread};

pub use code::{Instruction, Instructions};

use tracer_ebpf::{Meaning, Origin, Site, SiteKind, TargetConfig, TargetState, stacks::StackConfig};

use self::code::FakeG;
use super::{
    attach::{self, Point, Probes, ProgramKind, Scope},
    kernel::Kernel,
    maps,
};
use crate::{
    error::{Error, Result},
    process::text_of,
};

/// Cycles (two hits each) in one batch, some 1 ms. All batches of all kinds of instructions, with their stacks, fit into a
/// ring buffer of 1 MiB, since a hit that finds it full costs less.
const CYCLES: u64 = 500;
/// Number of batches, of which the fastest counts.
const BATCHES: usize = 3;
/// Fake goroutines that keep their stamps, as most goroutines do: more than the batches have.
const KEPT_STAMPS: i64 = 64;
/// How much more a hit may cost in a busy program than in a tight loop, since caches and TLB are cold and other CPUs hold
/// the locks. Chosen on the high side: HTTP servers were seen at 1.3 to 1.7. It is not measured on each machine;
/// `cargo xtask bench hit` compares hits in programs that only switch.
const BUSY_FACTOR: f64 = 1.75;
/// How much less than here a hit may cost in a program that only switches: such programs were seen at 0.88 to 1, those with
/// short stacks at 0.85 (`cargo xtask bench overhead`).
const TIGHT_FACTOR: f64 = 0.85;

/// The cost of a hit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Nanoseconds of the target's CPU time: in a program that only switches at the cheapest of the instructions, and in a
    /// busy program at the most expensive.
    pub hit_ns: [u64; 2],
    /// Smallest latency that `exact` can show: between the clock readings of two successive hits.
    pub latency_floor_ns: Option<u64>,
}

/// Word of [`FakeG`] that stands for `g.trackingStamp`; `g.gopc` is ten words on, as in the runtime.
const STAMP_WORD: u32 = 8;

/// Words of [`FakeG`] that stand for `g.stack.hi`, `g.sched.pc` and `g.sched.bp`.
const STACK_WORDS: [u32; 3] = [1, 2, 3];
/// Frames of the stack by which the cost of a walk is measured: that of a handler that waits for a channel has four
/// of the runtime's and as many of its own.
const FRAMES: usize = 8;

/// The offsets by which the programs find the stack of the fake g.
pub const STACK_CONFIG: StackConfig = StackConfig {
    g_stack_hi: STACK_WORDS[0] * 8,
    g_sched_pc: STACK_WORDS[1] * 8,
    g_sched_bp: STACK_WORDS[2] * 8,
    reserved: 0,
};

/// The most expensive kind of site of a program, for estimates before its sites are known.
pub fn most_expensive(program: ProgramKind) -> SiteKind {
    match program {
        ProgramKind::Exact | ProgramKind::Full | ProgramKind::Stacks => SiteKind::StatusCall,
        ProgramKind::Sampled => SiteKind::TrackedWaitEnds,
        ProgramKind::Mark | ProgramKind::Empty => SiteKind::Empty,
    }
}

/// Measures `program` at a site of this kind, on each of these kinds of instructions. Takes some 10 ms, and 3 ms for
/// each kind; another thread then removes the probes.
///
/// # Errors
/// Attaching to our own process fails.
pub fn measure(
    kernel: &mut Kernel,
    program: ProgramKind,
    kind: SiteKind,
    instructions: Instructions,
) -> Result<Cost> {
    // Otherwise the probes of the previous measurement would be measured, too.
    if let Some(before) = kernel.calibrating.take() {
        let _ = before.join();
    }
    let probes = probe_ourselves(kernel, program, kind, instructions)?;
    let (mut lowest, mut highest) = (f64::INFINITY, 0.0_f64);
    for instruction in instructions.iter() {
        let (low, high) = hit_ns(program, instruction);
        (lowest, highest) = (lowest.min(low), highest.max(high));
    }
    let latency_floor_ns = match program {
        ProgramKind::Exact => floor(kernel, kernel.calibration_slot)?,
        _ => None,
    };
    // Only the next measurement waits until these probes are gone.
    kernel.calibrating = Some(thread::spawn(move || drop(probes)));
    Ok(Cost {
        hit_ns: [(lowest * TIGHT_FACTOR) as u64, (highest * BUSY_FACTOR) as u64],
        latency_floor_ns,
    })
}

/// Nanoseconds of CPU time per hit in a tight loop: of goroutines that never block, and of those that do in each cycle.
fn hit_ns(program: ProgramKind, instruction: Instruction) -> (f64, f64) {
    batch(instruction, CYCLES / 10);
    let fastest = |of: fn(Instruction, u64) -> f64| {
        let batches = (0..BATCHES).map(|_| of(instruction, CYCLES));
        batches.fold(f64::INFINITY, f64::min)
    };
    let hit_ns = fastest(batch);
    match program {
        // One of three hits in a cycle walks a stack.
        ProgramKind::Stacks => (hit_ns, (2.0 * hit_ns + fastest(batch_of_waits)) / 3.0),
        _ => (hit_ns, hit_ns),
    }
}

/// Attaches `program` to the calibration functions.
fn probe_ourselves(
    kernel: &mut Kernel,
    program: ProgramKind,
    kind: SiteKind,
    instructions: Instructions,
) -> Result<Probes> {
    let slot = kernel.calibration_slot;
    let config = TargetConfig {
        slower_ns: u64::MAX,
        enabled: 1,
        g_tracking_stamp: STAMP_WORD * 8,
        g_gopc: (STAMP_WORD + 10) * 8,
        creation_sites: 1,
        ..TargetConfig::default()
    };
    maps::configure_target(&mut kernel.ebpf, slot, config)?;
    let state = TargetState {
        stamps_left: KEPT_STAMPS,
        ..TargetState::default()
    };
    maps::set_state(&mut kernel.ebpf, slot, state)?;
    // Register 0 holds the g on both architectures (RAX, X0). It is also read as a latency, for which any number will do.
    let site = Site {
        target: slot,
        kind: kind as u8,
        meaning: Meaning::runnable(Origin::Unblocked),
        gp_in: 0,
        ..Site::default()
    };
    let points: Result<Vec<Point>> = instructions
        .iter()
        .map(|instruction| {
            let address = instruction.site();
            Ok(Point {
                file_offset: file_offset_of(address)?,
                address,
                site,
            })
        })
        .collect();
    attach::attach(
        kernel,
        attach::Request {
            program,
            points: &points?,
            slot,
            scope: Scope::process(std::process::id())?,
            file: Path::new("/proc/self/exe"),
        },
    )
}

/// CPU time of this thread in nanoseconds, which excludes the time of others on a busy machine.
fn cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Nanoseconds of CPU time per hit, over `cycles`.
fn batch(instruction: Instruction, cycles: u64) -> f64 {
    let mut g = FakeG { words: [0; 64] };
    g.words[STAMP_WORD as usize] = 1;
    let begin = cpu_ns();
    code::cycles(instruction, &g, cycles);
    cpu_ns().saturating_sub(begin) as f64 / (cycles * 2) as f64
}

/// Nanoseconds of CPU time per hit of a goroutine that blocks, over `cycles`.
fn batch_of_waits(instruction: Instruction, cycles: u64) -> f64 {
    // Frame n is words 2n and 2n + 1: the address of the next frame, and the return address.
    let mut stack = [[0u64; 2]; FRAMES];
    let begin = stack.as_ptr() as u64;
    let top = begin + size_of_val(&stack) as u64;
    for (frame, next) in stack.iter_mut().zip((begin..top).step_by(16).skip(1).chain([0])) {
        *frame = [next, next];
    }
    let mut g = FakeG { words: [0; 64] };
    for (word, value) in STACK_WORDS.into_iter().zip([top, begin, begin]) {
        g.words[word as usize] = value;
    }
    let begin = cpu_ns();
    code::waits(instruction, &g, cycles);
    let took = cpu_ns().saturating_sub(begin) as f64;
    std::hint::black_box(&stack);
    took / cycles as f64
}

/// The smallest latency of the calibration's own waits.
fn floor(kernel: &mut Kernel, slot: u32) -> Result<Option<u64>> {
    let index = slot * Origin::COUNT + Origin::Unblocked as u32;
    let per_cpu = maps::exact_histograms(&mut kernel.ebpf)?
        .get(&index, 0)
        .map_err(maps::context("read", "EXACT_HISTOGRAMS"))?;
    let inverted = per_cpu.iter().map(|cpu| cpu.0.min_ns_inverted).max().unwrap_or(0);
    Ok((inverted != 0).then_some(!inverted))
}

/// Maps one of our own addresses to an offset in our executable.
fn file_offset_of(address: u64) -> Result<u64> {
    let maps = text_of("/proc/self/maps")
        .map_err(|e| Error::failed(format!("could not read /proc/self/maps: {e}")))?;
    maps.lines()
        .find_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (start, end) = fields.next()?.split_once('-')?;
            let (start, end) = (
                u64::from_str_radix(start, 16).ok()?,
                u64::from_str_radix(end, 16).ok()?,
            );
            let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
            (start..end).contains(&address).then(|| address - start + offset)
        })
        .ok_or_else(|| {
            Error::failed("gmpscope's own code is not in /proc/self/maps; calibration is not possible")
        })
}
