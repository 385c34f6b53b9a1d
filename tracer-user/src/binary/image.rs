//! An ELF file as it is mapped: its segments, its sections if there are any, and the pointers that the dynamic loader
//! fills in.

use object::LittleEndian;
use object::elf;
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _, Rela as _, SectionHeader as _};

use crate::binary::Arch;
use crate::error::{Error, Result};

/// Most loadable segments: no linker makes more, so a file with more is corrupted.
const MAX_SEGMENTS: usize = 64;
/// Most sections: no Go binary has more.
const MAX_SECTIONS: usize = 4096;
/// Most places that are returned for one pointer.
const MAX_POINTERS: usize = 64;

type Header = elf::FileHeader64<LittleEndian>;
type Rela = elf::Rela64<LittleEndian>;

/// A loadable segment (PT_LOAD), its file range checked to be inside the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Link-time address of its first byte.
    pub address: u64,
    /// Offset of that byte in the file.
    pub offset: u64,
    /// Bytes that come from the file.
    pub file_size: u64,
    /// Bytes in memory; those that the file does not fill are zero.
    pub memory_size: u64,
    /// Alignment, which implies the page size.
    pub align: u64,
    /// Whether it is mapped executable.
    pub executable: bool,
    /// Whether it is mapped writable.
    pub writable: bool,
}

/// A section: a name for a range of addresses. Stripping may have removed all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<'d> {
    /// Its name.
    pub name: &'d str,
    /// Link-time address; 0 where it is not mapped.
    pub address: u64,
    /// Its bytes; empty for NOBITS.
    pub data: &'d [u8],
}

/// A 64-bit little-endian ELF executable or shared object for a processor that gmpscope knows.
#[derive(Debug)]
pub struct Image<'d> {
    /// The whole file.
    pub data: &'d [u8],
    /// The processor.
    pub arch: Arch,
    /// Whether it can run at any address (ET_DYN): a PIE or a shared object.
    pub position_independent: bool,
    /// The program interpreter, if there is one: the dynamic loader, which runs first.
    pub interpreter: Option<&'d [u8]>,
    /// Names of the shared objects that it needs.
    pub needed: Vec<&'d [u8]>,
    /// Whether it is marked as an executable PIE (DF_1_PIE), which a shared object is not.
    pub marked_pie: bool,
    /// Link-time address of the first instruction.
    pub entry: u64,
    segments: Vec<Segment>,
    sections: Vec<Section<'d>>,
    notes: Vec<&'d [u8]>,
    rela: &'d [Rela],
}

