//! Reads every goroutine, P and M from the target's memory, while the target runs.

use std::{collections::HashMap, fs};

use crate::binary::Globals;
use crate::binary::layout::Layout;
use crate::bpf::attach;
use crate::process::memory::{Memory, ReadError};
use crate::process::text_of;
use crate::stream::transition::{GoroutineSeen, MachineSeen, ProcessorSeen, SchedSnapshot, status};

/// Goroutines that are read by one system call.
const BATCH: usize = 512;
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

    /// Reads all of it. `clock` is CLOCK_MONOTONIC.
    ///
    /// # Errors
    /// The process is gone or may not be read. A part that cannot be read is left out, and `cut_short` is set.
    pub fn read(&self, clock: impl Fn() -> u64) -> Result<SchedSnapshot, ReadError> {
        let mut snapshot = SchedSnapshot {
            begin_ns: clock(),
            ..SchedSnapshot::default()
        };
        let parts = [
            self.machines(&mut snapshot),
            self.processors(&mut snapshot),
            self.goroutines(&mut snapshot),
        ];
        for part in parts {
            match part {
                Ok(()) => {}
                Err(e @ (ReadError::Gone { .. } | ReadError::NotPermitted { .. })) => return Err(e),
                Err(e) => {
                    log::debug!("a part of the scheduler's state is left out: {e}");
                    snapshot.cut_short = true;
                }
            }
        }
        snapshot.end_ns = clock();
        Ok(snapshot)
    }

    fn slice(&self, address: Option<u64>, most: u64) -> Result<Option<(u64, u64)>, ReadError> {
        let Some(address) = address else { return Ok(None) };
        let mut words = [0; 2];
        self.memory.read_u64s(address, &mut words)?;
        let [pointer, length] = words;
        Ok((length <= most).then_some((pointer, length)))
    }

    fn goroutines(&self, into: &mut SchedSnapshot) -> Result<(), ReadError> {
        let Some((pointer, length)) = self.slice(self.allgs, MAX_GS)? else {
            into.cut_short = true;
            return Ok(());
        };
        let layout = &self.layout.g;
        let size = layout.size as usize;
        let mut bytes = vec![0; BATCH * size];
        let mut pointers = vec![0; BATCH];
        let mut index = 0;
        while index < length {
            let count = BATCH.min(usize::try_from(length - index).unwrap_or(BATCH));
            let (Some(batch), Some(structs)) = (pointers.get_mut(..count), bytes.get_mut(..count * size))
            else {
                break;
            };
            self.memory.read_u64s(pointer.wrapping_add(index * 8), batch)?;
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
            index += count as u64;
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
        let threads = threads(self.pid);
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

/// Maps thread ids in the target's own PID namespace (`m.procid`) to those in ours, where the two differ.
fn threads(pid: u32) -> HashMap<u32, u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let pairs = tasks.filter_map(|task| {
        let text = text_of(task.path().join("status")).ok()?;
        let ids = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        let mut ids = ids.split_ascii_whitespace().filter_map(|id| id.parse().ok());
        let ours: u32 = ids.next()?;
        Some((ids.next_back()?, ours))
    });
    pairs.collect()
}

/// The 8 bytes at `at`, or 0 past the end.
fn word(bytes: &[u8], at: u32) -> u64 {
    bytes
        .get(at as usize..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |word| u64::from_ne_bytes(*word))
}
