//! Encodes the stacks of goroutines that blocked, and the calls at their addresses.

use super::wire::{Bytes, Read, Trouble, put, put_difference, put_list, put_text};
use crate::{
    binary::Frame,
    stream::transition::{StackSeen, StacksSeen},
};

/// Longest name of a function or file that is kept.
const LONGEST_TEXT: usize = 16 * 1024;

/// Appends the stacks that were not seen before, and how many were walked.
pub fn encode(out: &mut Vec<u8>, seen: &StacksSeen) {
    put(out, seen.walked);
    put(out, seen.new.len() as u64);
    for stack in &seen.new {
        put(out, u64::from(stack.id));
        put(out, u64::from(stack.end));
        put_list(out, &stack.pcs, put_difference);
    }
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// The bytes are something else.
pub fn decode(bytes: &mut Bytes) -> Read<StacksSeen> {
    let walked = bytes.number()?;
    let many: usize = bytes.small()?;
    // A stack takes at least three bytes.
    if many > bytes.len() / 3 {
        return Err(Trouble::Malformed("there are more stacks than bytes"));
    }
    let mut new = Vec::with_capacity(many);
    for _ in 0..many {
        let (id, end) = (bytes.small()?, bytes.small()?);
        let deep: usize = bytes.small()?;
        if deep > bytes.len() {
            return Err(Trouble::Malformed("a stack has more calls than bytes"));
        }
        let mut pcs = Vec::with_capacity(deep);
        bytes.list(deep, &mut pcs, Bytes::difference)?;
        new.push(StackSeen { id, pcs, end });
    }
    Ok(StacksSeen { new, walked })
}

/// Appends the calls at an address, innermost first.
pub fn encode_frames(out: &mut Vec<u8>, frames: &[Frame]) {
    put(out, frames.len() as u64);
    for frame in frames {
        put_text(out, cut(frame.function.raw()));
        let (file, line) = frame
            .place
            .as_ref()
            .map_or(("", None), |(file, line)| (file.raw(), Some(*line)));
        put_text(out, cut(file));
        // 0 where neither is known.
        put(out, line.map_or(0, |line| u64::from(line) + 1));
    }
}

/// Reads what [`encode_frames`] wrote.
///
/// # Errors
/// The bytes are something else.
pub fn decode_frames(bytes: &mut Bytes) -> Read<Vec<Frame>> {
    let many: usize = bytes.small()?;
    // A frame takes at least three bytes.
    if many > bytes.len() / 3 {
        return Err(Trouble::Malformed("there are more calls than bytes"));
    }
    let mut frames = Vec::with_capacity(many);
    for _ in 0..many {
        let (function, file) = (bytes.text()?.into(), bytes.text()?.into());
        let line = match bytes.number()? {
            0 => None,
            n => Some(u32::try_from(n - 1).map_err(|_| Trouble::Malformed("a line is too large"))?),
        };
        frames.push(Frame {
            function,
            place: line.map(|line| (file, line)),
        });
    }
    Ok(frames)
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_TEXT))
        .unwrap_or_default()
}
