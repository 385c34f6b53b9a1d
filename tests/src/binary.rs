//! Patches built programs into hostile and unusual files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Writes bytes as an executable file.
pub fn write_executable(to: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(to, bytes)?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Replaces every occurrence by another text of the same length, and returns how many there were.
pub fn replace_all(bytes: &mut [u8], old: &[u8], new: &[u8]) -> Result<usize> {
    ensure!(old.len() == new.len() && !old.is_empty(), "lengths differ");
    let mut n = 0;
    let mut i = 0;
    while i + old.len() <= bytes.len() {
        if bytes[i..].starts_with(old) {
            bytes[i..i + old.len()].copy_from_slice(new);
            n += 1;
            i += old.len();
        } else {
            i += 1;
        }
    }
    Ok(n)
}

/// Changes the names in the function table as an obfuscator does: every `runtime.name` between two NULs gets other
/// letters. The program still runs: the runtime knows its functions by address.
pub fn scramble_function_names(bytes: &mut [u8]) -> usize {
    const PREFIX: &[u8] = b"\0runtime.";
    let mut n = 0;
    let mut i = 0;
    while i + PREFIX.len() < bytes.len() {
        if !bytes[i..].starts_with(PREFIX) {
            i += 1;
            continue;
        }
        let end = bytes[i + 1..]
            .iter()
            .position(|b| *b == 0)
            .map_or(bytes.len(), |p| i + 1 + p);
        let name = &mut bytes[i + 1..end];
        if name.len() < 80 && name.iter().all(|b| b.is_ascii_graphic()) {
            for b in name.iter_mut().filter(|b| b.is_ascii_alphabetic()) {
                let base = if b.is_ascii_lowercase() { b'a' } else { b'A' };
                *b = base + (*b - base + 11) % 26;
            }
            n += 1;
        }
        i = end;
    }
    n
}

/// Gives the build information of a Go program another version, in place of its module information; the program itself,
/// which reads neither, stays the same. What a changed toolchain would write cannot be had more cheaply: a version is
/// compiled into the linker.
pub fn set_version(bytes: &mut [u8], version: &str) -> Result<()> {
    const MAGIC: &[u8] = b"\xff Go buildinf:";
    /// Bytes before the first string; flag 2 says that the strings follow in place. Source: debug/buildinfo.
    const HEADER: usize = 32;
    let at = (0..bytes.len())
        .step_by(16)
        .find(|at| bytes[*at..].starts_with(MAGIC))
        .context("no build information")?;
    let info = &mut bytes[at..];
    ensure!(info[15] & 2 != 0, "the strings are elsewhere");
    let (old, length) = (usize::from(info[HEADER]), u8::try_from(version.len())?);
    // Lengths are varints: one byte up to 127. The module information that follows the old version has hundreds.
    ensure!(
        old < 128 && length < 128 && info[HEADER + 1 + old] >= 128,
        "no room for {version:?}"
    );
    info[HEADER] = length;
    info[HEADER + 1..][..version.len()].copy_from_slice(version.as_bytes());
    info[HEADER + 1 + version.len()] = 0;
    Ok(())
}

/// Puts all of an ELF file into executable segments, as a packer does that merges them; the program still runs.
pub fn all_executable(bytes: &mut [u8]) -> usize {
    // e_phoff and e_phnum; p_type and p_flags (elf.h, Elf64_Ehdr and Elf64_Phdr).
    let table = bytes[0x20..0x28].try_into().map_or(0, usize::from_le_bytes);
    let count = usize::from(u16::from_le_bytes([bytes[0x38], bytes[0x39]]));
    let mut changed = 0;
    for at in (0..count).map(|n| table + n * 56) {
        const PT_LOAD: [u8; 4] = 1_u32.to_le_bytes();
        const PF_X: u8 = 1;
        if bytes[at..at + 4] == PT_LOAD && bytes[at + 4] & PF_X == 0 {
            bytes[at + 4] |= PF_X;
            changed += 1;
        }
    }
    changed
}

/// Removes the section headers of an ELF file, as `sstrip` does; the program still runs.
pub fn without_section_headers(bytes: &mut [u8]) {
    // e_shoff; e_shnum and e_shstrndx (elf.h, Elf64_Ehdr).
    bytes[0x28..0x30].fill(0);
    bytes[0x3c..0x40].fill(0);
}
