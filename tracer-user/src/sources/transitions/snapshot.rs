//! Reads every goroutine, P and M from the target's memory, while the target runs: of very many goroutines in parts, so
//! that memory is bounded, and so is the time that lies between reading a goroutine and knowing when it was read.

use std::ops::Range;

use crate::binary::Globals;
use crate::binary::layout::Layout;
use crate::bpf::attach;
use crate::process::memory::{Memory, ReadError};
use crate::process::threads::ids_in_ours;
use crate::stream::transition::{
    GoroutineSeen, MachineSeen, ProcessorSeen, ReadingPart, SchedSnapshot, status,
};

/// Goroutines that are read by one system call.
const BATCH: usize = 512;
/// Gs in a part of a reading: some milliseconds to read them, and as long to apply them.
const PART: u64 = 8_192;
/// How often a part of `allgs` is read anew, if the runtime has moved it meanwhile.
const ATTEMPTS: usize = 3;
/// Longest slices that are believed: a longer one is something else.
const MAX_GS: u64 = 1 << 26;
const MAX_PS: u64 = 1 << 16;
/// Longest list of Ms that is followed: the runtime itself dies at 10,000 by default.
const MAX_MS: usize = 1 << 17;

/// Reads snapshots of one process.
pub struct SnapshotReader<M> {
    memory: M,
    pid: u32,
    /// Run-time addresses.
    allgs: Option<u64>,
    allp: Option<u64>,
    allm: Option<u64>,
    layout: Layout,
}

impl<M: Memory> SnapshotReader<M> {
    /// A reader of process `pid`. `globals` are link-time addresses.
    pub fn new(memory: M, pid: u32, globals: &Globals, bias: u64, layout: Layout) -> Self {
        let biased = |address: Option<u64>| address.map(|a| a.wrapping_add(bias));
        Self {
            memory,
            pid,
            allgs: biased(globals.allgs),
            allp: biased(globals.allp),
            allm: biased(globals.allm),
            layout,
        }
    }

    /// Reads all of it, and calls `take` for each part: for the only one, if there are few goroutines. Ends early where
    /// `take` returns false. `clock` is CLOCK_MONOTONIC.
    ///
    /// # Errors
    /// The process is gone or may not be read. What else cannot be read is left out, and `cut_short` is set.
    pub fn read(
        &self,
        clock: impl Fn() -> u64,
        mut take: impl FnMut(SchedSnapshot) -> bool,
    ) -> Result<(), ReadError> {
        let begin_ns = clock();
        let mut snapshot = SchedSnapshot {
            begin_ns,
            ..SchedSnapshot::default()
        };
        let machines = self.machines(&mut snapshot);
        keep(machines, &mut snapshot)?;
        let processors = self.processors(&mut snapshot);
        keep(processors, &mut snapshot)?;
        // Gs that are added from here on are made under the eyes of the probes.
        let gs = match self.slice(self.allgs, MAX_GS) {
            Ok(Some((_, length))) => length,
            Ok(None) => {
                snapshot.cut_short = true;
                0
            }
            Err(e) => {
                keep(Err(e), &mut snapshot)?;
                0
            }
        };
        let mut next = 0;
        loop {
            let until = gs.min(next + PART);
            let goroutines = self.goroutines(next..until, &mut snapshot);
            keep(goroutines, &mut snapshot)?;
            next = until;
            let is_last = next >= gs;
            snapshot.end_ns = clock();
            snapshot.part = (gs > PART).then_some(ReadingPart {
                begin_ns,
                gs,
                is_last,
            });
            if !take(snapshot) || is_last {
                return Ok(());
            }
            snapshot = SchedSnapshot {
                begin_ns: clock(),
                ..SchedSnapshot::default()
            };
        }
    }

    fn slice(&self, address: Option<u64>, most: u64) -> Result<Option<(u64, u64)>, ReadError> {
        let Some(address) = address else { return Ok(None) };
        let mut words = [0; 2];
        self.memory.read_u64s(address, &mut words)?;
        let [pointer, length] = words;
        Ok((length <= most).then_some((pointer, length)))
    }

