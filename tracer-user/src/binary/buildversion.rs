//! `runtime.buildVersion` in a binary without build information: the string variable that the linker sets.

use object::LittleEndian;
use object::elf;
use object::read::elf::{FileHeader as _, Sym as _};

use super::buildinfo::string_at;
use super::image::Image;
use super::moduledata::ModuleData;
use super::version::LONGEST;
use crate::binary::GoVersion;

/// How many strings that look like a version are examined.
const MAX_CANDIDATES: usize = 64;

/// Finds the version, by the symbol if there is one, or else by what the linker makes of `runtime.buildVersion`: a
/// NUL-terminated string in the image, with exactly one kind of string header among the module's variables.
/// `None` if two different versions fit: better none than the wrong one.
pub(super) fn find(image: &Image<'_>, module: &ModuleData) -> Option<GoVersion> {
    if let Some(v) = symbol(image).and_then(|at| parse(string_at(image, at)?)) {
        return Some(v);
    }
    let mut found: Option<GoVersion> = None;
    for s in image.data_first() {
        let bytes = image.segment_bytes(s);
        let candidates = memchr::memmem::find_iter(bytes, b"go1.").filter_map(|at| {
            // In development builds a word precedes it.
            let start = at
                .checked_sub(6)
                .filter(|&b| bytes.get(b..at) == Some(b"devel "))
                .unwrap_or(at);
            let rest = bytes.get(start..bytes.len().min(start + LONGEST + 1))?;
            let text = rest.get(..memchr::memchr(0, rest)?)?;
            Some((
                s.address.checked_add(start as u64)?,
                text.len() as u64,
                parse(text)?,
            ))
        });
        for (address, len, version) in candidates.take(MAX_CANDIDATES) {
            let is_variable = image.pointers_to(address).into_iter().any(|header| {
                module.data.0 <= header
                    && header < module.data.1
                    && image.words(header, 2).is_some_and(|w| w.get(1) == Some(&len))
            });
            match &found {
                _ if !is_variable => {}
                Some(other) if *other != version => return None,
                _ => found = Some(version),
            }
        }
    }
    found
}

fn parse(text: &[u8]) -> Option<GoVersion> {
    GoVersion::parse(std::str::from_utf8(text).ok()?)
}

/// Link-time address of the symbol `runtime.buildVersion`.
fn symbol(image: &Image<'_>) -> Option<u64> {
    let header = elf::FileHeader64::<LittleEndian>::parse(image.data).ok()?;
    let sections = header.sections(LittleEndian, image.data).ok()?;
    let symbols = sections.symbols(LittleEndian, image.data, elf::SHT_SYMTAB).ok()?;
    let found = symbols
        .iter()
        .find(|s| s.name(LittleEndian, symbols.strings()) == Ok(b"runtime.buildVersion"));
    found.map(|s| s.st_value(LittleEndian))
}
