//! Goroutines that can run and do not, one by one, with the moment since which they wait where the runtime keeps it.
//!
//! The runtime tracks about one wait in eight of each goroutine, from its begin on: `g.tracking` is set, and
//! `g.trackingStamp` is when the goroutine became runnable (`casgstatus` in proc.go; Go 1.19: `g.runnableStamp`).

use std::time::Duration;

use super::counters::MAX_GS;
use super::goroutines::{BATCH, G_SCAN, own_cpu_time};
use super::shuffled::Shuffled;
use crate::binary::layout::G;
use crate::process::memory::{Memory, ReadError};

/// Our own CPU time that a reading may take, which is enough for some 50,000 goroutines.
const BUDGET: Duration = Duration::from_millis(50);
/// `_Grunnable`.
const G_RUNNABLE: u32 = 1;
/// Words that are read of a goroutine that can run.
const WORDS: usize = 5;

/// A goroutine that can run and does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runnable {
    /// Address of its g.
    pub g: u64,
    /// `g.goid`.
    pub goid: u64,
    /// `g.gopc`.
    pub gopc: u64,
    /// When it became runnable, CLOCK_MONOTONIC, where the runtime keeps that.
    pub since_ns: Option<u64>,
}

/// A reading of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnableReading {
    /// When it began: every goroutine was read later.
    pub at_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// The number of g structs that were read.
    pub read: u64,
    /// The number of all g structs.
    pub all: u64,
    /// Those that can run and do not, in no particular order.
    pub goroutines: Vec<Runnable>,
}

/// Reads the goroutines of the slice at `allgs`, as many as the budget allows. `clock` is CLOCK_MONOTONIC. `None` if that
/// is not plausibly a slice.
pub(super) fn read(
    memory: &impl Memory,
    allgs: u64,
    layout: &G,
    clock: impl Fn() -> u64,
) -> Result<Option<RunnableReading>, ReadError> {
    let mut slice = [0; 2];
    memory.read_u64s(allgs, &mut slice)?;
    let [pointer, length] = slice;
    if length == 0 || length > MAX_GS {
        return Ok(None);
    }
    let started = own_cpu_time();
    let mut reading = RunnableReading {
        at_ns: clock(),
        end_ns: 0,
        read: 0,
        all: length,
        goroutines: Vec::new(),
    };
    let mut order = Shuffled::new(length, reading.at_ns);
    while reading.read < length && (reading.read == 0 || own_cpu_time().saturating_sub(started) < BUDGET) {
        let batch = order.by_ref().take(BATCH);
        let elements: Vec<u64> = batch.map(|i| pointer.wrapping_add(i.wrapping_mul(8))).collect();
        let gs = words_at(memory, &elements)?;
        let runnable = in_queue(memory, &gs, layout)?;
        reading.goroutines.extend(details(memory, &runnable, layout)?);
        reading.read += elements.len() as u64;
    }
    reading.end_ns = clock();
    Ok(Some(reading))
}

/// Those of these goroutines that can run and do not.
fn in_queue(memory: &impl Memory, gs: &[u64], layout: &G) -> Result<Vec<u64>, ReadError> {
    let status = u64::from(layout.atomicstatus);
    let addresses: Vec<u64> = gs.iter().map(|g| g.wrapping_add(status)).collect();
    let mut bytes = vec![0; addresses.len() * 4];
    memory.read_each(&addresses, 4, &mut bytes)?;
    let statuses = bytes.as_chunks().0.iter().map(|chunk| u32::from_ne_bytes(*chunk));
    Ok(gs
        .iter()
        .zip(statuses)
        .filter(|(_, status)| is_runnable(*status))
        .map(|(g, _)| *g)
        .collect())
}

