//! Whether the world is being stopped, or is.

use super::{gauges::sched_bytes, time_to_run::total_of};
use crate::binary::Globals;
use crate::binary::layout::Layout;
use crate::process::memory::{Memory, ReadError};

/// What the runtime's memory says of a stop of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorldReading {
    /// `sched.gcwaiting`: it is being stopped, or is.
    pub is_stopping: bool,
    /// `sched.stopwait`: Ps that have not stopped yet.
    pub not_stopped: u32,
    /// Stops that have ended since the process began (Go ≥ 1.22). The runtime counts a stop before another can begin
    /// (`startTheWorldWithSema`): two readings of a stop with the same number are of the same stop.
    pub ended: Option<u64>,
}

/// Reads it; `None` where its place is not known.
pub(super) fn read(
    memory: &impl Memory,
    globals: &Globals,
    layout: &Layout,
) -> Result<Option<WorldReading>, ReadError> {
    let Some(bytes) = sched_bytes(memory, globals, layout)? else {
        return Ok(None);
    };
    let sched = &layout.sched;
    let Some(waiting) = bytes.get(sched.gcwaiting as usize) else {
        return Ok(None);
    };
    let rest = bytes.get(sched.stopwait as usize..);
    let not_stopped = rest
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |word| i32::from_ne_bytes(*word));
    let pauses = |offset: Option<u32>| total_of(&bytes, offset?, layout).map(|(count, _)| count);
    let (gc, other) = (
        pauses(sched.stw_total_time_gc),
        pauses(sched.stw_total_time_other),
    );
    Ok(Some(WorldReading {
        is_stopping: *waiting != 0,
        not_stopped: not_stopped.max(0).cast_unsigned(),
        ended: gc.zip(other).map(|(gc, other)| gc.saturating_add(other)),
    }))
}
