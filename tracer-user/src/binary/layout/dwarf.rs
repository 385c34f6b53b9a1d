//! Reads a layout from the debug information of the binary itself, for versions that the table does not have.
//!
//! Only what is needed is read: the units of package runtime first (the linker puts all types there), an entry's name
//! only if its tag can matter, and nothing more once all structs are found. The file may be hostile, so sizes and
//! time are limited.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use gimli::{
    Abbreviations, AttributeValue, DebugAbbrev, DebugAbbrevOffset, DebugInfo, DebugInfoOffset, LittleEndian,
    UnitHeader, constants as dw,
};
use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _};

use super::entries::{Slice, Type, reference};
use super::fields;
use super::structs::Layout;

/// Largest `.debug_info`, uncompressed, that is read. It is kept in memory during the search.
const MAX_INFO: u64 = 512 << 20;
/// Largest `.debug_abbrev`: Go's is under 1 KiB, but a C library's may be added to it.
const MAX_ABBREV: u64 = 16 << 20;
/// Longest chain of typedefs that is followed.
const MAX_TYPEDEFS: usize = 8;
/// How long a search may take: only a malicious file takes so long.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Why there is no layout in the binary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDwarf {
    /// Not an ELF file for a 64-bit little-endian processor, or a broken one.
    #[error("its ELF headers cannot be read: {0}")]
    Elf(String),
    /// There is no such section.
    #[error("it carries no debug information (stripped, or linked with -s or -w)")]
    Stripped,
    /// The section is too large to be read while attaching.
    #[error("its {section} is {size} bytes long, more than the {limit} that are read")]
    TooLarge {
        /// Name of the section.
        section: &'static str,
        /// Bytes, uncompressed, as its header says.
        size: u64,
        /// Most that is accepted.
        limit: u64,
    },
    /// The section is malformed.
    #[error("its debug information is broken: {0}")]
    Broken(String),
    /// The search took too long.
    #[error("the search in its debug information was given up after {} s", TIME_LIMIT.as_secs())]
    TooSlow,
    /// A field is not described.
    #[error("its debug information has no {0}")]
    Missing(&'static str),
}

impl From<gimli::Error> for NoDwarf {
    fn from(e: gimli::Error) -> Self {
        NoDwarf::Broken(e.to_string())
    }
}

/// Reads the layout from the DWARF in `elf`, the whole file; compressed sections too.
pub fn from_dwarf(elf: &[u8]) -> Result<Layout, NoDwarf> {
    let file = ElfFile64::<object::LittleEndian>::parse(elf).map_err(|e| NoDwarf::Elf(e.to_string()))?;
    let abbrev = section(&file, ".debug_abbrev", MAX_ABBREV)?;
    let info = section(&file, ".debug_info", MAX_INFO)?;
    let mut search = Search {
        info: DebugInfo::new(&info, LittleEndian),
        abbrev: DebugAbbrev::new(&abbrev, LittleEndian),
        tables: HashMap::new(),
        deadline: Instant::now() + TIME_LIMIT,
    };
    let found = search.find()?;
    search.layout(&found)
}

/// The bytes of a section, decompressed.
fn section<'a>(
    file: &ElfFile64<'a, object::LittleEndian>,
    name: &'static str,
    limit: u64,
) -> Result<Cow<'a, [u8]>, NoDwarf> {
    let section = file.section_by_name(name).ok_or(NoDwarf::Stripped)?;
    let broken = |e: object::Error| NoDwarf::Broken(format!("{name}: {e}"));
    let data = section.compressed_data().map_err(broken)?;
    if data.uncompressed_size > limit {
        return Err(NoDwarf::TooLarge {
            section: name,
            size: data.uncompressed_size,
            limit,
        });
    }
    let data = data.decompress().map_err(broken)?;
    if data.is_empty() {
        Err(NoDwarf::Stripped)
    } else {
        Ok(data)
    }
}

/// The entries of the structs, and the values of the constants, by the runtime's names.
#[derive(Default)]
struct Found {
    structs: HashMap<&'static str, DebugInfoOffset>,
    constants: HashMap<&'static str, u32>,
}

/// The names that are searched: the first words of the paths in `fields.txt`.
struct Wanted {
    structs: Vec<&'static str>,
    constants: Vec<&'static str>,
}

