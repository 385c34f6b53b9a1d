//! `runtime.firstmoduledata`, the linker's description of the program for the runtime: found by its pointer
//! to the pclntab.
//!
//! Source: `runtime/symtab.go`, `moduledata`; the fields up to `ebss` are the same from Go 1.18 to 1.27, later ones
//! are found by what they must contain.

use super::image::Image;
use crate::binary::pclntab::{Header, TextMap, TextSection};

/// 64-bit words of `moduledata` that are read: up to `textsectmap` in every version.
const WORDS: usize = 56;
/// Most text sections: a 4 GB text does not have more.
const MAX_TEXT_SECTIONS: u64 = 4096;

/// Bytes by which the last section may end after `etext`.
const TEXT_SLACK: u64 = 64;

/// Word indexes of fields.
mod field {
    pub const FUNCNAMETAB: usize = 1;
    pub const CUTAB: usize = 4;
    pub const FILETAB: usize = 7;
    pub const PCTAB: usize = 10;
    pub const PCLNTABLE: usize = 13;
    pub const FTAB: usize = 16;
    pub const MINPC: usize = 20;
    pub const MAXPC: usize = 21;
    pub const TEXT: usize = 22;
    pub const ETEXT: usize = 23;
    /// Followed by `enoptrdata`, `data`, `edata`.
    pub const NOPTRDATA: usize = 24;
    /// Followed by `ebss`, `noptrbss`, `enoptrbss`.
    pub const BSS: usize = 28;
    /// First word that may be `textsectmap`: word 39 in Go 1.18 and 1.19, 41 with `covctrs` (1.20), 42 with
    /// `epclntab` (1.26), 45 with `typedesclen`, `itaboffset` and `itabsize` (1.27).
    pub const FIRST_TEXTSECTMAP: usize = 39;
    /// `textsectmap` in Go 1.25.
    pub const LAST_TEXTSECTMAP_BEHIND_GOFUNC: usize = 41;
}

/// What gmpscope uses of a module's `moduledata`; addresses are link-time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleData {
    /// Its address.
    pub address: u64,
    /// The module's text.
    pub text: TextMap,
    /// Start of `go.func.*`; `None` if it was not found: then nothing is known about inlining.
    pub gofunc: Option<u64>,
    /// Initialised variables: from the first of `noptrdata` and `data` to the end of the last.
    pub data: (u64, u64),
    /// Zeroed variables: likewise for `bss` and `noptrbss`.
    pub bss: (u64, u64),
}

impl ModuleData {
    /// Finds the module whose pclntab is at link-time address `pclntab`: the first place in the file that passes every
    /// check.
    pub fn find(image: &Image<'_>, pclntab: u64, header: &Header) -> Option<Self> {
        // Go 1.26 and later have a section for it; without that, the pointers are searched.
        let section = image.section(".go.module").map(|s| s.address);
        section
            .into_iter()
            .chain(image.pointers_to(pclntab))
            .find_map(|address| Self::at(image, address, pclntab, header))
    }

    fn at(image: &Image<'_>, address: u64, pclntab: u64, header: &Header) -> Option<Self> {
        let words = image.words(address, WORDS)?;
        let word = |i: usize| words.get(i).copied();
        let part = |offset: usize| pclntab.checked_add(offset as u64);
        let points_into_table = word(0)? == pclntab
            && word(field::FUNCNAMETAB) == part(header.funcname_offset)
            && word(field::CUTAB) == part(header.cu_offset)
            && word(field::FILETAB) == part(header.filetab_offset)
            && word(field::PCTAB) == part(header.pctab_offset)
            && word(field::PCLNTABLE) == part(header.pcln_offset)
            && word(field::FTAB) == part(header.pcln_offset)
            && word(field::FTAB + 1)? == u64::from(header.nfunc) + 1;
        let (text, etext) = (word(field::TEXT)?, word(field::ETEXT)?);
        let (minpc, maxpc) = (word(field::MINPC)?, word(field::MAXPC)?);
        let sane = text <= minpc
            && minpc < maxpc
            && maxpc <= etext
            && image.is_executable(text)
            && image.is_executable(etext.checked_sub(1)?);
        if !points_into_table || !sane {
            return None;
        }
        let (gofunc, sections) = gofunc_and_sections(image, &words, text, etext);
        // A C linker may put the parts in any order.
        let span = |field: usize| {
            let &[a, b, c, d] = words.get(field..field + 4)? else {
                return None;
            };
            Some((a.min(c), b.max(d))).filter(|(from, to)| from <= to)
        };
        Some(Self {
            address,
            text: TextMap::new(text, etext, sections).ok()?,
            gofunc,
            data: span(field::NOPTRDATA)?,
            bss: span(field::BSS)?,
        })
    }
}

/// Finds `gofunc` and `textsectmap`. The latter is a slice whose first element describes the first section of the
/// text, which makes it unique in moduledata; `gofunc` is the word before it, or, with `epclntab` between them
/// (1.26+), the one before that.
fn gofunc_and_sections(
    image: &Image<'_>,
    words: &[u64],
    text: u64,
    etext: u64,
) -> (Option<u64>, Vec<TextSection>) {
    for i in field::FIRST_TEXTSECTMAP..words.len().saturating_sub(2) {
        let (Some(&table), Some(&len), Some(&cap)) = (words.get(i), words.get(i + 1), words.get(i + 2))
        else {
            break;
        };
        if len != cap || len == 0 || len > MAX_TEXT_SECTIONS {
            continue;
        }
        let Some(table) = usize::try_from(len).ok().and_then(|n| image.words(table, n * 3)) else {
            continue;
        };
        let sections: Vec<TextSection> = table
            .chunks_exact(3)
            .filter_map(|s| {
                let &[start, end, address] = s else { return None };
                Some(TextSection { start, end, address })
            })
            .collect();
        let Some(first) = sections.first() else { continue };
        // The linker's size includes padding, which `etext` does not.
        if first.start != 0
            || first.address != text
            || first.end == 0
            || first.end > etext - text + TEXT_SLACK
        {
            continue;
        }
        let gofunc = if i <= field::LAST_TEXTSECTMAP_BEHIND_GOFUNC {
            i - 1
        } else {
            i - 2
        };
        let gofunc = words.get(gofunc).copied();
        return (gofunc.filter(|&g| image.is_mapped(g)), sections);
    }
    (None, Vec::new())
}
