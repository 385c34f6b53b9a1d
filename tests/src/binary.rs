//! Patches built programs into hostile and unusual files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};

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

/// Removes the section headers of an ELF file, as `sstrip` does; the program still runs.
pub fn without_section_headers(bytes: &mut [u8]) {
    // e_shoff; e_shnum and e_shstrndx (elf.h, Elf64_Ehdr).
    bytes[0x28..0x30].fill(0);
    bytes[0x3c..0x40].fill(0);
}
