//! Gauges of the scheduler: `runtime.sched` and the Ps.

use std::collections::BTreeMap;

use crate::binary::Globals;
use crate::binary::layout::{Layout, P};
use crate::clock::ClockOffset;
use crate::process::memory::{Memory, ReadError};
use crate::stream::Snapshot;

use super::time_to_run::total_of;

/// Most bytes of `runtime.schedt` that are read; Go 1.27's has 6872.
const MAX_SCHED: u32 = 64 << 10;
/// Most Ps that are read. GOMAXPROCS has no limit, but no machine has so many CPUs.
pub(super) const MAX_PS: u64 = 1 << 13;
/// Slots of a P's local run queue (`runtime/runtime2.go`, `p.runq`): no length can be larger.
const RUNQ_SLOTS: u32 = 256;

/// Names of a P's states by number: `_Pidle` … `_Pdead` (`runtime/runtime2.go`, the same in Go 1.19 to
/// 1.27; from 1.26 on no P is in `syscall`).
const P_STATES: [&str; 5] = ["idle", "running", "syscall", "gcstop", "dead"];

/// Reads `gomaxprocs`.
pub(super) fn read_gomaxprocs(
    memory: &impl Memory,
    globals: &Globals,
    into: &mut Snapshot,
) -> Result<(), ReadError> {
    let Some(address) = globals.gomaxprocs else {
        return Ok(());
    };
    into.gomaxprocs = Some(memory.read_u32(address)?);
    Ok(())
}

/// Reads the fields of `runtime.sched`, by one read.
pub(super) fn read_sched(
    memory: &impl Memory,
    globals: &Globals,
    layout: &Layout,
    clock: Option<ClockOffset>,
    now_ns: u64,
    into: &mut Snapshot,
) -> Result<(), ReadError> {
    let Some(bytes) = sched_bytes(memory, globals, layout)? else {
        return Ok(());
    };
    let sched = &layout.sched;
    let u32_at = |offset: u32| Some(u32::from_ne_bytes(*bytes.get(offset as usize..)?.first_chunk()?));
    // An int32 that is never negative; the runtime may be in the middle of a decrement.
    let count_at = |offset: u32| Some(u32_at(offset)?.cast_signed().max(0).cast_unsigned());
    // `atomic.Bool` (a byte), in Go 1.19 a uint32 that is 0 or 1: both little-endian.
    let bool_at = |offset: u32| Some(*bytes.get(offset as usize)? != 0);
    into.global_runq = count_at(sched.runqsize).map(u64::from);
    into.idle_ps = count_at(sched.npidle);
    into.spinning_ms = count_at(sched.nmspinning);
    into.idle_ms = count_at(sched.nmidle);
    into.gc_waiting = bool_at(sched.gcwaiting);
    into.sysmon_waiting = bool_at(sched.sysmonwait);
    let last_poll = bytes
        .get(sched.lastpoll as usize..)
        .and_then(|rest| rest.first_chunk());
    into.since_last_poll_ns = match last_poll.map(|b| u64::from_ne_bytes(*b)) {
        // Zero while a thread is blocked in the poll.
        None | Some(0) => None,
        Some(at) => clock.map(|clock| now_ns.saturating_sub(clock.to_host(at))),
    };
    let total = |offset: Option<u32>| total_of(&bytes, offset?, layout);
    if let (Some(gc), Some(other)) = (total(sched.stw_total_time_gc), total(sched.stw_total_time_other)) {
        into.stw_pauses = Some((gc.0, other.0));
        into.stw_total_ns = Some((gc.1, other.1));
    }
    if let (Some(gc), Some(other)) = (
        total(sched.stw_stopping_time_gc),
        total(sched.stw_stopping_time_other),
    ) {
        into.stw_stopping_ns = Some((gc.1, other.1));
    }
    Ok(())
}

/// The bytes of `runtime.sched`, by one read; `None` where its address is not known.
pub(super) fn sched_bytes(
    memory: &impl Memory,
    globals: &Globals,
    layout: &Layout,
) -> Result<Option<Vec<u8>>, ReadError> {
    let Some(address) = globals.sched else {
        return Ok(None);
    };
    let mut bytes = vec![0; layout.sched.size.min(MAX_SCHED) as usize];
    memory.read(address, &mut bytes)?;
    Ok(Some(bytes))
}

/// Reads the state and run queue of every P.
pub(super) fn read_ps(
    memory: &impl Memory,
    globals: &Globals,
    layout: &P,
    into: &mut Snapshot,
) -> Result<(), ReadError> {
    let Some(address) = globals.allp else {
        return Ok(());
    };
    let mut slice = [0; 2];
    memory.read_u64s(address, &mut slice)?;
    let [pointer, length] = slice;
    if length == 0 || length > MAX_PS {
        return Ok(());
    }
    let mut ps = vec![0; length as usize];
    memory.read_u64s(pointer, &mut ps)?;
    let field = |offset: u32| -> Result<Vec<u32>, ReadError> {
        let addresses: Vec<u64> = ps.iter().map(|p| p.wrapping_add(u64::from(offset))).collect();
        let mut bytes = vec![0; addresses.len() * 4];
        memory.read_each(&addresses, 4, &mut bytes)?;
        Ok(bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| u32::from_ne_bytes(*b))
            .collect())
    };
    let mut by_state: BTreeMap<u32, u64> = BTreeMap::new();
    for state in field(layout.status)? {
        *by_state.entry(state).or_default() += 1;
    }
    into.ps_by_state = by_state
        .into_iter()
        .map(|(state, count)| {
            let name = P_STATES
                .get(state as usize)
                .map_or_else(|| format!("status {state}"), |s| s.to_string());
            (name, count)
        })
        .collect();
    // Read one after the other: a running P moves both, so a length may be off by what it did in these microseconds.
    let (heads, tails) = (field(layout.runqhead)?, field(layout.runqtail)?);
    let (next_low, next_high) = (field(layout.runnext)?, field(layout.runnext.saturating_add(4))?);
    into.local_runqs = heads
        .iter()
        .zip(&tails)
        .zip(next_low.iter().zip(&next_high))
        .map(|((head, tail), (low, high))| {
            // The queue's indexes wrap; if the head has passed the tail, the queue is empty.
            let length = tail
                .wrapping_sub(*head)
                .cast_signed()
                .clamp(0, RUNQ_SLOTS.cast_signed());
            length.cast_unsigned() + u32::from(*low != 0 || *high != 0)
        })
        .collect();
    Ok(())
}
