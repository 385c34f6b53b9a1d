//! Looks up names for addresses in a program that was read before.
//!
//! Reading a program means a pass over all of its functions, which takes seconds if there are a million, but a name
//! only needs a search for one of them. So what the pass has found out about the table is kept, a few hundred bytes,
//! and the file is mapped again to look up names: if it stayed mapped, it would count as our memory.

use super::GoBinary;
use super::pclntab::{Frame, Header, PcLnTab, TextMap};

/// Where the names are in a program's file.
#[derive(Clone, Debug)]
pub struct SymbolTable {
    header: Header,
    text: TextMap,
    /// Offset and length of the table in the file.
    table: (usize, usize),
    /// Offset and length of the inline trees in the file; length 0 if that is not known.
    gofunc: (usize, usize),
    wrapper: u8,
}

impl SymbolTable {
    /// The table of a program that was read as a whole.
    pub(super) fn of(binary: &GoBinary<'_>) -> Self {
        let within = |part: &[u8]| {
            let begin = part
                .as_ptr()
                .addr()
                .checked_sub(binary.image.data.as_ptr().addr());
            (begin.unwrap_or(usize::MAX), part.len())
        };
        let (table, gofunc, wrapper) = binary.pclntab.parts();
        Self {
            header: *binary.pclntab.header(),
            text: binary.module.text.clone(),
            table: within(table),
            gofunc: within(gofunc),
            wrapper,
        }
    }

    /// The names in the bytes of the same file. If it is another file, or was overwritten, names are wrong or absent.
    pub fn read<'d>(&self, data: &'d [u8]) -> Symbols<'d> {
        let part = |(from, length): (usize, usize)| {
            let end = from.checked_add(length);
            end.and_then(|end| data.get(from..end)).unwrap_or(&[])
        };
        Symbols(PcLnTab::unindexed(
            part(self.table),
            self.header,
            self.text.clone(),
            part(self.gofunc),
            self.wrapper,
        ))
    }
}

/// The names of a program.
#[derive(Debug)]
pub struct Symbols<'d>(PcLnTab<'d>);

impl<'d> Symbols<'d> {
    /// As [`GoBinary::outermost_at`].
    pub fn outermost_at(&self, pc: u64) -> Option<&'d str> {
        self.0.name(self.0.function_of(pc)?)
    }

    /// As [`GoBinary::frames_at`].
    pub fn frames_at(&self, pc: u64) -> Option<Vec<Frame<'d>>> {
        frames_at(&self.0, pc)
    }

    /// As [`GoBinary::creation_site`].
    pub fn creation_site(&self, gopc: u64) -> Option<&'d str> {
        creation_site(&self.0, gopc)
    }
}

/// See [`GoBinary::frames_at`].
pub(super) fn frames_at<'d>(pclntab: &PcLnTab<'d>, pc: u64) -> Option<Vec<Frame<'d>>> {
    let mut frames = Some(pclntab.frames_at(pc)).filter(|frames| !frames.is_empty())?;
    frames.retain(|frame| !frame.is_wrapper);
    Some(frames)
}

/// See [`GoBinary::creation_site`].
pub(super) fn creation_site<'d>(pclntab: &PcLnTab<'d>, gopc: u64) -> Option<&'d str> {
    match pclntab.name_at(gopc.checked_sub(1)?)? {
        "runtime.newproc" => Some("runtime.rt0_go"),
        name => Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::testing::{Build, Go};

    /// Every function's name, and one that is inlined somewhere, is the same as from the whole program.
    #[test]
    fn names_are_those_of_the_whole_program() {
        for go in Go::all() {
            for build in [Build::Static, Build::PieStripped] {
                let bytes = std::fs::read(go.build(build)).unwrap();
                let binary = GoBinary::parse(&bytes, "test").unwrap();
                let symbols = binary.symbol_table().read(&bytes);
                let mut compared = 0;
                for f in (0..).map_while(|i| binary.pclntab().nth(i)) {
                    let (start, end) = binary.pclntab().range(f).unwrap();
                    for pc in [start, start + (end - start) / 2, end] {
                        assert_eq!(symbols.outermost_at(pc), binary.outermost_at(pc), "{pc:#x}");
                        assert_eq!(symbols.creation_site(pc), binary.creation_site(pc), "{pc:#x}");
                        assert_eq!(symbols.frames_at(pc), binary.frames_at(pc), "{pc:#x}");
                        compared += 1;
                    }
                }
                assert!(compared > 3000, "{}: {compared}", go.version);
            }
        }
    }

    /// The cost of a name does not grow with the program: only the functions that the search for it visits are read.
    /// Here all others are garbage, with which the program as a whole is refused.
    #[test]
    fn a_name_is_found_without_reading_the_other_functions() {
        let bytes = std::fs::read(Go::newest().build(Build::Stripped)).unwrap();
        let binary = GoBinary::parse(&bytes, "test").unwrap();
        let table = binary.symbol_table();
        let count = binary.pclntab().header().nfunc;
        let wanted = count / 3;
        let (start, end) = binary
            .pclntab()
            .range(binary.pclntab().nth(wanted).unwrap())
            .unwrap();
        let name = binary.creation_site(end).unwrap().to_owned();
        assert!(start < end && !name.is_empty());
        // The entries that a binary search reads, and the last one, which says where the text ends.
        let mut met = vec![wanted, wanted + 1, count];
        let (mut low, mut high) = (0, count);
        while low < high {
            let mid = low + (high - low) / 2;
            met.push(mid);
            if mid <= wanted { low = mid + 1 } else { high = mid }
        }
        let mut garbled = bytes.clone();
        let functab = table.table.0 + table.header.pcln_offset;
        for i in (0..count).filter(|i| !met.contains(i)) {
            let at = functab + i as usize * 8;
            garbled[at..at + 8].fill(0xee);
        }
        assert!(GoBinary::parse(&garbled, "test").is_err(), "nothing was garbled");
        let symbols = table.read(&garbled);
        assert_eq!(symbols.creation_site(end), Some(name.as_str()));
        assert_eq!(symbols.frames_at(end - 1), binary.frames_at(end - 1));
        assert!(met.len() < 32, "{} functions of {count}", met.len());
    }

    #[test]
    fn a_file_that_was_cut_short_has_no_names() {
        let bytes = std::fs::read(Go::newest().build(Build::Stripped)).unwrap();
        let table = GoBinary::parse(&bytes, "test").unwrap().symbol_table();
        for length in [0, 64, table.table.0, table.table.0 + 100] {
            let symbols = table.read(&bytes[..length]);
            for pc in (0x40_0000..0x50_0000).step_by(4096) {
                assert_eq!(symbols.creation_site(pc), None);
                assert_eq!(symbols.frames_at(pc), None);
            }
        }
    }
}
