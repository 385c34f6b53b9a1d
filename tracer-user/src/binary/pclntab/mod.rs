//! Go's own table of functions, which every Go binary has for its tracebacks: names, addresses, inline trees.
//! Stripping keeps it. It is read in place, with bounds checks; no symbol map is built.
//!
//! Source: `runtime/symtab.go` (`pcHeader`, `functab`, `pcvalue`), `runtime/runtime2.go` (`_func`),
//! `runtime/symtabinl.go`, `cmd/link/internal/ld/pcln.go`; Go 1.18 to 1.27.

mod header;
mod inltree;
mod lines;
mod pcvalue;
mod text;

use std::collections::HashMap;

pub use header::{Format, Header, find};
pub use lines::Frame;
pub use text::{TextMap, TextSection};

use crate::error::{Error, Result};

/// Prefix of the names that are indexed: almost all that gmpscope looks up.
const INDEXED: &[u8] = b"runtime.";

/// Byte offsets of the fields of `_func`, a function's entry: the same in every format from Go 1.18 on.
mod field {
    pub const NAME_OFF: usize = 4;
    pub const PCSP: usize = 16;
    pub const PCFILE: usize = 20;
    pub const PCLN: usize = 24;
    pub const NPCDATA: usize = 28;
    pub const CU_OFFSET: usize = 32;
}

/// Index of a function in address order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FuncIndex(u32);

/// What the pass over all functions keeps of each: 8 bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    name: u32,
    cu: u32,
}

/// A pclntab, with the addresses that it does not contain itself.
#[derive(Debug)]
pub struct PcLnTab<'d> {
    header: Header,
    data: &'d [u8],
    names: &'d [u8],
    cutab: &'d [u8],
    filetab: &'d [u8],
    pctab: &'d [u8],
    /// `functab` and the `_func`s after it.
    functab: &'d [u8],
    /// `go.func.*`, where inline trees are; empty when it was not found.
    gofunc: &'d [u8],
    text: TextMap,
    /// `FuncIDWrapper`, the `funcID` of functions that the compiler made to call others.
    wrapper: u8,
    entries: Vec<Entry>,
    indexed: HashMap<&'d [u8], Vec<FuncIndex>>,
}

impl<'d> PcLnTab<'d> {
    /// Reads the table whose header was found at the start of `data`. `gofunc` is the memory from `moduledata.gofunc`
    /// on. Makes one pass over all functions, and fails if any is outside the table or they are not in address order.
    pub fn new(data: &'d [u8], header: Header, text: TextMap, gofunc: &'d [u8]) -> Result<Self> {
        let mut this = Self::unindexed(data, header, text, gofunc, 0);
        let damaged = |i: u32, what: &str| {
            Error::not_traceable(format!(
                "the function table of this Go program is truncated or corrupted ({what} of function {i} of {}): \
                 compare the file with a fresh copy of the program",
                header.nfunc
            ))
        };
        this.entries.reserve_exact(header.nfunc as usize);
        let mut last = 0;
        for i in 0..header.nfunc {
            let at = this
                .entry_offset(FuncIndex(i))
                .ok_or_else(|| damaged(i, "the address"))?;
            if at < last {
                return Err(damaged(i, "the address"));
            }
            last = at;
            let f = this.func(FuncIndex(i)).ok_or_else(|| damaged(i, "the entry"))?;
            let (Some(name), Some(cu)) = (u32_at(f, field::NAME_OFF), u32_at(f, field::CU_OFFSET)) else {
                return Err(damaged(i, "the entry"));
            };
            this.entries.push(Entry { name, cu });
            // The last one of the list in every version, though the numbers differ; every program has such functions.
            this.wrapper = this.wrapper.max(this.func_id(FuncIndex(i)).unwrap_or(0));
            let rest = this
                .names
                .get(name as usize..)
                .ok_or_else(|| damaged(i, "the name"))?;
            if rest.starts_with(INDEXED) {
                let name = until_nul(rest).ok_or_else(|| damaged(i, "the name"))?;
                this.indexed.entry(name).or_default().push(FuncIndex(i));
            }
        }
        Ok(this)
    }

    /// Reads the table without the pass: addresses have names, but no function is found by name. The other arguments
    /// are [`Self::parts`] of the table that was read first.
    pub fn unindexed(data: &'d [u8], header: Header, text: TextMap, gofunc: &'d [u8], wrapper: u8) -> Self {
        let section = |from: usize, to: usize| data.get(from..to).unwrap_or(&[]);
        Self {
            data,
            names: section(header.funcname_offset, header.cu_offset),
            cutab: section(header.cu_offset, header.filetab_offset),
            filetab: section(header.filetab_offset, header.pctab_offset),
            pctab: section(header.pctab_offset, header.pcln_offset),
            functab: data.get(header.pcln_offset..).unwrap_or(&[]),
            header,
            gofunc,
            text,
            wrapper,
            entries: Vec::new(),
            indexed: HashMap::new(),
        }
    }