/// Reads these goroutines. One that runs by now is left out: its words are read one right after the other, the status
/// last.
fn details(memory: &impl Memory, gs: &[u64], layout: &G) -> Result<Vec<Runnable>, ReadError> {
    let offsets: [u32; WORDS] = [
        layout.goid,
        layout.gopc,
        layout.tracking,
        layout.tracking_stamp,
        layout.atomicstatus,
    ];
    let addresses: Vec<u64> = gs
        .iter()
        .flat_map(|g| offsets.map(|offset| g.wrapping_add(u64::from(offset))))
        .collect();
    let words = words_at(memory, &addresses)?;
    let found = gs.iter().zip(words.as_chunks::<WORDS>().0);
    let found = found.filter_map(|(g, [goid, gopc, tracking, stamp, status])| {
        // A bool in the lowest byte, and a uint32 in the lower half: both machines are little-endian.
        let is_tracked = tracking & 0xff == 1;
        is_runnable(*status as u32).then_some(Runnable {
            g: *g,
            goid: *goid,
            gopc: *gopc,
            since_ns: Some(*stamp).filter(|stamp| is_tracked && *stamp != 0),
        })
    });
    Ok(found.collect())
}

fn is_runnable(status: u32) -> bool {
    status & !G_SCAN == G_RUNNABLE
}

/// The 8-byte words at these addresses.
fn words_at(memory: &impl Memory, addresses: &[u64]) -> Result<Vec<u64>, ReadError> {
    let mut bytes = vec![0; addresses.len() * 8];
    memory.read_each(addresses, 8, &mut bytes)?;
    let words = bytes.as_chunks().0.iter();
    Ok(words.map(|chunk| u64::from_ne_bytes(*chunk)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that begins at address 0.
    struct Words(Vec<u64>);

    impl Memory for Words {
        fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
            let bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let from = address as usize;
            let there = bytes.get(from..from + into.len()).ok_or(ReadError::Unmapped {
                pid: 1,
                address,
                length: into.len(),
            })?;
            into.copy_from_slice(there);
            Ok(())
        }
    }

    /// A layout in which each field has a word of its own.
    fn layout() -> G {
        let version = crate::binary::GoVersion {
            raw: "go1.27.3".to_owned(),
            minor: 27,
            patch: 3,
            vendor_or_prerelease: None,
            experiments: Vec::new(),
        };
        let found = crate::binary::layout::find(&version, crate::binary::Arch::Amd64, &[]);
        G {
            atomicstatus: 0,
            goid: 8,
            gopc: 16,
            tracking: 24,
            tracking_stamp: 32,
            ..found.expect("Go 1.27.3 is in the table").0.g
        }
    }

    #[test]
    fn those_that_can_run_are_read_with_the_begin_that_the_runtime_keeps() {
        // (status, goid, gopc, tracking, stamp) of each.
        let gs: [[u64; WORDS]; 6] = [
            [1, 7, 0x401, 1, 500],
            // Not tracked: what is in the stamp is of nothing.
            [1, 8, 0x402, 0x100, 600],
            // The garbage collector scans its stack.
            [0x1001, 9, 0x403, 1, 700],
            // Its stamp is about to be written.
            [1, 10, 0x404, 1, 0],
            [2, 11, 0x405, 1, 0],
            [4, 12, 0x406, 1, 800],
        ];
        let count = gs.len() as u64;
        let mut words = vec![16, count];
        words.extend((0..count).map(|n| (2 + count + n * WORDS as u64) * 8));
        words.extend(gs.iter().flatten());
        let reading = read(&Words(words), 0, &layout(), || 1000).unwrap().unwrap();
        assert_eq!((reading.at_ns, reading.read, reading.all), (1000, count, count));
        let mut found: Vec<(u64, u64, Option<u64>)> = reading
            .goroutines
            .iter()
            .map(|seen| (seen.goid, seen.gopc, seen.since_ns))
            .collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [
                (7, 0x401, Some(500)),
                (8, 0x402, None),
                (9, 0x403, Some(700)),
                (10, 0x404, None),
            ]
        );
    }

    #[test]
    fn what_is_no_slice_is_not_read() {
        assert_eq!(read(&Words(vec![16, 0]), 0, &layout(), || 1), Ok(None));
        assert_eq!(read(&Words(vec![16, u64::MAX]), 0, &layout(), || 1), Ok(None));
        assert!(read(&Words(vec![16, 3]), 0, &layout(), || 1).is_err());
    }
}
