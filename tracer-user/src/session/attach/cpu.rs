//! Measures how much CPU time the target uses for each wait, before it is probed and while it is.
//!
//! Linux brings the CPU clock of another process up to date when a thread leaves its CPU, and with each tick of its
//! scheduler, of up to 10 ms. So the begin and the end of a slice are uncertain by as much for each thread that runs; what one
//! slice has too much, its neighbour has too little.

use std::{thread, time::Duration};

use crate::{
    process::memory::{ProcessMemory, ReadError},
    sources::passive::PassiveSource,
    stream::cpu_use::{CpuSlice, CpuUse},
};

/// How long a target is measured before it is probed, and in how many slices, from whose differences follows how
/// uncertain the result is. It delays every capture with probes, and each time slice of Go's scheduler is of 10 ms.
const SLICES_BEFORE: u32 = 10;
const SLICE: Duration = Duration::from_millis(10);
/// After so many slices without any wait there will not be enough of them.
const SLICES_WITHOUT_WAITS: usize = 2;
/// The length of a slice with probes.
pub const EVERY: Duration = Duration::from_millis(100);
/// A last slice that is shorter is added to the one before it.
const SHORT_NS: u64 = 50_000_000;

/// The CPU time that a target uses, and the waits that its runtime tracks meanwhile.
pub struct CpuWatch {
    used: CpuUse,
    last: Option<Reading>,
    /// When it was read last, CLOCK_MONOTONIC.
    read_ns: u64,
}

#[derive(Clone, Copy)]
struct Reading {
    cpu_ns: u64,
    waits: u64,
}

impl CpuWatch {
    /// A watch that has read nothing.
    pub fn new() -> Self {
        Self {
            used: CpuUse::default(),
            last: None,
            read_ns: 0,
        }
    }

    /// Measures a target without probes, for 100 ms, or 20 if it has nothing to do. `cpu_ns` reads its CPU clock.
    pub fn measure_before(
        &mut self,
        memory: &PassiveSource<ProcessMemory>,
        cpu_ns: impl Fn() -> Option<u64>,
    ) {
        self.used.before.clear();
        self.take(memory.tracked_waits(), cpu_ns());
        for _ in 0..SLICES_BEFORE {
            thread::sleep(SLICE);
            if let Some(slice) = self.take(memory.tracked_waits(), cpu_ns()) {
                self.used.before.push(slice);
            }
            let so_far = &self.used.before;
            if so_far.len() >= SLICES_WITHOUT_WAITS && CpuSlice::sum(so_far).waits == 0 {
                return;
            }
        }
    }

    /// Forgets what was measured before: it was not without probes.
    pub fn forget_before(&mut self) {
        self.used.before.clear();
    }

    /// Begins to measure a target with probes.
    pub fn begin(&mut self, memory: &PassiveSource<ProcessMemory>, cpu_ns: Option<u64>, now_ns: u64) {
        self.read_ns = now_ns;
        self.take(memory.tracked_waits(), cpu_ns);
    }

    /// Ends the slice that has begun, and begins the next one; the probes must still be live. `is_same` says, after it was
    /// read, whether the memory is still that of the program that was examined.
    pub fn read(
        &mut self,
        memory: &PassiveSource<ProcessMemory>,
        cpu_ns: Option<u64>,
        now_ns: u64,
        is_same: impl FnOnce() -> bool,
    ) {
        let length_ns = now_ns.saturating_sub(std::mem::replace(&mut self.read_ns, now_ns));
        let slice = self.take(memory.tracked_waits(), cpu_ns);
        if !is_same() {
            self.last = None;
        } else if let Some(slice) = slice {
            self.used.add(slice, length_ns < SHORT_NS);
        }
    }

    /// Returns what was measured.
    pub fn used(&self) -> &CpuUse {
        &self.used
    }

    /// Takes a reading; returns what was added since the last one, if both are there.
    fn take(&mut self, waits: Result<Option<u64>, ReadError>, cpu_ns: Option<u64>) -> Option<CpuSlice> {
        let waits = waits
            .inspect_err(|e| log::debug!("the waits that the runtime tracks cannot be read: {e}"))
            .ok()
            .flatten();
        let now = waits.zip(cpu_ns).map(|(waits, cpu_ns)| Reading { cpu_ns, waits });
        let before = std::mem::replace(&mut self.last, now)?;
        let now = now?;
        Some(CpuSlice {
            cpu_ns: now.cpu_ns.checked_sub(before.cpu_ns)?,
            waits: now.waits.checked_sub(before.waits)?,
        })
    }
}