impl<'d> Image<'d> {
    /// Reads the headers. `origin` names the file in messages.
    pub fn parse(data: &'d [u8], origin: &str) -> Result<Self> {
        let damaged = |what: &str| {
            Error::not_traceable(format!(
                "{origin}: the ELF file is truncated or corrupted ({what}): compare it with a fresh copy of the \
                 program, or trace a running process of it with -p PID"
            ))
        };
        let ident = data.get(..20).filter(|d| d.starts_with(&elf::ELFMAG)).ok_or_else(|| {
            Error::not_traceable(if data.starts_with(b"#!") {
                format!("{origin}: is a script, not an ELF program: name the Go program that it starts, or its PID")
            } else if data.is_empty() {
                format!("{origin}: is empty, not an ELF program: name a Go program or the PID of one")
            } else {
                format!("{origin}: is not an ELF program: name a Go program built for Linux, or the PID of one")
            })
        })?;
        if ident[4] == elf::ELFCLASS32.0 {
            return Err(Error::not_traceable(format!(
                "{origin}: is a 32-bit program: gmpscope traces 64-bit ones (GOARCH amd64 and arm64)"
            )));
        }
        let machine = elf::Machine(u16::from_le_bytes([ident[18], ident[19]]));
        let arch = match machine {
            elf::EM_X86_64 if ident[5] == elf::ELFDATA2LSB.0 => Arch::Amd64,
            elf::EM_AARCH64 if ident[5] == elf::ELFDATA2LSB.0 => Arch::Arm64,
            _ => {
                return Err(Error::not_traceable(format!(
                    "{origin}: is built for another processor (ELF machine {}): gmpscope traces GOARCH amd64 and \
                     arm64",
                    machine.0
                )));
            }
        };
        let header = Header::parse(data).map_err(|_| damaged("its header"))?;
        let kind = header.e_type(LittleEndian);
        let position_independent = match kind {
            elf::ET_EXEC => false,
            elf::ET_DYN => true,
            elf::ET_CORE => {
                return Err(Error::not_traceable(format!(
                    "{origin}: is a core dump: name the program, or the PID of a running one"
                )));
            }
            _ => {
                return Err(Error::not_traceable(format!(
                    "{origin}: is an object file or archive, not a linked program: build it (go build) and name \
                     the result"
                )));
            }
        };
        let endian = header.endian().map_err(|_| damaged("its byte order"))?;
        let headers = header
            .program_headers(endian, data)
            .map_err(|_| damaged("its program headers"))?;
        let mut image = Self {
            data,
            arch,
            position_independent,
            interpreter: None,
            needed: Vec::new(),
            marked_pie: false,
            entry: header.e_entry(endian),
            segments: Vec::new(),
            sections: Vec::new(),
            notes: Vec::new(),
            rela: &[],
        };
        let mut dynamic: &[elf::Dyn64<LittleEndian>] = &[];
        for h in headers {
            match h.p_type(endian) {
                elf::PT_LOAD => {
                    let s = Segment {
                        address: h.p_vaddr(endian),
                        offset: h.p_offset(endian),
                        file_size: h.p_filesz(endian),
                        memory_size: h.p_memsz(endian),
                        align: h.p_align(endian),
                        executable: h.p_flags(endian).contains(elf::PF_X),
                        writable: h.p_flags(endian).contains(elf::PF_W),
                    };
                    if image.segments.len() == MAX_SEGMENTS {
                        return Err(damaged("more segments than any linker makes"));
                    }
                    let in_file = s
                        .offset
                        .checked_add(s.file_size)
                        .is_some_and(|end| end <= data.len() as u64);
                    if !in_file
                        || s.address.checked_add(s.memory_size).is_none()
                        || s.file_size > s.memory_size
                    {
                        return Err(damaged("a segment lies outside the file"));
                    }
                    image.segments.push(s);
                }
                elf::PT_INTERP => image.interpreter = h.data(endian, data).ok(),
                elf::PT_NOTE => image.notes.extend(h.data(endian, data).ok()),
                elf::PT_DYNAMIC => dynamic = h.data_as_array(endian, data).unwrap_or(&[]),
                _ => {}
            }
        }
        // Sections are optional: without them, or with damaged ones, everything is found by segment.
        if let Ok(table) = header.sections(endian, data) {
            for s in table.iter().take(MAX_SECTIONS) {
                let Ok(name) = table.section_name(endian, s) else {
                    continue;
                };
                let (Ok(name), Ok(bytes)) = (std::str::from_utf8(name), s.data(endian, data)) else {
                    continue;
                };
                image.sections.push(Section {
                    name,
                    address: s.sh_addr(endian),
                    data: bytes,
                });
            }
        }
        image.read_dynamic(dynamic);
        Ok(image)
    }

    fn read_dynamic(&mut self, dynamic: &'d [elf::Dyn64<LittleEndian>]) {
        let e = LittleEndian;
        let (mut rela, mut rela_size, mut strings, mut needed) = (0, 0, 0, Vec::new());
        for d in dynamic {
            let value = d.d_val(e);
            match d.tag(e) {
                elf::DT_NULL => break,
                elf::DT_RELA => rela = value,
                elf::DT_RELASZ => rela_size = value,
                elf::DT_STRTAB => strings = value,
                elf::DT_NEEDED if needed.len() < MAX_POINTERS => needed.push(value),
                elf::DT_FLAGS_1 => self.marked_pie = value & elf::DF_1_PIE.0 != 0,
                _ => {}
            }
        }
        self.needed = needed
            .into_iter()
            .filter_map(|n| {
                let s = self.bytes_from(strings.checked_add(n)?)?;
                s.get(..memchr::memchr(0, s.get(..s.len().min(4096))?)?)
            })
            .collect();
        let size = size_of::<Rela>() as u64;
        if let Some(table) = self.bytes(rela, rela_size / size * size)
            && let Ok((table, _)) =
                object::pod::slice_from_bytes::<Rela>(table, usize::try_from(rela_size / size).unwrap_or(0))
        {
            self.rela = table;
        }
    }

    /// The loadable segments, in the file's order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The loadable segments, those with code last: what Go's linker puts elsewhere is rarely there, and their bytes
    /// may look like anything. Older C linkers put read-only data in the segment of the code, and packers put
    /// everything into one.
    pub fn data_first(&self) -> impl Iterator<Item = &Segment> {
        let data = self.segments.iter().filter(|s| !s.executable);
        data.chain(self.segments.iter().filter(|s| s.executable))
    }

