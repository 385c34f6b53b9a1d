//! How often each P has taken another goroutine to run.

use crate::binary::layout::P;
use crate::process::memory::{Memory, ReadError};

use super::gauges::MAX_PS;

/// Reads `p.schedtick` of every P. `None` if `allp` is not plausibly a slice.
pub(super) fn read(memory: &impl Memory, allp: u64, layout: &P) -> Result<Option<Vec<u32>>, ReadError> {
    let mut slice = [0; 2];
    memory.read_u64s(allp, &mut slice)?;
    let [pointer, length] = slice;
    if length == 0 || length > MAX_PS {
        return Ok(None);
    }
    let mut ps = vec![0; length as usize];
    memory.read_u64s(pointer, &mut ps)?;
    let schedtick = u64::from(layout.schedtick);
    let addresses: Vec<u64> = ps.iter().map(|p| p.wrapping_add(schedtick)).collect();
    let mut bytes = vec![0; addresses.len() * 4];
    memory.read_each(&addresses, 4, &mut bytes)?;
    let ticks = bytes.as_chunks().0.iter().map(|chunk| u32::from_ne_bytes(*chunk));
    Ok(Some(ticks.collect()))
}
