//! The object file of the kernel side: rules that no verifier asks for, and that a crash of somebody's kernel would show.

use std::collections::BTreeSet;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

static OBJECT: &[u8] = include_bytes!(env!("GMPSCOPE_EBPF_OBJECT"));

/// Bytes of an instruction (include/uapi/linux/bpf.h, `struct bpf_insn`).
const INSTRUCTION: usize = 8;
/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// `BPF_FUNC_tail_call`.
const TAIL_CALL: i32 = 12;
/// The table that a tail call would go to, see `tracer-ebpf/src/programs/stack.rs`.
const TABLE: &str = "NO_PROGRAM";

/// Programs of uprobes, and those of them that hold a tail call into the empty table.
fn uprobe_programs(object: &[u8]) -> (BTreeSet<String>, BTreeSet<String>) {
    let file = object::File::parse(object).unwrap();
    let (mut all, mut guarded) = (BTreeSet::new(), BTreeSet::new());
    for section in file
        .sections()
        .filter(|s| s.name().unwrap().starts_with("uprobe"))
    {
        let code = section.data().unwrap();
        let into_table: BTreeSet<u64> = section
            .relocations()
            .filter(|(_, relocation)| match relocation.target() {
                RelocationTarget::Symbol(symbol) => {
                    file.symbol_by_index(symbol).and_then(|symbol| symbol.name()) == Ok(TABLE)
                }
                _ => false,
            })
            .map(|(at, _)| at)
            .collect();
        let programs = file.symbols().filter(|symbol| {
            symbol.section_index() == Some(section.index()) && symbol.kind() == SymbolKind::Text
        });
        for program in programs {
            let name = program.name().unwrap().to_owned();
            let range = program.address()..program.address() + program.size();
            let instructions = &code[range.start as usize..range.end as usize];
            let calls = instructions.chunks_exact(INSTRUCTION).any(|instruction| {
                let immediate = i32::from_le_bytes(instruction[4..].try_into().unwrap());
                // The upper half of the registers' byte is 0 for the call of a helper.
                instruction[0] == CALL && instruction[1] >> 4 == 0 && immediate == TAIL_CALL
            });
            if calls && into_table.range(range).next().is_some() {
                guarded.insert(name.clone());
            }
            all.insert(name);
        }
    }
    (all, guarded)
}

#[test]
fn every_uprobe_program_keeps_the_stack_of_its_thread() {
    let (all, guarded) = uprobe_programs(OBJECT);
    let kinds = ["exact", "sampled", "full", "stacks", "mark"];
    let pairs = kinds
        .iter()
        .flat_map(|kind| [format!("{kind}_cookie"), format!("{kind}_ip")]);
    let pairs: BTreeSet<String> = pairs.collect();
    // It has no stack at all.
    let without = BTreeSet::from(["empty".to_owned()]);
    assert_eq!(all, &pairs | &without);
    assert_eq!(guarded, pairs);
}
