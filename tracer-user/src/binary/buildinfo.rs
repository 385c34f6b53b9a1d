//! What `go version -m` prints: the Go version, the main package and the build settings.
//!
//! Source: `debug/buildinfo/buildinfo.go`. The linker omits it in some real builds, and other builders overwrite it,
//! so nothing may depend on it.

use std::collections::BTreeMap;

use super::image::{Image, word};

const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Bytes before the first string.
const HEADER: usize = 32;
/// Flag: the strings follow in place; without it (before Go 1.18) there are pointers to them.
const FLAG_INLINE: u8 = 2;
/// Flag: the pointers are big-endian, in the old format.
const FLAG_BIG_ENDIAN: u8 = 1;
/// Most bytes of module information, which has a line per dependency: a thousand of them have some 100 kB.
const LONGEST: u64 = 16 << 20;

/// Build information of a Go program. What the file does not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// `runtime.buildVersion`, unchanged.
    pub version: String,
    /// Import path of the main package.
    pub path: Option<String>,
    /// `build` lines: `-buildmode`, `CGO_ENABLED`, `GOAMD64`, `-ldflags`, …
    pub settings: BTreeMap<String, String>,
}

impl BuildInfo {
    /// Finds and reads the build information: by section, or else by its magic in the writable segments.
    pub fn find(image: &Image<'_>) -> Option<Self> {
        if let Some(found) = image
            .section(".go.buildinfo")
            .and_then(|s| Self::read(image, s.data))
        {
            return Some(found);
        }
        // As `debug/buildinfo` does: in a writable segment, at a multiple of 16.
        image.data_first().filter(|s| s.writable).find_map(|s| {
            let bytes = image.segment_bytes(s);
            memchr::memmem::find_iter(bytes, MAGIC)
                .filter(|at| at.is_multiple_of(16))
                .find_map(|at| Self::read(image, bytes.get(at..)?))
        })
    }

    fn read(image: &Image<'_>, data: &[u8]) -> Option<Self> {
        let header = data.get(..HEADER).filter(|h| h.starts_with(MAGIC))?;
        let &[pointer_size, flags] = header.get(14..16)? else {
            return None;
        };
        let (version, module) = if flags & FLAG_INLINE != 0 {
            let (version, rest) = inline_string(data.get(HEADER..)?)?;
            (version, inline_string(rest).map_or(&[][..], |(m, _)| m))
        } else if pointer_size == 8 && flags & FLAG_BIG_ENDIAN == 0 {
            let module = string_at(image, word(header.get(24..32)?)).unwrap_or_default();
            (string_at(image, word(header.get(16..24)?))?, module)
        } else {
            return None;
        };
        let mut info = Self {
            version: String::from_utf8_lossy(version).into_owned(),
            ..Self::default()
        };
        // The text is between two marks of 16 bytes, which make it recognizable in memory.
        let module = match module.len().checked_sub(17).and_then(|at| module.get(at)) {
            Some(b'\n') => module.get(16..module.len() - 16).unwrap_or_default(),
            _ => &[],
        };
        for line in String::from_utf8_lossy(module).lines() {
            if let Some(path) = line.strip_prefix("path\t") {
                info.path = Some(path.to_owned());
            } else if let Some((key, value)) = line.strip_prefix("build\t").and_then(|s| s.split_once('=')) {
                let unquote = |s: &str| s.trim_matches(['"', '`']).to_owned();
                info.settings.insert(unquote(key), unquote(value));
            }
        }
        Some(info)
    }
}

/// Splits off a string: a varint length and its bytes. Also returns the rest.
fn inline_string(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut len = 0_u64;
    for (i, &byte) in data.iter().take(10).enumerate() {
        len |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(i).ok()?)?;
        if byte & 0x80 == 0 {
            return data
                .get(i + 1..)?
                .split_at_checked(usize::try_from(len).ok().filter(|_| len <= LONGEST)?);
        }
    }
    None
}

/// The Go string whose header (pointer, length) is at a link-time address.
pub(super) fn string_at<'d>(image: &Image<'d>, header: u64) -> Option<&'d [u8]> {
    let words = image.words(header, 2)?;
    let &[pointer, len] = words.as_slice() else {
        return None;
    };
    image.bytes(pointer, len).filter(|_| len <= LONGEST)
}