    /// The section of this name; `None` also in a file without sections.
    pub fn section(&self, name: &str) -> Option<&Section<'d>> {
        self.sections.iter().find(|s| s.name == name)
    }

    /// The contents of all PT_NOTE segments.
    pub fn notes(&self) -> &[&'d [u8]] {
        &self.notes
    }

    /// Whether `address` lies in a segment that is mapped executable.
    pub fn is_executable(&self, address: u64) -> bool {
        self.segments
            .iter()
            .any(|s| s.executable && s.address <= address && address - s.address < s.memory_size)
    }

    /// Whether `address` is mapped at all, from the file or as zeros.
    pub fn is_mapped(&self, address: u64) -> bool {
        self.segments
            .iter()
            .any(|s| s.address <= address && address - s.address < s.memory_size)
    }

    /// Offset in the file of a link-time address that lies in a file-backed part of a segment.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let s = self
            .segments
            .iter()
            .find(|s| s.address <= address && address - s.address < s.file_size)?;
        s.offset.checked_add(address - s.address)
    }

    /// The bytes of a segment that are in the file.
    pub fn segment_bytes(&self, s: &Segment) -> &'d [u8] {
        let start = usize::try_from(s.offset).unwrap_or(usize::MAX);
        let len = usize::try_from(s.file_size).unwrap_or(usize::MAX);
        start
            .checked_add(len)
            .and_then(|end| self.data.get(start..end))
            .unwrap_or(&[])
    }

    /// All bytes from `address` to the end of the file-backed part of its segment.
    pub fn bytes_from(&self, address: u64) -> Option<&'d [u8]> {
        let s = self
            .segments
            .iter()
            .find(|s| s.address <= address && address - s.address < s.file_size)?;
        self.segment_bytes(s)
            .get(usize::try_from(address - s.address).ok()?..)
    }

    /// `len` bytes at `address`, as they are in the file (before relocation).
    pub fn bytes(&self, address: u64, len: u64) -> Option<&'d [u8]> {
        self.bytes_from(address)?.get(..usize::try_from(len).ok()?)
    }

    /// `n` 64-bit words at `address` as the dynamic loader leaves them, for a load bias of zero.
    pub fn words(&self, address: u64, n: usize) -> Option<Vec<u64>> {
        let len = u64::try_from(n.checked_mul(8)?).ok()?;
        let bytes = self.bytes(address, len)?;
        let mut words: Vec<u64> = bytes.chunks_exact(8).map(word).collect();
        for r in self.relative() {
            if r.0 >= address
                && let Ok(at) = usize::try_from((r.0 - address) / 8)
                && (r.0 - address).is_multiple_of(8)
                && let Some(w) = words.get_mut(at)
            {
                *w = r.1;
            }
        }
        Some(words)
    }

    /// Link-time addresses of 8-aligned words outside read-only code that hold `value` once loaded; at most 64.
    pub fn pointers_to(&self, value: u64) -> Vec<u64> {
        let mut found = Vec::new();
        let needle = value.to_le_bytes();
        for s in self.data_first().filter(|s| !s.executable || s.writable) {
            for at in memchr::memmem::find_iter(self.segment_bytes(s), &needle) {
                let address = s.address.wrapping_add(at as u64);
                if address.is_multiple_of(8) && found.len() < MAX_POINTERS {
                    found.push(address);
                }
            }
        }
        for (at, _) in self.relative().filter(|r| r.1 == value) {
            if found.len() < MAX_POINTERS && !found.contains(&at) {
                found.push(at);
            }
        }
        found
    }

    /// (address, value) of every R_*_RELATIVE relocation. DT_RELR needs nothing here: its addends are in place.
    fn relative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let wanted = match self.arch {
            Arch::Amd64 => u64::from(elf::R_X86_64_RELATIVE.0),
            Arch::Arm64 => u64::from(elf::R_AARCH64_RELATIVE.0),
        };
        let e = LittleEndian;
        self.rela
            .iter()
            .filter(move |r| r.r_info.get(e) & 0xffff_ffff == wanted)
            .map(move |r| (r.r_offset(e), r.r_addend(e).cast_unsigned()))
    }
}

/// The little-endian 64-bit word of an eight-byte slice; zero for any other length.
pub(crate) fn word(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}
