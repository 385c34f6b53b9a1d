//! Encodes samples of why goroutines waited to run.

use super::wire::{Bytes, Read, Trouble, put, put_list};
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
    put_list(out, by_cause, |out, (cause, ns), _| {
        out.push(cause);
        put(out, ns);
    });
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
    bytes.list(many, &mut seen.by_cause, |bytes, _| {
        Ok((bytes.byte()?, bytes.number()?))
    })?;
    if !seen.by_cause.is_sorted_by(|(one, _), (next, _)| one < next) {
        return Err(Trouble::Malformed("causes are not in order"));
    }
    Ok(seen)
}
