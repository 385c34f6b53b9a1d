//! Programs that cannot be traced are refused, and the message says what they are.

use super::wipe;
use crate::binary::go_binary::find_pclntab;
use crate::binary::image::Image;
use crate::binary::testing::{Build, Go};
use crate::binary::*;
use crate::error::Failure;
use crate::process::file::ProgramFile;
use proptest::prelude::*;

fn refused(data: &[u8], words: &[&str]) {
    let error = GoBinary::parse(data, "/opt/program").unwrap_err();
    assert_eq!(error.failure, Failure::NotTraceable);
    for word in words.iter().chain(&["/opt/program"]) {
        assert!(
            error.message.contains(word),
            "{word:?} is not in: {}",
            error.message
        );
    }
}

fn program() -> Vec<u8> {
    std::fs::read(Go::newest().build(Build::Stripped)).unwrap()
}

#[test]
fn what_is_no_program() {
    refused(b"", &["empty"]);
    refused(b"#!/bin/sh\n", &["script"]);
    refused(b"hello, this is a text and not a program", &["not an ELF"]);
    refused(b"\x7fELF", &["not an ELF"]);
    let change = |at: usize, to: u8| {
        let mut data = program();
        data[at] = to;
        data
    };
    refused(&change(4, 1), &["32-bit"]);
    refused(&change(18, 243), &["another processor", "243"]);
    refused(&change(16, 1), &["object file"]);
    refused(&change(16, 4), &["core dump"]);
}

#[test]
fn a_program_that_is_not_go() {
    // This one is Rust.
    let ourselves = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    refused(&ourselves, &["not a Go program"]);
}

#[test]
fn obfuscated_packed_and_old_programs() {
    let mut names = program();
    wipe(&mut names, b"\0runtime.casgstatus\0");
    refused(&names, &["garble"]);
    let mut magic = program();
    wipe(&mut magic, &[0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8]);
    refused(&magic, &["garble"]);
    let mut packed = magic.clone();
    packed[600..604].copy_from_slice(b"UPX!");
    refused(&packed, &["UPX", "upx -d"]);
    let mut old = program();
    let at = memchr::memmem::find(&old, &[0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8]).unwrap();
    old[at] = 0xfa;
    refused(&old, &["too old", "1.19"]);
}

#[test]
fn a_version_that_is_not_known_is_not_guessed() {
    let go = Go::newest();
    let mut data = program();
    wipe(&mut data, b"\xff Go buildinf:");
    wipe(&mut data, go.version.as_bytes());
    refused(&data, &["version cannot be determined"]);
}

#[test]
fn shared_libraries() {
    let data = std::fs::read(Go::newest().build(Build::CShared)).unwrap();
    refused(&data, &["shared library", "c-shared"]);
    let mut unnamed = data.clone();
    wipe(&mut unnamed, b"\xff Go buildinf:");
    refused(&unnamed, &["shared library with Go"]);
    assert!(has_go(&data));
}

#[test]
fn what_is_no_file() {
    let failure = |path: &str| ProgramFile::open(std::path::Path::new(path)).unwrap_err();
    assert_eq!(failure("/nonexistent/program").failure, Failure::NotTraceable);
    assert!(failure("/").message.contains("directory"));
    assert!(failure("/dev/null").message.contains("no regular file"));
}

/// Wherever a file is truncated, the error says so; only what follows the last segment may be missing.
#[test]
fn truncated_files() {
    let data = program();
    let image = Image::parse(&data, "").unwrap();
    let end = image
        .segments()
        .iter()
        .map(|s| s.offset + s.file_size)
        .max()
        .unwrap();
    let end = usize::try_from(end).unwrap();
    for percent in 0..100 {
        refused(
            &data[..end * percent / 100],
            if percent > 0 {
                &["truncated or corrupted"]
            } else {
                &["empty"]
            },
        );
    }
    assert!(GoBinary::parse(&data[..end], "").is_ok());
}

/// Asks everything of a program that may be damaged.
fn exercise(data: &[u8]) {
    let Ok(binary) = GoBinary::parse(data, "damaged") else {
        return;
    };
    for f in binary.runtime_functions().iter().take(200) {
        let _ = (
            binary.code_of(f),
            binary.inlined_into(f),
            binary.file_offset(f.start),
        );
        let _ = binary.inlined_at(f, f.start.wrapping_add(9));
        let _ = binary.frames_at(f.start.wrapping_add(9));
    }
    for name in ["main.main", "runtime.main", "runtime.schedule", ""] {
        let _ = binary.functions(name);
    }
    for address in [0, 1, u64::MAX, binary.facts().entry, binary.facts().text.1] {
        let _ = (binary.function_at(address), binary.creation_site(address));
        let _ = binary.frames_at(address);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Damaged bytes never panic, nor take longer than sound ones. Half of them hit what is parsed first.
    #[test]
    fn damaged_programs(
        pie in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..6, any::<u8>()), 1..24),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut data =
            std::fs::read(Go::newest().build(if pie { Build::PieStripped } else { Build::Stripped })).unwrap();
        let (table, module, len) = {
            let binary = GoBinary::parse(&data, "sound").unwrap();
            let module = binary.file_offset(binary.module().address).unwrap();
            let (table, _) = find_pclntab(binary.image()).unwrap();
            let header = binary.pclntab().header();
            let functab = table + header.pcln_offset as u64;
            ((binary.file_offset(table).unwrap(), binary.file_offset(functab).unwrap()), module, data.len())
        };
        for (index, place, value) in flips {
            // (first byte, number of bytes) of what is hit.
            let (from, size) = match place {
                0 => (0, 64),
                1 => (64, 56 * 12),
                2 => (usize::try_from(table.0).unwrap(), 72),
                3 => (usize::try_from(table.1).unwrap(), 1 << 16),
                4 => (usize::try_from(module).unwrap(), 448),
                _ => (0, len),
            };
            data[from + index.index(size.min(len - from))] = value;
        }
        if let Some(cut) = cut {
            data.truncate(cut.index(len));
        }
        let start = std::time::Instant::now();
        exercise(&data);
        prop_assert!(start.elapsed() < std::time::Duration::from_secs(20));
    }
}
