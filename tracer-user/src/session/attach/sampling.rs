//! Samples of why goroutines wait, in the modes that see no causes of their own.

use super::prepare::Prepared;
use crate::{
    plan::Mode,
    process::memory::ProcessMemory,
    sources::causes::{CauseSampler, Sampling},
};

/// Samples a second, unless another number is asked for.
const PER_SECOND: u32 = 100;

/// Starts to take samples of a target, `asked` for a second; `None` where none are wanted, or the layout of the
/// runtime's structs is not known.
pub(super) fn start(target: &Prepared, mode: Mode, asked: Option<u32>) -> Option<Sampling> {
    let usual = match mode {
        Mode::Passive | Mode::Sampled => PER_SECOND,
        Mode::Exact | Mode::Full => 0,
    };
    let per_second = asked.unwrap_or(usual);
    if per_second == 0 {
        return None;
    }
    let (reading, pid) = (&target.reading, target.pid());
    let layout = reading.layout()?;
    let memory = ProcessMemory::new(pid);
    let sampler = CauseSampler::new(memory, pid, &reading.globals, target.bias(), layout)?;
    Sampling::start(sampler, pid, per_second)
        .inspect_err(|e| log::warn!("it is not sampled why goroutines wait: {e}"))
        .ok()
}
