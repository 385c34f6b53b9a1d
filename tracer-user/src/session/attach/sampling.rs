//! Samples of why goroutines wait, in the modes that see no causes of their own.

use super::prepare::Prepared;
use crate::{
    plan::Mode,
    process::memory::{ProcessMemory, ReadError},
    sources::causes::{CauseSampler, Sampling},
    stream::{Kind, Observation},
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
    let sampler =
        CauseSampler::new(memory, pid, &reading.globals, target.bias(), layout)?.of_go(target.minor());
    Sampling::start(sampler, pid, per_second)
        .inspect_err(|e| log::warn!("it is not sampled why goroutines wait: {e}"))
        .ok()
}

/// Leaves out samples where the target has executed another program: they are read from memory in every mode, and may be
/// that program's.
pub(super) fn leave_out_foreign(seen: &mut Vec<Observation>, has_execed: impl FnOnce() -> bool) {
    let is_sample = |seen: &Observation| matches!(seen.kind, Kind::CauseSamples(_));
    if seen.iter().any(is_sample) && has_execed() {
        seen.retain(|seen| !is_sample(seen));
    }
}

/// Says that samples were not taken to the end of the capture, and why; `None` where they were, or the target has ended.
pub(super) fn remark(sampling: &Sampling) -> Option<String> {
    sentence(sampling.failure()?)
}

fn sentence(failure: &ReadError) -> Option<String> {
    match failure {
        ReadError::Gone { .. } => None,
        _ => Some(format!(
            "why goroutines wait was sampled for a part of the capture at most, and is estimated from that: {failure}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::causes::CauseSamples;

    #[test]
    fn only_samples_are_left_out_and_only_after_an_execve() {
        let seen = |kind| Observation { at_ns: 1, kind };
        let all = [
            seen(Kind::CauseSamples(CauseSamples::default())),
            seen(Kind::Hits(3)),
        ];
        for (has_execed, left) in [(false, &all[..]), (true, &all[1..])] {
            let mut seen = all.to_vec();
            leave_out_foreign(&mut seen, || has_execed);
            assert_eq!(seen, left);
        }
        // Where there is no sample, nobody has to look.
        leave_out_foreign(&mut vec![seen(Kind::Hits(3))], || panic!("asked"));
    }

    #[test]
    fn samples_that_end_before_the_capture_does_are_remarked_with_the_reason() {
        let remark = sentence(&ReadError::NotPermitted { pid: 4711 }).unwrap();
        assert!(remark.contains("a part of the capture at most"), "{remark}");
        assert!(
            remark.contains("no permission to read the memory of process 4711"),
            "{remark}"
        );
        assert_eq!(sentence(&ReadError::Gone { pid: 4711 }), None);
    }
}
