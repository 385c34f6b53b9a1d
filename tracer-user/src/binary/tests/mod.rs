mod refused;
mod unusual;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use object::{Object, ObjectSymbol};

use super::*;
use crate::binary::pclntab::Frame;
use crate::binary::testing::{Build, Go};

fn symtab(data: &[u8]) -> BTreeMap<u64, Vec<String>> {
    let file = object::File::parse(data).unwrap();
    let mut symbols = BTreeMap::<u64, Vec<String>>::new();
    for s in file.symbols() {
        let name = s.name().unwrap();
        // Assembly functions have the calling convention in their symbol, but not in pclntab.
        let name = name.strip_suffix(".abi0").unwrap_or(name);
        let names = symbols.entry(s.address()).or_default();
        names.push(name.to_owned());
        // Go 1.18 and 1.19 leave type arguments, or what looks like them, out of pclntab.
        if let (Some(from), Some(to)) = (name.find('['), name.rfind(']')) {
            names.push(format!("{}[...]{}", &name[..from], &name[to + 1..]));
        }
    }
    symbols
}

/// Every function that pclntab has is where the symbol table has it, and is named the same.
fn agrees_with_symtab(go: &Go, build: Build) {
    let data = std::fs::read(go.build(build)).unwrap();
    let binary = GoBinary::parse(&data, "test").unwrap();
    let symbols = symtab(&data);
    let mut seen = 0;
    for i in 0..binary.pclntab().header().nfunc {
        let f = binary.pclntab().nth(i).unwrap();
        let name = binary.pclntab().name(f).unwrap();
        let (start, end) = binary.pclntab().range(f).unwrap();
        assert!(start < end, "{name} is empty");
        let names = symbols
            .get(&start)
            .unwrap_or_else(|| panic!("{} {build:?}: no symbol at {name}", go.version));
        // The ELF symbol of a local type has a full stop for the compiler's middle dot.
        let symbol = name.replace('·', ".");
        assert!(
            names.iter().any(|n| n == name || *n == symbol),
            "{} {build:?}: {name} at {start:#x} is {names:?}",
            go.version
        );
        assert_eq!(binary.pclntab().function_of(start), Some(f));
        assert_eq!(binary.pclntab().function_of(end - 1), Some(f));
        assert!(
            binary
                .functions(name)
                .iter()
                .any(|f| (f.start, f.end) == (start, end)),
            "{name}"
        );
        seen += 1;
    }
    assert!(seen > 1000, "only {seen} functions");
    // And none is missing.
    let text = binary.facts().text;
    let missing: Vec<_> = symbols
        .iter()
        .filter(|(a, names)| (text.0..text.1).contains(a) && names.iter().any(|n| n.starts_with("runtime.")))
        .filter(|(a, _)| {
            binary
                .pclntab()
                .function_of(**a)
                .and_then(|f| binary.pclntab().range(f))
                .unwrap()
                .0
                != **a
        })
        // Marks of the linker, not functions.
        .filter(|(_, names)| !names.iter().any(|n| n == "runtime.text" || n == "runtime.etext"))
        .collect();
    assert_eq!(missing, Vec::new(), "{} {build:?}", go.version);
}

#[test]
fn function_addresses_equal_the_symbol_table() {
    for go in Go::all() {
        agrees_with_symtab(&go, Build::Static);
        agrees_with_symtab(&go, Build::Pie);
        agrees_with_symtab(&go, Build::Arm64);
    }
}

#[test]
fn function_addresses_equal_the_symbol_table_where_a_c_linker_made_it() {
    for go in Go::all()
        .into_iter()
        .filter(|go| [19, 25, 27].contains(&go.minor))
    {
        agrees_with_symtab(&go, Build::Cgo);
        agrees_with_symtab(&go, Build::CgoPie);
    }
}

