//! A made-up program: its memory, and what the kernel says of its threads.

use std::cell::{Cell, RefCell};
use std::fs;

use super::super::{sampler::CauseSampler, threads::Threads};
use crate::binary::layout::{self, Layout};
use crate::binary::{Arch, Globals, GoVersion};
use crate::process::memory::{Memory, MemoryRange, ReadError};

/// Where the made-up program has its variables, its Ps, and the M and g of each P.
pub(super) const ALLP: u64 = 0x1_0000;
pub(super) const SCHED: u64 = 0x1_1000;
pub(super) const ARRAY: u64 = 0x2_0000;
pub(super) const PS: u64 = 0x10_0000;
pub(super) const P_STRIDE: u64 = 0x2000;
pub(super) const MS_AT: u64 = 0x100_0000;
pub(super) const GS: u64 = 0x120_0000;
pub(super) const STRIDE: u64 = 0x400;
/// The id of the thread of each M: it runs, and never waits for a CPU.
pub(super) const THREAD: u64 = 7;

pub(super) fn layout() -> Layout {
    let version = GoVersion::parse("go1.27.3").unwrap();
    layout::find(&version, Arch::Amd64, &[]).unwrap().0
}

pub(super) fn globals() -> Globals {
    Globals {
        sched: Some(SCHED),
        allp: Some(ALLP),
        ..Globals::default()
    }
}

/// The memory of a made-up program.
pub(super) struct Program {
    pub(super) layout: Layout,
    words: RefCell<Vec<u8>>,
    /// Whether the first P changes its state each time that it is looked at.
    pub(super) flickers: Cell<bool>,
    /// Whether the first M runs the other of two goroutines once the status of its own was read.
    pub(super) hands_over: Cell<bool>,
    /// System calls that reading has taken.
    pub(super) calls: Cell<u64>,
    /// After so many it may not be read any more.
    pub(super) most_calls: Cell<u64>,
    /// Ranges that were read, of those that a call takes many of.
    pub(super) ranges: Cell<usize>,
    /// Bytes that it has read.
    pub(super) bytes: Cell<usize>,
    /// What the kernel says of its threads.
    pub(super) tasks: tempfile::TempDir,
}

impl Program {
    /// A program with so many Ps, each of which runs a goroutine.
    pub(super) fn of(ps: u64) -> Self {
        let program = Self {
            layout: layout(),
            words: RefCell::new(vec![0; 0x140_0000]),
            flickers: Cell::new(false),
            hands_over: Cell::new(false),
            calls: Cell::new(0),
            most_calls: Cell::new(u64::MAX),
            ranges: Cell::new(0),
            bytes: Cell::new(0),
            tasks: tempfile::tempdir().unwrap(),
        };
        program.put_thread("7 (worker) R 1 1", 0);
        let (p, m, g) = (&program.layout.p, &program.layout.m, &program.layout.g);
        program.resize(ps);
        for n in 0..1024 {
            let [its_p, its_m, its_g] = [PS + n * P_STRIDE, MS_AT + n * STRIDE, GS + n * STRIDE];
            program.put(ARRAY + n * 8, its_p);
            program.put_half(its_p + u64::from(p.status), 1);
            program.put(its_p + u64::from(p.m), its_m);
            program.put(its_m + u64::from(m.procid), THREAD);
            program.put(its_m + u64::from(m.curg), its_g);
            program.put(its_m + u64::from(m.p), its_p);
            program.put_half(its_g + u64::from(g.atomicstatus), 2);
        }
        program
    }

    /// Sets what the kernel says of the thread: its `stat`, and for how long it has waited for a CPU.
    pub(super) fn put_thread(&self, stat: &str, delay_ns: u64) {
        let folder = self.tasks.path().join(THREAD.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("stat"), stat).unwrap();
        fs::write(folder.join("schedstat"), format!("5000 {delay_ns} 12\n")).unwrap();
    }

    pub(super) fn threads(&self) -> Threads {
        Threads::under(self.tasks.path().to_owned())
    }

    pub(super) fn resize(&self, ps: u64) {
        self.put(ALLP, ARRAY);
        self.put(ALLP + 8, ps);
    }

    pub(super) fn put(&self, address: u64, word: u64) {
        let at = address as usize;
        self.words.borrow_mut()[at..at + 8].copy_from_slice(&word.to_ne_bytes());
    }

    pub(super) fn put_half(&self, address: u64, half: u32) {
        let at = address as usize;
        self.words.borrow_mut()[at..at + 4].copy_from_slice(&half.to_ne_bytes());
    }

    pub(super) fn put_sched(&self, field: u32, value: u32) {
        self.put_half(SCHED + u64::from(field), value);
    }

    pub(super) fn put_p(&self, n: u64, field: u32, value: u32) {
        self.put_half(PS + n * P_STRIDE + u64::from(field), value);
    }

    pub(super) fn sampler(&self) -> CauseSampler<&Self> {
        let sampler = CauseSampler::new(self, std::process::id(), &globals(), 0, &self.layout).unwrap();
        sampler.of_go(27).with_threads(self.threads())
    }
}

impl Memory for Program {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.count_calls(1)?;
        self.copy(address, into)
    }

    fn read_ranges(&self, ranges: &[MemoryRange], into: &mut [u8]) -> Result<(), ReadError> {
        // As many as one call takes.
        self.count_calls(ranges.len().div_ceil(1024) as u64)?;
        self.ranges.set(self.ranges.get() + ranges.len());
        assert_eq!(
            into.len(),
            ranges.iter().map(|range| range.len).sum::<usize>(),
            "{ranges:?}"
        );
        let mut rest = into;
        for range in ranges {
            let (chunk, behind) = rest.split_at_mut(range.len);
            self.copy(range.base as u64, chunk)?;
            rest = behind;
        }
        Ok(())
    }
}

impl Program {
    fn count_calls(&self, more: u64) -> Result<(), ReadError> {
        self.calls.set(self.calls.get() + more);
        match self.calls.get() <= self.most_calls.get() {
            true => Ok(()),
            false => Err(ReadError::NotPermitted { pid: 1 }),
        }
    }

    fn copy(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.bytes.set(self.bytes.get() + into.len());
        let at = address as usize;
        let words = self.words.borrow();
        let there = words.get(at..at + into.len()).ok_or(ReadError::Unmapped {
            pid: 1,
            address,
            length: into.len(),
        })?;
        into.copy_from_slice(there);
        drop(words);
        let of_status = u64::from(self.layout.g.atomicstatus);
        for (one, other) in [(GS, GS + STRIDE), (GS + STRIDE, GS)] {
            if self.hands_over.get() && address == one + of_status {
                self.put(MS_AT + u64::from(self.layout.m.curg), other);
            }
        }
        let status = self.layout.p.status;
        if self.flickers.get() && address == PS + u64::from(status) {
            let idle = into.first() == Some(&0);
            self.put_p(0, status, u32::from(idle));
        }
        Ok(())
    }
}