    /// Reads a range of `allgs`: the addresses of gs. The runtime moves the array when it grows, and what was there is
    /// used for something else. `None` if it moved each time, or is shorter than that.
    fn addresses(&self, range: &Range<u64>) -> Result<Option<Vec<u64>>, ReadError> {
        let mut addresses = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
        for _ in 0..ATTEMPTS {
            let Some((pointer, length)) = self.slice(self.allgs, MAX_GS)? else {
                return Ok(None);
            };
            if length < range.end {
                return Ok(None);
            }
            let read = self
                .memory
                .read_u64s(pointer.wrapping_add(range.start * 8), &mut addresses);
            // Where it was may even be unmapped by now.
            if self
                .slice(self.allgs, MAX_GS)?
                .is_some_and(|(now, _)| now == pointer)
            {
                return read.map(|()| Some(addresses));
            }
        }
        Ok(None)
    }

    fn goroutines(&self, range: Range<u64>, into: &mut SchedSnapshot) -> Result<(), ReadError> {
        let Some(addresses) = self.addresses(&range)? else {
            into.cut_short = true;
            return Ok(());
        };
        let layout = &self.layout.g;
        let size = layout.size as usize;
        let mut bytes = vec![0; BATCH.min(addresses.len()) * size];
        for batch in addresses.chunks(BATCH) {
            let Some(structs) = bytes.get_mut(..batch.len() * size) else {
                break;
            };
            self.memory.read_each(batch, size, structs)?;
            for (g, bytes) in batch.iter().zip(structs.chunks_exact(size)) {
                let word = |at: u32| word(bytes, at);
                let state = (word(layout.atomicstatus) as u32 & !status::SCAN) as u8;
                if matches!(state, status::IDLE | status::DEAD | status::DEADEXTRA) {
                    continue;
                }
                into.goroutines.push(GoroutineSeen {
                    g: *g,
                    goid: word(layout.goid),
                    status: state,
                    reason: bytes.get(layout.waitreason as usize).copied().unwrap_or(0),
                    m: word(layout.m),
                    gopc: word(layout.gopc),
                    startpc: word(layout.startpc),
                });
            }
        }
        Ok(())
    }

    fn processors(&self, into: &mut SchedSnapshot) -> Result<(), ReadError> {
        let Some((pointer, length)) = self.slice(self.allp, MAX_PS)? else {
            into.cut_short = true;
            return Ok(());
        };
        let layout = &self.layout.p;
        let mut pointers = vec![0; usize::try_from(length).unwrap_or(0)];
        self.memory.read_u64s(pointer, &mut pointers)?;
        let read = |p: u64, at: u32| self.memory.read_u64(p.wrapping_add(u64::from(at)));
        for p in pointers.into_iter().filter(|p| *p != 0) {
            let half = |at| read(p, at).map(|word| word as u32);
            let queued = half(layout.runqtail)?.wrapping_sub(half(layout.runqhead)?);
            into.processors.push(ProcessorSeen {
                p,
                id: half(layout.id)?,
                status: half(layout.status)? as u8,
                m: read(p, layout.m)?,
                queued: queued.min(layout.runq_len) + u32::from(read(p, layout.runnext)? != 0),
            });
        }
        Ok(())
    }

