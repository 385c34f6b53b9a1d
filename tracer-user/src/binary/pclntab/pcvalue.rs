//! Tables that map ranges of a function's instructions to a number.
//!
//! Source: `runtime/symtab.go`, `step`: pairs of varints, a zigzag delta of the value and an unsigned delta of
//! the address in units of the smallest instruction, from value -1 at the entry; a value delta of zero ends the
//! table, but not as its first.

/// Longest table of a function that is read: a corrupted one would run through the whole file, again for each node of
/// an inline tree.
const MAX_TABLE: usize = 1 << 16;

/// Iterates over one table: (end of the range in bytes from the function's entry, value in it).
pub(super) struct PcValues<'d> {
    table: &'d [u8],
    min_lc: u32,
    pc: u32,
    value: i32,
    first: bool,
}

impl<'d> PcValues<'d> {
    /// The table that begins at `offset` of `pctab`; offset 0 means that there is none.
    pub(super) fn new(pctab: &'d [u8], offset: u32, min_lc: u8) -> Option<Self> {
        let table = pctab.get(offset as usize..).filter(|_| offset != 0)?;
        let table = table.get(..MAX_TABLE).unwrap_or(table);
        Some(Self {
            table,
            min_lc: u32::from(min_lc),
            pc: 0,
            value: -1,
            first: true,
        })
    }

    /// The value at an offset from the function's entry.
    pub(super) fn at(self, offset: u32) -> Option<i32> {
        self.into_iter().find(|&(end, _)| offset < end).map(|(_, v)| v)
    }
}

impl Iterator for PcValues<'_> {
    type Item = (u32, i32);

    fn next(&mut self) -> Option<(u32, i32)> {
        let delta = varint(&mut self.table)?;
        if delta == 0 && !self.first {
            self.table = &[];
            return None;
        }
        self.first = false;
        // Zigzag: the lowest bit is the sign.
        self.value = self
            .value
            .wrapping_add((delta >> 1).cast_signed() ^ -(delta & 1).cast_signed());
        let step = varint(&mut self.table)?;
        // A table that exceeds the range of an offset is corrupted.
        self.pc = self.pc.checked_add(step.checked_mul(self.min_lc)?)?;
        Some((self.pc, self.value))
    }
}

/// A little-endian base-128 number of at most 32 bits.
fn varint(data: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