/// The facts of each build; and stripping loses no function.
#[test]
fn facts() {
    for go in Go::all() {
        let mut counts = Vec::new();
        for build in [
            Build::Static,
            Build::Stripped,
            Build::Pie,
            Build::PieStripped,
            Build::Arm64,
        ] {
            let data = std::fs::read(go.build(build)).unwrap();
            let binary = GoBinary::parse(&data, "test").unwrap();
            let f = binary.facts();
            let pie = matches!(build, Build::Pie | Build::PieStripped);
            assert_eq!(f.version.raw, go.version);
            assert_eq!(
                (f.version.minor, f.version.vendor_or_prerelease.as_deref()),
                (go.minor, None)
            );
            assert_eq!(
                f.arch,
                if build == Build::Arm64 {
                    Arch::Arm64
                } else {
                    Arch::Amd64
                }
            );
            assert_eq!(f.build_mode, if pie { BuildMode::Pie } else { BuildMode::Exe });
            assert_eq!(f.stripped, matches!(build, Build::Stripped | Build::PieStripped));
            assert_eq!(
                (f.cgo, f.pgo, f.external_linking, f.dynamic),
                (false, false, false, pie)
            );
            assert_eq!(f.main_path.as_deref(), Some("example.org/program"));
            assert_eq!(f.settings.get("CGO_ENABLED").map(String::as_str), Some("0"));
            assert!(binary.runtime_functions().len() > 900);
            assert!(binary.module().gofunc.is_some());
            counts.push(binary.pclntab().header().nfunc);
        }
        let &[plain, stripped, pie, pie_stripped, _] = counts.as_slice() else {
            unreachable!()
        };
        assert_eq!((plain, pie), (stripped, pie_stripped));
    }
}

#[test]
fn facts_of_cgo() {
    for go in Go::all()
        .into_iter()
        .filter(|go| [19, 25, 27].contains(&go.minor))
    {
        for build in [Build::Cgo, Build::CgoPie, Build::CgoPieStripped] {
            let data = std::fs::read(go.build(build)).unwrap();
            let binary = GoBinary::parse(&data, "test").unwrap();
            let f = binary.facts();
            assert_eq!(
                (f.cgo, f.external_linking, f.dynamic),
                (true, true, true),
                "{} {build:?}",
                go.version
            );
            assert_eq!(f.build_mode == BuildMode::Pie, build != Build::Cgo);
            assert!(!f.library, "{} {build:?}", go.version);
            assert_eq!(f.version.raw, go.version);
        }
    }
}

/// The functions of package runtime are those of its object file: also what it gives to other packages.
#[test]
fn runtime_functions_are_those_of_the_package() {
    for go in Go::all() {
        let data = std::fs::read(go.build(Build::Stripped)).unwrap();
        let binary = GoBinary::parse(&data, "test").unwrap();
        let names: Vec<&str> = binary.runtime_functions().iter().map(|f| f.name.raw()).collect();
        for name in [
            "runtime.schedule",
            "runtime.execute",
            "sync.runtime_Semrelease",
            "syscall.runtime_envs",
        ] {
            // What the program does not use is not linked.
            let linked = !binary.functions(name).is_empty();
            assert!(names.contains(&name) == linked, "{} {name}", go.version);
        }
        assert!(names.contains(&"runtime.schedule") && !names.contains(&"main.main"));
        assert!(binary.runtime_functions().is_sorted_by_key(|f| f.start));
    }
}