    fn machines(&self, into: &mut SchedSnapshot) -> Result<(), ReadError> {
        let Some(allm) = self.allm else {
            into.cut_short = true;
            return Ok(());
        };
        let threads = ids_in_ours(self.pid);
        // The kernel side names threads by their ids in the initial namespace, which are not visible from another.
        let known = attach::in_initial_pid_namespace();
        let layout = &self.layout.m;
        let read = |m: u64, at: u32| self.memory.read_u64(m.wrapping_add(u64::from(at)));
        let mut m = self.memory.read_u64(allm)?;
        while m != 0 && into.machines.len() < MAX_MS {
            let tid = read(m, layout.procid)? as u32;
            into.machines.push(MachineSeen {
                m,
                id: read(m, layout.id)?,
                tid: if known {
                    threads.get(&tid).copied().unwrap_or(tid)
                } else {
                    0
                },
                curg: read(m, layout.curg)?,
                p: read(m, layout.p)?,
                oldp: read(m, layout.oldp)?,
                spinning: read(m, layout.spinning)? as u8 != 0,
                blocked: read(m, layout.blocked)? as u8 != 0,
            });
            m = read(m, layout.alllink)?;
        }
        into.cut_short |= m != 0;
        Ok(())
    }
}

/// Marks a snapshot as cut short where something could not be read.
///
/// # Errors
/// Nothing more can be read.
fn keep(read: Result<(), ReadError>, into: &mut SchedSnapshot) -> Result<(), ReadError> {
    match read {
        Ok(()) => Ok(()),
        Err(e @ (ReadError::Gone { .. } | ReadError::NotPermitted { .. })) => Err(e),
        Err(e) => {
            log::debug!("some of the scheduler's state is left out: {e}");
            into.cut_short = true;
            Ok(())
        }
    }
}

/// The 8 bytes at `at`, or 0 past the end.
fn word(bytes: &[u8], at: u32) -> u64 {
    bytes
        .get(at as usize..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |word| u64::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::testing::Crowd;
    use super::*;

    /// Reads all, by a clock that ticks each time that it is read.
    fn read(gs: u64, moves_every: u64) -> Vec<SchedSnapshot> {
        let clock = Cell::new(0);
        let mut parts = Vec::new();
        Crowd::reader(gs, moves_every)
            .read(
                || {
                    clock.set(clock.get() + 1);
                    clock.get()
                },
                |part| {
                    parts.push(part);
                    true
                },
            )
            .unwrap();
        parts
    }

    #[test]
    fn few_goroutines_are_one_snapshot() {
        let parts = read(1000, 0);
        assert_eq!((parts.len(), parts[0].part, parts[0].cut_short), (1, None, false));
        assert_eq!(parts[0].goroutines.len(), 900);
    }

    #[test]
    fn many_goroutines_come_in_parts_with_times_of_their_own() {
        // Also where the runtime moves the array in the middle.
        for moves_every in [0, 4] {
            let parts = read(2 * PART + 5, moves_every);
            assert_eq!(parts.len(), 3);
            assert!(parts.iter().all(|part| !part.cut_short));
            let begin_ns = parts[0].begin_ns;
            let last: Vec<bool> = parts
                .iter()
                .map(|snapshot| {
                    let part = snapshot.part.expect("a part");
                    assert_eq!((part.begin_ns, part.gs), (begin_ns, 2 * PART + 5));
                    assert!(snapshot.begin_ns < snapshot.end_ns);
                    part.is_last
                })
                .collect();
            assert_eq!(last, [false, false, true]);
            assert!(parts.windows(2).all(|two| two[0].end_ns < two[1].begin_ns));
            let goids: Vec<u64> = parts
                .iter()
                .flat_map(|part| &part.goroutines)
                .map(|seen| seen.goid)
                .collect();
            let expected: Vec<u64> = (1..=2 * PART + 5)
                .filter(|goid| !(goid - 1).is_multiple_of(10))
                .collect();
            assert_eq!(goids, expected);
        }
    }

    #[test]
    fn an_array_that_never_stays_is_left_out() {
        let parts = read(100, 1);
        assert!(parts[0].cut_short && parts[0].goroutines.is_empty());
    }

    #[test]
    fn a_reading_ends_when_nobody_takes_its_parts() {
        let mut parts = 0;
        let read = Crowd::reader(10 * PART, 0).read(
            || 1,
            |_| {
                parts += 1;
                parts < 2
            },
        );
        assert_eq!((read, parts), (Ok(()), 2));
    }
}
