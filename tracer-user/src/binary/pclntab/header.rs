//! `pcHeader`: where the parts of a pclntab are.

/// Bytes of `pcHeader` on a 64-bit machine.
const SIZE: usize = 72;

/// The formats that are still in use, by the magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 0xfffffff0: Go 1.18 and 1.19.
    Go118,
    /// 0xfffffff1: Go 1.20 and later.
    Go120,
}

impl Format {
    fn of(magic: u32) -> Option<Self> {
        match magic {
            0xffff_fff0 => Some(Format::Go118),
            0xffff_fff1 => Some(Format::Go120),
            _ => None,
        }
    }

    const fn magic(self) -> [u8; 4] {
        match self {
            Format::Go118 => 0xffff_fff0_u32.to_le_bytes(),
            Format::Go120 => 0xffff_fff1_u32.to_le_bytes(),
        }
    }

    /// sizeof(`_func`) without what follows it: 1.20 added `startLine`.
    pub(super) const fn func_size(self) -> usize {
        match self {
            Format::Go118 => 40,
            Format::Go120 => 44,
        }
    }
}

/// A `pcHeader` whose offsets were checked to be in order and within the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The format.
    pub format: Format,
    /// Smallest instruction in bytes: 1 on amd64, 4 on arm64.
    pub min_lc: u8,
    /// Number of functions.
    pub nfunc: u32,
    /// Link-time address of the first function; 0 from Go 1.26 on, and where a relocation fills it in.
    pub text_start: u64,
    /// `funcnametab`, in bytes from the header.
    pub funcname_offset: usize,
    /// `cutab`.
    pub cu_offset: usize,
    /// `filetab`.
    pub filetab_offset: usize,
    /// `pctab`.
    pub pctab_offset: usize,
    /// `pclntable`: functab and the `_func`s.
    pub pcln_offset: usize,
}

impl Header {
    /// The header at the start of `data`, if it is one: magic, padding, instruction size, pointer size,
    /// offsets in order, and a functab that fits.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let head = data.get(..SIZE)?;
        let format = Format::of(u32::from_le_bytes(head.get(..4)?.try_into().ok()?))?;
        let &[0, 0, min_lc @ (1 | 4), 8] = head.get(4..8)? else {
            return None;
        };
        let word = |i: usize| Some(u64::from_le_bytes(head.get(i..i + 8)?.try_into().ok()?));
        let offset = |i: usize| usize::try_from(word(i)?).ok();
        let h = Self {
            format,
            min_lc,
            nfunc: u32::try_from(word(8)?).ok()?,
            text_start: word(24)?,
            funcname_offset: offset(32)?,
            cu_offset: offset(40)?,
            filetab_offset: offset(48)?,
            pctab_offset: offset(56)?,
            pcln_offset: offset(64)?,
        };
        let ordered = SIZE <= h.funcname_offset
            && h.funcname_offset <= h.cu_offset
            && h.cu_offset <= h.filetab_offset
            && h.filetab_offset <= h.pctab_offset
            && h.pctab_offset <= h.pcln_offset;
        let functab_end = (h.nfunc as usize)
            .checked_mul(8)?
            .checked_add(4)?
            .checked_add(h.pcln_offset)?;
        (ordered && h.nfunc > 0 && functab_end <= data.len()).then_some(h)
    }
}

/// Offsets in `data` of everything that looks like a header, at multiples of 8 of the address. `first` is the address
/// of `data`.
pub fn find(data: &[u8], first: u64) -> impl Iterator<Item = (usize, Header)> + '_ {
    [Format::Go120, Format::Go118]
        .into_iter()
        .flat_map(move |format| {
            let magic = format.magic();
            let finder = memchr::memmem::Finder::new(&magic).into_owned();
            let mut from = 0;
            std::iter::from_fn(move || {
                loop {
                    let at = from + finder.find(data.get(from..)?)?;
                    from = at + 1;
                    if first.wrapping_add(at as u64).is_multiple_of(8)
                        && let Some(h) = Header::parse(data.get(at..)?)
                    {
                        return Some((at, h));
                    }
                }
            })
        })
}