    /// The bytes from the header on, those of the inline trees, and the `funcID` of wrappers.
    pub fn parts(&self) -> (&'d [u8], &'d [u8], u8) {
        (self.data, self.gofunc, self.wrapper)
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The function with this index in address order.
    pub fn nth(&self, i: u32) -> Option<FuncIndex> {
        (i < self.header.nfunc).then_some(FuncIndex(i))
    }

    /// All functions of exactly this name, in address order. An assembly function and its wrapper for the other
    /// calling convention have the same name.
    pub fn functions(&self, name: &str) -> Vec<FuncIndex> {
        let name = name.as_bytes();
        if name.starts_with(INDEXED) {
            return self.indexed.get(name).cloned().unwrap_or_default();
        }
        // The linker writes a name once per symbol, so the same name may be there several times.
        let offsets: Vec<u32> = memchr::memmem::find_iter(self.names, name)
            .filter(|&at| {
                (at == 0 || self.names.get(at - 1) == Some(&0)) && self.names.get(at + name.len()) == Some(&0)
            })
            .filter_map(|at| u32::try_from(at).ok())
            .collect();
        if offsets.is_empty() || name.is_empty() {
            return Vec::new();
        }
        (0..)
            .zip(&self.entries)
            .filter(|(_, e)| offsets.contains(&e.name))
            .map(|(i, _)| FuncIndex(i))
            .collect()
    }

    /// All functions of the same object file of the same package as `f`, in address order.
    pub fn compiled_with(&self, f: FuncIndex) -> Vec<FuncIndex> {
        let Some(&Entry { cu, .. }) = self.entries.get(f.0 as usize) else {
            return Vec::new();
        };
        (0..)
            .zip(&self.entries)
            .filter(|(_, e)| e.cu == cu)
            .map(|(i, _)| FuncIndex(i))
            .collect()
    }

    /// The function that contains a link-time address.
    pub fn function_of(&self, pc: u64) -> Option<FuncIndex> {
        let off = self.text.offset(pc)?;
        let (mut low, mut high) = (0, self.header.nfunc);
        // The last function whose entry is not after `off`.
        while low < high {
            let mid = low + (high - low) / 2;
            if self.entry_offset(FuncIndex(mid))? <= off {
                low = mid + 1
            } else {
                high = mid
            }
        }
        let end = self.entry_offset(FuncIndex(self.header.nfunc))?;
        (off < end).then(|| low.checked_sub(1).map(FuncIndex)).flatten()
    }

    /// The name of the code at a link-time address: the innermost function that was inlined there, or else the
    /// function itself. For a return address, such as `g.gopc`, pass the address minus one, as the runtime does.
    pub fn name_at(&self, pc: u64) -> Option<&'d str> {
        let f = self.function_of(pc)?;
        self.inlined_at(f, pc).first().copied().or_else(|| self.name(f))
    }

    /// The function's name in the linker.
    pub fn name(&self, f: FuncIndex) -> Option<&'d str> {
        self.name_from(u32_at(self.func(f)?, field::NAME_OFF)?)
    }

    /// Link-time addresses of the function's first byte and of the next function's.
    pub fn range(&self, f: FuncIndex) -> Option<(u64, u64)> {
        let start = self.text.address(self.entry_offset(f)?)?;
        let end = self
            .text
            .address(self.entry_offset(FuncIndex(f.0.checked_add(1)?))?)?;
        // With several text sections the next function may be in another one: then the size is what this function's
        // own tables cover.
        if end < start || !self.text.is_single() {
            let size = self.pcsp_end(f)?;
            return Some((start, end.clamp(start, start.checked_add(size)?)));
        }
        Some((start, end))
    }

    /// `_func.funcID`: identifies special functions of the runtime; 0 for almost all.
    fn func_id(&self, f: FuncIndex) -> Option<u8> {
        // It is followed by `flag`, a byte of padding, and `nfuncdata`.
        self.func(f)?.get(self.header.format.func_size() - 4).copied()
    }

    fn name_from(&self, offset: u32) -> Option<&'d str> {
        std::str::from_utf8(until_nul(self.names.get(offset as usize..)?)?).ok()
    }

    /// `functab[i].entryoff`; i = nfunc is the end of the last function.
    fn entry_offset(&self, f: FuncIndex) -> Option<u32> {
        (f.0 <= self.header.nfunc)
            .then(|| u32_at(self.functab, f.0 as usize * 8))
            .flatten()
    }

    /// The `_func` and everything after it.
    fn func(&self, f: FuncIndex) -> Option<&'d [u8]> {
        if f.0 >= self.header.nfunc {
            return None;
        }
        let at = u32_at(self.functab, f.0 as usize * 8 + 4)?;
        self.functab.get(at as usize..)
    }
}

/// The little-endian u32 at a byte offset.
fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The bytes up to the first NUL; `None` if there is none within the length of a plausible name.
fn until_nul(data: &[u8]) -> Option<&[u8]> {
    /// Instantiated generic functions have the longest names; those of real programs stay below 10 kB.
    const LONGEST: usize = 1 << 16;
    let data = data.get(..data.len().min(LONGEST))?;
    data.get(..memchr::memchr(0, data)?)
}
