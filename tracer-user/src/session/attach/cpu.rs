//! Measures how much CPU time the target uses for each wait, before it is probed and while it is.

use std::{thread, time::Duration};

use crate::{
    process::{
        cpu::CpuReading,
        memory::{ProcessMemory, ReadError},
    },
    sources::passive::PassiveSource,
    stream::cpu_use::{CpuSlice, CpuUse},
};

/// How long a target is measured before it is probed, and in how many slices, from whose differences follows how
/// uncertain the result is. It delays every capture with probes, and each time slice of Go's scheduler is of 10 ms.
const SLICES_BEFORE: u32 = 10;
const SLICE: Duration = Duration::from_millis(10);
/// After so many slices without any wait there will not be enough of them.
const SLICES_WITHOUT_WAITS: usize = 2;
/// The least length of a slice with probes.
const EVERY_NS: u64 = 90_000_000;

/// The CPU time that a target uses, and the waits that its runtime tracks meanwhile.
pub struct CpuWatch {
    pid: u32,
    used: CpuUse,
    last: Option<Reading>,
    /// When it was read last, CLOCK_MONOTONIC.
    read_ns: u64,
}

struct Reading {
    cpu: CpuReading,
    waits: u64,
}

impl CpuWatch {
    /// A watch that has read nothing.
    pub fn new(pid: u32) -> Self {
        Self {
            pid,
            used: CpuUse::default(),
            last: None,
            read_ns: 0,
        }
    }

    /// Measures a target without probes, for 100 ms, or 20 if it has nothing to do.
    pub fn measure_before(&mut self, memory: &PassiveSource<ProcessMemory>) {
        self.used.before.clear();
        self.take(memory.tracked_waits());
        for _ in 0..SLICES_BEFORE {
            thread::sleep(SLICE);
            if let Some(slice) = self.take(memory.tracked_waits()) {
                self.used.before.push(slice);
            }
            let so_far = &self.used.before;
            if so_far.len() >= SLICES_WITHOUT_WAITS && CpuSlice::sum(so_far).waits == 0 {
                return;
            }
        }
    }

    /// Begins to measure a target with probes.
    pub fn begin(&mut self, memory: &PassiveSource<ProcessMemory>, now_ns: u64) {
        self.read_ns = now_ns;
        self.take(memory.tracked_waits());
    }

    /// Ends a slice, unless it has only just begun.
    pub fn read(&mut self, memory: &PassiveSource<ProcessMemory>, now_ns: u64) {
        if now_ns.saturating_sub(self.read_ns) >= EVERY_NS {
            self.end(memory, now_ns);
        }
    }

    /// Ends the slice that has begun; the probes must still be live.
    pub fn end(&mut self, memory: &PassiveSource<ProcessMemory>, now_ns: u64) {
        self.read_ns = now_ns;
        if let Some(slice) = self.take(memory.tracked_waits()) {
            self.used.add(slice);
        }
    }

    /// Returns what was measured.
    pub fn used(&self) -> &CpuUse {
        &self.used
    }

    /// Reads the CPU time; returns what was added since the last reading, if both are there and are of one program.
    fn take(&mut self, waits: Result<Option<u64>, ReadError>) -> Option<CpuSlice> {
        let waits = waits
            .inspect_err(|e| log::debug!("the waits that the runtime tracks cannot be read: {e}"))
            .ok()
            .flatten();
        let now = waits.and_then(|waits| {
            Some(Reading {
                cpu: CpuReading::of(self.pid)?,
                waits,
            })
        });
        let before = std::mem::replace(&mut self.last, now)?;
        let now = self.last.as_ref()?;
        Some(CpuSlice {
            cpu_ns: now.cpu.since(&before.cpu),
            waits: now.waits.checked_sub(before.waits)?,
        })
    }
}
