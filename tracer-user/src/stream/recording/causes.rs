//! Encodes samples of why goroutines waited to run.

use super::wire::{Bytes, Read, Trouble, put};
use crate::stream::causes::CauseSamples;

/// Appends the sums, and each cause with its time.
pub fn encode(out: &mut Vec<u8>, seen: &CauseSamples) {
    let CauseSamples {
        samples,
        torn,
        length_ns,
        runnable_ns,
        some_ns,
        largest_ns,
        executed,
        by_cause,
    } = seen;
    for sum in [
        samples,
        torn,
        length_ns,
        runnable_ns,
        some_ns,
        largest_ns,
        executed,
    ] {
        put(out, *sum);
    }
    put(out, by_cause.len() as u64);
    for (cause, ns) in by_cause {
        out.push(*cause);
        put(out, *ns);
    }
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// The bytes are something else.
pub fn decode(bytes: &mut Bytes) -> Read<CauseSamples> {
    let mut seen = CauseSamples {
        samples: bytes.number()?,
        torn: bytes.number()?,
        length_ns: bytes.number()?,
        runnable_ns: bytes.number()?,
        some_ns: bytes.number()?,
        largest_ns: bytes.number()?,
        executed: bytes.number()?,
        by_cause: Vec::new(),
    };
    let many: usize = bytes.small()?;
    // A cause takes at least two bytes.
    if many > bytes.len() / 2 {
        return Err(Trouble::Malformed("there are more causes than bytes"));
    }
    for _ in 0..many {
        let (cause, ns) = (bytes.byte()?, bytes.number()?);
        if seen.by_cause.last().is_some_and(|(last, _)| *last >= cause) {
            return Err(Trouble::Malformed("causes are not in order"));
        }
        seen.by_cause.push((cause, ns));
    }
    Ok(seen)
}
