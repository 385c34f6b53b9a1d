//! A Go program from whomever, through everything that reads it before anything is attached: ELF, build information,
//! pclntab, moduledata, inline trees, instructions, plans.
//!
//! An input that is an ELF file is taken as it is. Any other is a list of patches to one of the real programs in the
//! folder that `GMPSCOPE_FUZZ_PROGRAMS` names: mutations of a megabyte would hardly ever meet a header.
//!
//! ```text
//! input = program: u8   patch*
//! patch = region: u8   offset: u32   length: u8   that many bytes
//! ```
//!
//! The region 255 cuts the file off at the offset.
#![no_main]

use std::{collections::BTreeSet, ops::Range, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use tracer_user::{binary::{Code, GoBinary, code, globals, layout}, plan::{Plan, start}};

/// A program and the places in it that are worth patching.
struct Base {
    bytes: Vec<u8>,
    regions: Vec<Range<usize>>,
}

fuzz_target!(|data: &[u8]| {
    if data.starts_with(b"\x7fELF") {
        look(data);
    } else if let Some(patched) = patched(data) {
        look(&patched);
    }
});

/// What attach, run and inspect do with a program.
fn look(data: &[u8]) {
    let Ok(binary) = GoBinary::parse(data, "fuzzed") else {
        return;
    };
    let facts = binary.facts().clone();
    let tags = facts.build_tags();
    let layout = layout::find_or_dwarf(&facts.version, facts.arch, &tags, data).ok();
    let layout = layout.as_ref().map(|(layout, _)| layout);
    let _ = globals::find(&binary, layout);
    for force in [false, true] {
        let _ = Plan::of(&binary, layout, facts.version.minor, force);
    }
    let program = start::Program {
        entry: binary.image().entry,
        dynamic: binary.image().interpreter.is_some(),
        library: facts.library,
        version: &facts.version,
    };
    let _ = start::StartPlan::of(&binary, &program, layout);
    for function in binary.runtime_functions().iter().step_by(97) {
        let _ = code::decode(&binary, function);
        let _ = binary.creation_site(function.start.wrapping_add(5));
        let _ = binary.inlined_into(function);
    }
}

fn patched(input: &[u8]) -> Option<Vec<u8>> {
    let (chosen, mut rest) = input.split_first()?;
    let bases = bases();
    let base = &bases[usize::from(*chosen) % bases.len()];
    let mut bytes = base.bytes.clone();
    while let [region, a, b, c, d, length, patch @ ..] = rest {
        let offset = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        if *region == 255 {
            bytes.truncate(offset % base.bytes.len());
            break;
        }
        let region = &base.regions[usize::from(*region) % base.regions.len()];
        let at = region.start + offset % region.len().max(1);
        let (patch, later) = patch.split_at(patch.len().min(usize::from(*length)));
        for (byte, with) in bytes.iter_mut().skip(at).zip(patch) {
            *byte = *with;
        }
        rest = later;
    }
    Some(bytes)
}

fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        let folder = std::env::var_os("GMPSCOPE_FUZZ_PROGRAMS")
            .expect("GMPSCOPE_FUZZ_PROGRAMS names no folder of Go programs: run `cargo xtask bench fuzz`");
        let entries = std::fs::read_dir(folder).expect("the folder of Go programs can be read");
        let files: BTreeSet<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
        assert!(!files.is_empty(), "there is no Go program to begin with");
        files
            .into_iter()
            .map(|file| {
                let bytes = std::fs::read(&file).expect("a Go program can be read");
                let regions = regions(&bytes);
                Base { bytes, regions }
            })
            .collect()
    })
}

/// Headers, tables, moduledata, and the code that plans are made of.
fn regions(bytes: &[u8]) -> Vec<Range<usize>> {
    let binary = GoBinary::parse(bytes, "seed").expect("a seed is a Go program");
    let image = binary.image();
    let place = |part: &[u8]| {
        let begin = part.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
        begin..begin + part.len()
    };
    let mut regions = vec![0..64, 64..64 + 56 * 12, 0..bytes.len()];
    let section_headers = u64::from_le_bytes(bytes[40..48].try_into().expect("eight bytes")) as usize;
    regions.push(section_headers.min(bytes.len() - 1)..bytes.len());
    for name in [
        ".gopclntab",
        ".data.rel.ro.gopclntab",
        ".go.buildinfo",
        ".go.module",
        ".noptrdata",
        ".data",
        ".rodata",
        ".rela",
        ".rela.dyn",
    ] {
        if let Some(section) = image.section(name).filter(|section| !section.data.is_empty()) {
            let whole = place(section.data);
            // The head of a table has the lengths of the rest.
            regions.push(whole.start..whole.end.min(whole.start + 256));
            regions.push(whole);
        }
    }
    for name in [
        "runtime.casgstatus",
        "runtime.ready",
        "runtime.goschedImpl",
        "runtime.rt0_go",
        "runtime.schedinit",
        "runtime.main",
        "runtime.doInit1",
    ] {
        for function in binary.functions(name) {
            regions.extend(binary.code_of(&function).map(place));
        }
    }
    regions.retain(|region| !region.is_empty());
    regions
}