impl Wanted {
    fn new() -> Self {
        let mut wanted = Wanted {
            structs: Vec::new(),
            constants: Vec::new(),
        };
        for path in fields::lines().flat_map(|line| line.paths) {
            match path.split_once('.') {
                Some((first, _)) if !wanted.structs.contains(&first) => wanted.structs.push(first),
                Some(_) => (),
                None => wanted.constants.push(path),
            }
        }
        wanted
    }
}

/// A search, with the sections that it reads.
struct Search<'a> {
    info: DebugInfo<Slice<'a>>,
    abbrev: DebugAbbrev<Slice<'a>>,
    /// Tables of abbreviations; all of Go's units share one.
    tables: HashMap<DebugAbbrevOffset, Abbreviations>,
    deadline: Instant,
}

impl<'a> Search<'a> {
    /// Finds all structs: in the units of package runtime, or else in any unit of Go's.
    fn find(&mut self) -> Result<Found, NoDwarf> {
        let wanted = Wanted::new();
        let mut found = Found::default();
        let mut others = Vec::new();
        let mut units = self.info.units();
        while let Some(unit) = units.next()? {
            self.check_time()?;
            match self.is_go_unit(&unit)? {
                Some(true) => self.scan(&unit, &wanted, &mut found)?,
                Some(false) => others.push(unit),
                None => (),
            }
            // Constants precede the types; a version that lacks one of them must not cost the whole search.
            if found.structs.len() == wanted.structs.len() && !found.constants.is_empty() {
                return Ok(found);
            }
        }
        for unit in others {
            if found.structs.len() == wanted.structs.len() {
                break;
            }
            self.scan(&unit, &wanted, &mut found)?;
        }
        Ok(found)
    }

    fn check_time(&self) -> Result<(), NoDwarf> {
        if Instant::now() > self.deadline {
            Err(NoDwarf::TooSlow)
        } else {
            Ok(())
        }
    }

    fn table(&mut self, unit: &UnitHeader<Slice<'a>>) -> Result<&Abbreviations, NoDwarf> {
        let offset = unit.debug_abbrev_offset();
        if !self.tables.contains_key(&offset) {
            // C's units have one table each, which need not be kept.
            if self.tables.len() > 64 {
                self.tables.clear();
            }
            self.tables.insert(offset, self.abbrev.abbreviations(offset)?);
        }
        self.tables.get(&offset).ok_or(NoDwarf::Stripped)
    }

    /// Whether a unit is Go's package runtime (`Some(true)`), another one of Go's, or not one of Go's (`None`).
    fn is_go_unit(&mut self, unit: &UnitHeader<Slice<'a>>) -> Result<Option<bool>, NoDwarf> {
        let table = self.table(unit)?;
        let mut cursor = unit.entries(table);
        if !cursor.next_entry()? {
            return Ok(None);
        }
        let Some(root) = cursor.current() else {
            return Ok(None);
        };
        match root.attr_value(dw::DW_AT_language) {
            Some(AttributeValue::Language(dw::DW_LANG_Go)) => (),
            _ => return Ok(None),
        }
        Ok(Some(
            matches!(root.attr_value(dw::DW_AT_name), Some(AttributeValue::String(name)) if name.slice() == b"runtime"),
        ))
    }

