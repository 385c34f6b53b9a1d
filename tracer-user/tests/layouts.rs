//! The table of layouts against the DWARF of binaries that the real toolchains build, and that DWARF's
//! reader against hostile files.

mod go;

use std::time::{Duration, Instant};

use go::{Build, toolchain, toolchains};
use object::{Object, ObjectSection};
use proptest::prelude::*;
use tracer_user::binary::layout::{LayoutSource, NoDwarf, find, find_or_dwarf, from_dwarf};
use tracer_user::binary::{Arch, GoVersion};

/// Package runtime alone: all the structs are its own.
const TINY: &str = "func main() { println(1) }";

#[test]
fn the_table_says_what_the_dwarf_of_every_toolchain_says() {
    for toolchain in toolchains() {
        let version = &toolchain.version;
        for arch in [Arch::Amd64, Arch::Arm64] {
            // The architectures differ from Go 1.26 on; one older release shows that they did not before.
            if arch == Arch::Arm64 && version.minor < 26 && version.minor != 22 {
                continue;
            }
            let binary = toolchain.build(
                TINY,
                Build {
                    arch: Some(arch),
                    ..Build::default()
                },
            );
            let table = find(version, arch, &[]).unwrap();
            assert_eq!(table.1, LayoutSource::Table, "{}", version.raw);
            assert_eq!(
                from_dwarf(&binary.bytes()).unwrap(),
                table.0,
                "{} {}",
                version.raw,
                arch.name()
            );
        }
    }
}

#[test]
fn the_table_has_the_layouts_of_experiments() {
    for (minor, experiment) in [
        (25, "greenteagc"),
        (27, "nogreenteagc"),
        (24, "nospinbitmutex,staticlockranking"),
    ] {
        let toolchain = toolchain(minor);
        let binary = toolchain.build(
            TINY,
            Build {
                experiment,
                ..Build::default()
            },
        );
        let version = with(experiment, &toolchain.version);
        let (layout, source) = find(&version, Arch::Amd64, &[]).unwrap();
        assert_eq!(source, LayoutSource::Table);
        assert_eq!(
            from_dwarf(&binary.bytes()).unwrap(),
            layout,
            "{} X:{experiment}",
            version.raw
        );
        assert_ne!(
            layout,
            find(&toolchain.version, Arch::Amd64, &[]).unwrap().0,
            "{experiment} moves something"
        );
    }
}

#[test]
fn dwarf_is_read_however_the_binary_is_built() {
    let toolchain = toolchain(27);
    let expected = find(&toolchain.version, Arch::Amd64, &[]).unwrap().0;
    // Many more types and units, and the C library's where the system's linker has its say.
    let big = "import _ \"net/http\"\nfunc main() { println(1) }";
    let builds = [
        Build {
            flags: &["-ldflags=-compressdwarf=false"],
            ..Build::default()
        },
        Build {
            flags: &["-buildmode=pie"],
            ..Build::default()
        },
        Build {
            flags: &["-gcflags=all=-N -l"],
            ..Build::default()
        },
        Build {
            cgo: true,
            flags: &["-ldflags=-linkmode=external"],
            ..Build::default()
        },
    ];
    for build in builds {
        let binary = toolchain.build(if build.cgo { big } else { TINY }, build);
        assert_eq!(
            from_dwarf(&binary.bytes()).unwrap(),
            expected,
            "{:?}",
            build.flags
        );
    }
}

#[test]
fn a_version_that_the_table_lacks_comes_from_dwarf_or_not_at_all() {
    let toolchain = toolchain(27);
    let custom = GoVersion {
        raw: format!("{}-custom", toolchain.version.raw),
        vendor_or_prerelease: Some("-custom".into()),
        ..toolchain.version.clone()
    };
    let binary = toolchain.build(TINY, Build::default());
    let (layout, source) = find_or_dwarf(&custom, Arch::Amd64, &[], &binary.bytes()).unwrap();
    assert_eq!(
        (source, layout),
        (
            LayoutSource::Dwarf,
            find(&toolchain.version, Arch::Amd64, &[]).unwrap().0
        )
    );

    for flags in [&["-ldflags=-w"][..], &["-ldflags=-s -w"]] {
        let stripped = toolchain.build(
            TINY,
            Build {
                flags,
                ..Build::default()
            },
        );
        let why = find_or_dwarf(&custom, Arch::Amd64, &[], &stripped.bytes()).unwrap_err();
        assert_eq!(why.dwarf, NoDwarf::Stripped);
        let message = why.to_string();
        for part in [
            "-custom is not a release",
            "no debug information",
            "`exact`",
            "`passive`",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
    assert!(matches!(from_dwarf(b"#!/bin/sh"), Err(NoDwarf::Elf(_))));
}

#[test]
fn broken_debug_information_is_refused_and_ends() {
    let uncompressed = Build {
        flags: &["-ldflags=-compressdwarf=false"],
        ..Build::default()
    };
    let plain = toolchain(27).build(TINY, uncompressed).bytes();
    let packed = toolchain(27).build(TINY, Build::default()).bytes();
    let span = |elf: &[u8], name: &str| {
        let file = object::read::elf::ElfFile64::<object::LittleEndian>::parse(elf).unwrap();
        let (start, size) = file.section_by_name(name).unwrap().file_range().unwrap();
        (start as usize, size as usize)
    };
    let targets = [
        (&plain, span(&plain, ".debug_info")),
        (&plain, span(&plain, ".debug_abbrev")),
        (&packed, span(&packed, ".debug_info")),
        (&packed, span(&packed, ".debug_abbrev")),
        (&packed, (0, 64)),
        (&packed, {
            let shoff = u64::from_le_bytes(packed[40..48].try_into().unwrap()) as usize;
            (shoff, packed.len() - shoff)
        }),
    ];
    let flips = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
    let truncate = proptest::option::weighted(0.2, any::<prop::sample::Index>());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(
            &(0..targets.len(), flips, truncate),
            |(which, flips, truncate)| {
                let (elf, (start, size)) = targets[which];
                let mut elf = elf.clone();
                for (at, byte) in flips {
                    elf[start + at.index(size)] = byte;
                }
                if let Some(at) = truncate {
                    elf.truncate(start + at.index(size));
                }
                let began = Instant::now();
                // Whatever it says, it must come back soon; a flip may well hit what is not needed.
                let said = from_dwarf(&elf);
                prop_assert!(began.elapsed() < Duration::from_secs(12), "{said:?}");
                Ok(())
            },
        )
        .unwrap();
    // Sizes that the headers promise are not believed.
    let mut huge = packed.clone();
    let (start, _) = span(&packed, ".debug_info");
    huge[start + 8..start + 16].copy_from_slice(&(1u64 << 40).to_le_bytes());
    assert!(matches!(
        from_dwarf(&huge),
        Err(NoDwarf::TooLarge {
            section: ".debug_info",
            ..
        })
    ));
}

fn with(experiments: &str, version: &GoVersion) -> GoVersion {
    let mut version = version.clone();
    version.experiments = experiments.split(',').map(str::to_owned).collect();
    version
}