/// At every address of some functions full of inlined ones, the name is the one that the program itself has
/// for it.
#[test]
fn names_at_addresses_are_those_that_the_runtime_has() {
    for go in Go::all() {
        let path = go.build(Build::Static);
        let data = std::fs::read(&path).unwrap();
        let binary = GoBinary::parse(&data, "test").unwrap();
        let mut child = Command::new(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut addresses = 0;
        for name in [
            "runtime.schedule",
            "runtime.findRunnable",
            "runtime.gcStart",
            "main.holder",
            "main.main",
        ] {
            for f in binary.functions(name) {
                addresses += f.end - f.start;
                // The runtime takes an address for one to return to, unless it is a function's first.
                writeln!(stdin, "{:x} {:x}", f.start, f.end - 1).unwrap();
            }
        }
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.strip_suffix("end\n").unwrap().lines().collect();
        assert!(
            addresses > 5000 && lines.len() > 100,
            "{addresses} {}",
            lines.len()
        );
        let mut inlined = 0;
        let (stack, lines): (Vec<&str>, Vec<&str>) =
            lines.into_iter().partition(|line| line.starts_with("stack "));
        has_the_stack(&go, &binary, &stack);
        for line in lines {
            let (address, name, place) = frame_of(line);
            let ours = binary.function_at(address).unwrap();
            let frames = binary.frames_at(address).unwrap_or_default();
            assert_eq!(
                frames.first().map(|frame| (frame.function, place_of(frame))),
                Some((ours, place.to_owned())),
                "{} at {address:#x}",
                go.version
            );
            // What the runtime prints hides type arguments.
            if !name.contains("[...]") {
                assert_eq!(ours, name, "{} at {address:#x}", go.version);
            }
            let f = binary.pclntab().function_of(address).unwrap();
            inlined += usize::from(binary.pclntab().name(f) != Some(ours));
        }
        assert!(inlined > 20, "{inlined}");
    }
}

/// `ADDRESS FUNCTION FILE:LINE`.
fn frame_of(line: &str) -> (u64, &str, &str) {
    let (address, rest) = line.split_once(' ').unwrap();
    let (name, place) = rest.split_once(' ').unwrap();
    (u64::from_str_radix(address, 16).unwrap(), name, place)
}

fn place_of(frame: &Frame<'_>) -> String {
    // As the runtime writes it for the padding after a function.
    format!("{}:{}", frame.file.unwrap_or("?"), frame.line.unwrap_or(0))
}

/// A stack as the runtime reports it, with an address for each inlined function, follows from the addresses of the
/// functions that were called.
fn has_the_stack(go: &Go, binary: &GoBinary<'_>, stack: &[&str]) {
    let theirs: Vec<_> = stack
        .iter()
        .map(|line| frame_of(line.strip_prefix("stack ").unwrap()))
        .collect();
    let mut rest = theirs.as_slice();
    let (mut called, mut inlined) = (0, 0);
    while let Some((pc, ..)) = rest.first() {
        let ours = binary.frames_at(pc - 1).unwrap();
        assert!(!ours.is_empty() && ours.len() <= rest.len(), "{pc:#x}");
        for (ours, (_, name, place)) in ours.iter().zip(rest) {
            assert_eq!(
                (ours.function, place_of(ours).as_str()),
                (*name, *place),
                "{}: {stack:#?}",
                go.version
            );
        }
        called += 1;
        inlined += ours.len() - 1;
        rest = &rest[ours.len()..];
    }
    // tell, three times (*nested).tell, main.main, runtime.main, runtime.goexit; within and around.
    assert!(called >= 8 && inlined >= 2, "{called}, {inlined}: {stack:#?}");
    let functions: Vec<_> = theirs.iter().map(|(_, name, _)| *name).collect();
    assert_eq!(
        functions[..4],
        ["main.tell", "main.around", "main.within", "main.(*nested).tell"]
    );
}

/// The whole chain of inlined functions, and the count of each.
#[test]
fn inlined_functions_are_nested_as_in_the_source() {
    for go in Go::all() {
        for build in [Build::Static, Build::Arm64, Build::PieStripped] {
            let data = std::fs::read(go.build(build)).unwrap();
            let binary = GoBinary::parse(&data, "test").unwrap();
            let [holder] = binary.functions("main.holder").try_into().unwrap();
            let chains: Vec<_> = (holder.start..holder.end)
                .map(|pc| binary.inlined_at(&holder, pc))
                .collect();
            for chain in [
                vec!["main.innermost", "main.middle", "main.outer"],
                vec!["main.middle", "main.outer"],
                vec![],
            ] {
                assert!(
                    chains.iter().any(|c| *c == chain),
                    "{} {build:?}: {chain:?} in {chains:?}",
                    go.version
                );
            }
            let counts = [("main.innermost", 1), ("main.middle", 1), ("main.outer", 1)];
            assert_eq!(
                binary.inlined_into(&holder),
                counts.map(|(n, c)| (n.to_owned(), c)),
                "{}",
                go.version
            );
        }
    }
}

/// Some real programs have no build information: the version is that of the variable.
#[test]
fn the_version_is_found_without_build_information() {
    for go in Go::all() {
        for build in [Build::Stripped, Build::PieStripped, Build::Arm64] {
            let mut data = std::fs::read(go.build(build)).unwrap();
            wipe(&mut data, b"\xff Go buildinf:");
            let binary = GoBinary::parse(&data, "test").unwrap();
            assert_eq!(binary.facts().version.raw, go.version, "{build:?}");
            assert_eq!(binary.facts().main_path, None);
        }
    }
}

/// Without section headers everything is found by segment and magic.
#[test]
fn sections_are_not_needed() {
    for go in Go::all() {
        for build in [Build::Stripped, Build::PieStripped, Build::Arm64] {
            let mut data = std::fs::read(go.build(build)).unwrap();
            let names = GoBinary::parse(&data, "test")
                .unwrap()
                .runtime_functions()
                .to_vec();
            // e_shoff, e_shnum, e_shstrndx.
            data[40..48].fill(0);
            data[60..64].fill(0);
            let binary = GoBinary::parse(&data, "test").unwrap();
            assert_eq!(binary.runtime_functions(), names);
            assert_eq!(binary.facts().version.raw, go.version);
        }
    }
}

/// Overwrites every occurrence.
pub(super) fn wipe(data: &mut [u8], what: &[u8]) {
    let at: Vec<usize> = memchr::memmem::find_iter(data, what).collect();
    assert!(
        !at.is_empty(),
        "{} is not in the program",
        String::from_utf8_lossy(what)
    );
    for at in at {
        data[at..at + what.len()].fill(0);
    }
}