    /// Walks the entries of a unit, and reads the names of those that can matter.
    fn scan(
        &mut self,
        unit: &UnitHeader<Slice<'a>>,
        wanted: &Wanted,
        found: &mut Found,
    ) -> Result<(), NoDwarf> {
        let deadline = self.deadline;
        let base = unit.debug_info_offset().ok_or(NoDwarf::Stripped)?;
        let table = self.table(unit)?;
        let mut entries = unit.entries_raw(table, None)?;
        let mut count = 0u32;
        while !entries.is_empty() {
            count = count.wrapping_add(1);
            if count.is_multiple_of(1 << 16) && Instant::now() > deadline {
                return Err(NoDwarf::TooSlow);
            }
            let at = entries.next_offset();
            let Some(abbreviation) = entries.read_abbreviation()? else {
                continue;
            };
            let tag = abbreviation.tag();
            if tag != dw::DW_TAG_structure_type && tag != dw::DW_TAG_constant {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            let (mut name, mut value) = (None, None);
            for spec in abbreviation.attributes() {
                let attribute = entries.read_attribute(*spec)?;
                match attribute.name() {
                    dw::DW_AT_name => {
                        if let AttributeValue::String(text) = attribute.value() {
                            name = text.slice().strip_prefix(b"runtime.");
                        }
                    }
                    dw::DW_AT_const_value => {
                        value = attribute.sdata_value().and_then(|v| u32::try_from(v).ok());
                    }
                    _ => (),
                }
            }
            let Some(name) = name else { continue };
            let known = |list: &[&'static str]| list.iter().copied().find(|w| w.as_bytes() == name);
            if tag == dw::DW_TAG_structure_type {
                if let Some(name) = known(&wanted.structs) {
                    found
                        .structs
                        .entry(name)
                        .or_insert(DebugInfoOffset(base.0.saturating_add(at.0)));
                }
                if found.structs.len() == wanted.structs.len() {
                    return Ok(());
                }
            } else if let (Some(name), Some(value)) = (known(&wanted.constants), value) {
                found.constants.insert(name, value);
            }
        }
        Ok(())
    }

    /// Makes a layout of the structs that were found.
    fn layout(&mut self, found: &Found) -> Result<Layout, NoDwarf> {
        let mut values = HashMap::new();
        let mut known = HashMap::new();
        for line in fields::lines() {
            for path in line.paths {
                if let Some(value) = self.resolve(path, found, &mut known)? {
                    values.insert(line.name, value);
                    break;
                }
            }
        }
        Layout::from_fields(&|name| values.get(name).copied()).map_err(|missing| NoDwarf::Missing(missing.0))
    }

    /// Follows a path such as `schedt.runq.head`, `g.sizeof`, `p.runq.len` or a constant's name.
    fn resolve(
        &mut self,
        path: &str,
        found: &Found,
        known: &mut HashMap<DebugInfoOffset, Type>,
    ) -> Result<Option<u32>, NoDwarf> {
        let mut words = path.split('.');
        let Some(first) = words.next() else {
            return Ok(None);
        };
        let Some(mut at) = found.structs.get(first).copied() else {
            return Ok(found.constants.get(path).copied());
        };
        let mut offset = 0u32;
        for word in words {
            let current = match known.entry(at) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.read_type(at)?),
            };
            match (word, current.count) {
                ("sizeof", None) => return Ok(current.size),
                ("len", Some(count)) => return Ok(Some(count)),
                _ => (),
            }
            let Some(member) = current.members.iter().find(|m| m.name == word) else {
                return Ok(None);
            };
            let Some(sum) = offset.checked_add(member.offset) else {
                return Err(NoDwarf::Broken(format!("the offset of {path} is beyond 4 GiB")));
            };
            (offset, at) = (sum, member.r#type);
        }
        Ok(Some(offset))
    }

    /// Reads one type, after following its typedefs.
    fn read_type(&mut self, mut at: DebugInfoOffset) -> Result<Type, NoDwarf> {
        for _ in 0..MAX_TYPEDEFS {
            self.check_time()?;
            let unit = self.unit_of(at)?;
            let base = unit.debug_info_offset().ok_or(NoDwarf::Stripped)?;
            let offset = at
                .to_unit_offset(&unit)
                .ok_or_else(|| NoDwarf::Broken(format!("a type at {:#x} is in no unit", at.0)))?;
            let table = self.table(&unit)?;
            let mut tree = unit.entries_tree(table, Some(offset))?;
            let root = tree.root()?;
            let entry = root.entry();
            match entry.tag() {
                dw::DW_TAG_typedef => match reference(entry.attr_value(dw::DW_AT_type), base) {
                    Some(next) => at = next,
                    None => {
                        return Err(NoDwarf::Broken(format!(
                            "the typedef at {:#x} names no type",
                            at.0
                        )));
                    }
                },
                dw::DW_TAG_structure_type | dw::DW_TAG_array_type => return Ok(Type::read(root, base)?),
                _ => return Ok(Type::default()),
            }
        }
        Err(NoDwarf::Broken(format!(
            "more than {MAX_TYPEDEFS} typedefs follow each other at {:#x}",
            at.0
        )))
    }

    /// The unit that contains this offset.
    fn unit_of(&self, at: DebugInfoOffset) -> Result<UnitHeader<Slice<'a>>, NoDwarf> {
        let mut units = self.info.units();
        while let Some(unit) = units.next()? {
            if at.to_unit_offset(&unit).is_some() {
                return Ok(unit);
            }
        }
        Err(NoDwarf::Broken(format!(
            "a type at {:#x} is outside the section",
            at.0
        )))
    }
}
