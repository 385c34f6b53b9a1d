//! How many goroutines there are by the runtime's own counters, as its `gcount` computes it (`runtime/proc.go`, Go 1.19
//! to 1.27): the gs that were ever made, without the dead ones that the free lists keep for reuse.
//!
//! A walk does not find that as well where `allgs` is long: gs are never freed, so that after a burst nearly all are dead.

use crate::binary::Globals;
use crate::binary::layout::{Layout, Sched};
use crate::process::memory::{Memory, ReadError};
use crate::stream::Snapshot;

use super::gauges::MAX_PS;

/// Most bytes of `runtime.schedt` up to the last counter; Go 1.27's are within 220.
const MAX_COUNTERS: u32 = 4096;
/// Longest `allgs` that is believed: 2^32 g structs would be 1.9 TB.
pub(super) const MAX_GS: u64 = 1 << 32;

/// Reads the counters, one after the other: what happens meanwhile may count twice or not at all.
pub(super) fn read_counters(
    memory: &impl Memory,
    globals: &Globals,
    layout: &Layout,
    into: &mut Snapshot,
) -> Result<(), ReadError> {
    let (Some(sched), Some(allp), Some(allgs)) = (globals.sched, globals.allp, globals.allgs) else {
        return Ok(());
    };
    let (Some(lists), Some(of_p)) = (free_lists(&layout.sched), layout.p.gfree) else {
        return Ok(());
    };
    let ngsys = layout.sched.ngsys;
    let last = lists.iter().copied().chain([ngsys]).max().unwrap_or(0);
    let Some(size) = last.checked_add(4).filter(|size| *size <= MAX_COUNTERS) else {
        return Ok(());
    };
    let mut slices = [[0u64; 2]; 2];
    for (slice, address) in slices.iter_mut().zip([allgs, allp]) {
        memory.read_u64s(address, slice)?;
    }
    let [[_, made], [ps, count]] = slices;
    if made == 0 || made > MAX_GS || count == 0 || count > MAX_PS {
        return Ok(());
    }
    let mut bytes = vec![0; size as usize];
    memory.read(sched, &mut bytes)?;
    // Each is an int32 that is never negative; the runtime may be in the middle of a change.
    let counter = |offset: u32| -> u64 {
        let four = bytes.get(offset as usize..).and_then(|rest| rest.first_chunk());
        four.map_or(0, |four| non_negative(*four))
    };
    let mut free: u64 = lists.into_iter().map(counter).sum();
    let mut addresses = vec![0; count as usize];
    memory.read_u64s(ps, &mut addresses)?;
    for address in &mut addresses {
        *address = address.wrapping_add(u64::from(of_p));
    }
    let mut lengths = vec![0; addresses.len() * 4];
    memory.read_each(&addresses, 4, &mut lengths)?;
    free += lengths
        .as_chunks()
        .0
        .iter()
        .map(|four| non_negative(*four))
        .sum::<u64>();
    // At least one goroutine runs, as gcount has it.
    into.goroutines_live = Some(made.saturating_sub(free).max(1));
    into.goroutines_user = Some(made.saturating_sub(free).saturating_sub(counter(ngsys)).max(1));
    Ok(())
}

/// The offsets of the lengths of the free lists that all Ps share: one up to Go 1.24, then two.
fn free_lists(sched: &Sched) -> Option<Vec<u32>> {
    match (sched.gfree, sched.gfree_stack, sched.gfree_no_stack) {
        (Some(all), ..) => Some(vec![all]),
        (None, Some(stack), Some(no_stack)) => Some(vec![stack, no_stack]),
        _ => None,
    }
}

fn non_negative(bytes: [u8; 4]) -> u64 {
    u64::try_from(i32::from_ne_bytes(bytes)).unwrap_or(0)
}
