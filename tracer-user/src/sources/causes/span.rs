//! A part of one of the runtime's structs that is read as a whole.

use crate::process::memory::MemoryRange;

/// The length of a word, which is that of the longest field.
pub(super) const WORD: usize = 8;

/// A range of a struct: from this offset on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    from: u32,
    /// Its length in bytes.
    pub length: usize,
}

impl Span {
    /// The range of these fields, each of at most 8 bytes.
    pub(super) fn of(fields: &[u32]) -> Self {
        let from = fields.iter().copied().min().unwrap_or(0);
        let last = fields.iter().copied().max().unwrap_or(0);
        Self {
            from,
            length: (last - from) as usize + WORD,
        }
    }

    /// Where it lies in the struct at this address.
    pub(super) fn at(self, address: u64) -> MemoryRange {
        range(address.wrapping_add(u64::from(self.from)), self.length)
    }

    /// The 8 bytes of a field in what was read of this range, or 0 past its end.
    pub(super) fn word(self, bytes: &[u8], field: u32) -> u64 {
        let at = field.checked_sub(self.from);
        at.and_then(|at| bytes.get(at as usize..)).map_or(0, word)
    }

    /// The lower half of it: all machines are little-endian.
    pub(super) fn half(self, bytes: &[u8], field: u32) -> u32 {
        self.word(bytes, field) as u32
    }
}

/// A range of memory; all machines have addresses of 64 bits.
pub(super) fn range(address: u64, length: usize) -> MemoryRange {
    MemoryRange {
        base: address as usize,
        len: length,
    }
}

/// The first 8 bytes, or 0 where there are fewer.
pub(super) fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_what_was_read_of_their_range() {
        let span = Span::of(&[16, 4, 40]);
        assert_eq!(span.at(1_000), range(1_004, 44));
        let bytes: Vec<u8> = (4..48).collect();
        assert_eq!(span.word(&bytes, 4), 0x0b0a_0908_0706_0504);
        assert_eq!(span.half(&bytes, 40), 0x2b2a_2928);
        // Before it, and past its end.
        assert_eq!((span.word(&bytes, 0), span.word(&bytes, 41)), (0, 0));
        assert_eq!(span.word(&bytes, 4_000), 0);
    }
}
