use super::flow::{Analysis, Value};
use super::*;
use proptest::prelude::*;

fn amd64(bytes: &[u8]) -> Vec<Insn> {
    amd64::decode(bytes, 0x1000).unwrap()
}

fn arm64(words: &[u32]) -> Vec<Insn> {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    arm64::decode(&bytes, 0x1000).unwrap()
}

/// The kernel's rules, instruction by instruction.
#[test]
fn shapes_of_amd64() {
    use Shape::*;
    let cases: &[(&[u8], Shape)] = &[
        (&[0x90], Emulated),
        (&[0x66, 0x90], Emulated),
        (&[0x55], Emulated),
        (&[0x41, 0x57], Emulated),
        (&[0xeb, 0x00], Emulated),
        (&[0xe9, 0, 0, 0, 0], Emulated),
        (&[0xe8, 0, 0, 0, 0], Emulated),
        (&[0x75, 0x00], Emulated),
        (&[0x0f, 0x86, 0, 0, 0, 0], Emulated),
        // nopl 0x0(%rax,%rax,1): what Linux 6.18 makes of it a fork does not survive
        (&[0x0f, 0x1f, 0x44, 0x00, 0x00], Refused),
        // nopl 0x0(%rax): only from Linux 6.18 on
        (&[0x0f, 0x1f, 0x40, 0x00], SingleStepped),
        // push $imm; pop; mov; ret; call *%rax; cmp 0x10(%r14),%rsp
        (&[0x6a, 0x01], SingleStepped),
        (&[0x58], SingleStepped),
        (&[0x48, 0x89, 0xe5], SingleStepped),
        (&[0xc3], SingleStepped),
        (&[0xff, 0xd0], SingleStepped),
        (&[0x49, 0x3b, 0x66, 0x10], SingleStepped),
        // xchg %rax,%r8 has nop's opcode
        (&[0x49, 0x90], SingleStepped),
        // lock cmpxchg %ecx,0x90(%rdi)
        (&[0xf0, 0x0f, 0xb1, 0x8f, 0x90, 0, 0, 0], Refused),
        // a branch with a segment prefix or an operand size
        (&[0x2e, 0x75, 0x00], Refused),
        (&[0x66, 0xe8, 0, 0, 0, 0], Refused),
        (&[0xcc], Refused),
        (&[0x0f, 0x0b], Refused),
    ];
    for (bytes, shape) in cases {
        assert_eq!(
            amd64(bytes)[0].shape,
            *shape,
            "{bytes:02x?} {}",
            disassemble(Arch::Amd64, bytes, 0)
        );
    }
}

#[test]
fn shapes_of_arm64() {
    use Shape::*;
    let cases = [
        (0x9400_0000, Emulated),      // bl
        (0x1400_0002, Emulated),      // b
        (0x54ff_ffe1, Emulated),      // b.ne
        (0xb400_0060, Emulated),      // cbz
        (0x3700_0086, Emulated),      // tbnz
        (0xd65f_03c0, Emulated),      // ret
        (0xd61f_0020, Emulated),      // br
        (0xd63f_0020, Emulated),      // blr
        (0x5800_0080, Emulated),      // ldr x0, literal
        (0x1000_0020, Emulated),      // adr
        (0x9000_001b, Emulated),      // adrp
        (0xd503_201f, SingleStepped), // nop
        (0xf940_0760, SingleStepped), // ldr x0, [x27, #8]
        (0xf81a_0ffe, SingleStepped), // str x30, [sp, #-96]!
        (0x88df_fc44, SingleStepped), // ldar
        (0x885f_fc23, Refused),       // ldaxr
        (0x8804_fc25, Refused),       // stlxr
        (0xd400_0001, Refused),       // svc
        (0xd420_0000, Refused),       // brk
    ];
    for (word, shape) in cases {
        let text = disassemble(Arch::Arm64, &u32::to_le_bytes(word), 0);
        assert_eq!(arm64(&[word])[0].shape, shape, "{word:08x} {text}");
    }
}

#[test]
fn values_of_arm64() {
    let set = |word: u32| match arm64(&[word])[0].op {
        Op::Set { value, .. } => value,
        op => panic!("{word:08x} is {op:?}"),
    };
    assert_eq!(set(0xb240_03e0), 1); // orr x0, xzr, #1
    assert_eq!(set(0x321f_03e1), 2); // orr w1, wzr, #2
    assert_eq!(set(0xb208_9fe2), 0xff00_ff00_ff00_ff00);
    assert_eq!(set(0xb27f_fbe3), 0xffff_ffff_ffff_fffe);
    assert_eq!(set(0x3202_0be4), 0xc000_0001);
    assert_eq!(set(0x5280_0081), 4); // mov w1, #4
    assert_eq!(set(0x9280_0001), u64::MAX); // mov x1, #-1
    assert_eq!(set(0xaa1f_03e7), 0); // mov x7, xzr
    assert_eq!(set(0x9000_001b), 0x1000); // adrp x27, this page
}

#[test]
fn operands_of_arm64() {
    let insns = arm64(&[
        0xaa06_03e5, // mov x5, x6
        0x3943_1803, // ldrb w3, [x0, #198]
        0xa94c_0801, // ldp x1, x2, [x0, #192]
        0xa90c_041f, // stp xzr, x1, [x0, #192]
        0xf847_07fe, // ldr x30, [sp], #112
        0xcb03_0041, // sub x1, x2, x3
        0xeb02_003f, // cmp x1, x2
    ]);
    let at = |base, disp| {
        Some(Mem {
            base: Some(base),
            disp,
            indexed: false,
        })
    };
    assert_eq!(insns[0].op, Op::Move { dst: 5, src: 6 });
    assert_eq!(
        (insns[1].op, insns[1].mem, insns[1].bytes),
        (Op::Load { dst: 3 }, at(0, 198), 1)
    );
    assert_eq!(
        (insns[2].op, insns[2].mem),
        (Op::LoadPair { first: 1, second: 2 }, at(0, 192))
    );
    assert_eq!((insns[2].bytes, insns[2].writes), (16, 1 << 1 | 1 << 2));
    assert_eq!(
        (insns[3].op, insns[3].writes),
        (Op::StorePair { first: 31, second: 1 }, 0)
    );
    assert_eq!((insns[4].mem, insns[4].writes), (at(31, 0), 1 << 30 | 1 << 31));
    assert_eq!(insns[5].op, Op::Sub { dst: 1, a: 2, b: 3 });
    assert_eq!((insns[6].writes, insns[6].writes_zf), (0, true));
}

#[test]
fn joins_keep_what_all_paths_agree_on() {
    // test eax,eax; je 1f; mov ebx,1; mov ecx,4; jmp 2f; 1: mov ebx,1; xor ecx,ecx; 2: call; mov ecx,ebx; ret
    let insns = amd64(&[
        0x85, 0xc0, 0x74, 0x0c, 0xbb, 1, 0, 0, 0, 0xb9, 4, 0, 0, 0, 0xeb, 0x07, 0xbb, 1, 0, 0, 0, 0x31, 0xc9,
        0xe8, 0xe4, 0xff, 0xff, 0xff, 0x89, 0xd9, 0xc3,
    ]);
    let analysis = Analysis::new(Arch::Amd64, &insns, |_| None);
    let call = insns
        .iter()
        .position(|i| matches!(i.flow, Flow::Call(_)))
        .unwrap();
    let (rbx, rcx) = (3, 1);
    let before = analysis.before(call);
    assert_eq!((before[rbx], before[rcx]), (Value::Const(1), Value::Unknown));
    // A call destroys it.
    assert_eq!(analysis.before(call + 1)[rbx], Value::Unknown);
}

#[test]
fn a_loop_changes_what_it_changes() {
    // xor edx,edx; mov ebx,2; 1: add rdx,1; cmp rdx,10; jne 1b; ret
    let insns = amd64(&[
        0x31, 0xd2, 0xbb, 2, 0, 0, 0, 0x48, 0x83, 0xc2, 1, 0x48, 0x83, 0xfa, 10, 0x75, 0xf6, 0xc3,
    ]);
    let analysis = Analysis::new(Arch::Amd64, &insns, |_| None);
    let before = analysis.before(2);
    assert_eq!((before[2], before[3]), (Value::Unknown, Value::Const(2)));
}

#[test]
fn a_mark_is_lost_where_one_path_overwrites_it() {
    // cmp byte [rdi+0xbe],0; je 1f; mov rcx,rdi; test eax,eax; je 1f; mov rdi,rsi; 1: nop; ret
    let insns = amd64(&[
        0x80, 0xbf, 0xbe, 0, 0, 0, 0, 0x74, 0x0a, 0x48, 0x89, 0xf9, 0x85, 0xc0, 0x74, 0x03, 0x48, 0x89, 0xf7,
        0x90, 0xc3,
    ]);
    let mark = |i: &Insn| matches!(i.op, Op::CompareMem { .. }).then_some(7);
    let analysis = Analysis::new(Arch::Amd64, &insns, mark);
    assert_eq!(analysis.before(3)[7], Value::Marked(0));
    let last = analysis.before(insns.len() - 1);
    assert_eq!((last[7], last[1]), (Value::Unknown, Value::Unknown));
}

#[test]
fn nothing_is_known_where_a_table_leads() {
    // mov ebx,1; jmp *%rax; call 0
    let insns = amd64(&[0xbb, 1, 0, 0, 0, 0xff, 0xe0, 0xe8, 0, 0, 0, 0]);
    assert_eq!(
        Analysis::new(Arch::Amd64, &insns, |_| None).before(2)[3],
        Value::Unknown
    );
}

#[test]
fn a_search_by_bytes_never_misses() {
    // call +0x20 from 0x1000
    assert!(may_reach(Arch::Amd64, &[0xe8, 0x20, 0, 0, 0], 0x1000, 0x1025));
    assert!(!may_reach(Arch::Amd64, &[0xe8, 0x20, 0, 0, 0], 0x1000, 0x1026));
    assert!(may_reach(
        Arch::Arm64,
        &0x9400_0002_u32.to_le_bytes(),
        0x1000,
        0x1008
    ));
    // lock cmpxchg %ecx,0x90(%rdi); %edx,0x98(%r12); %edx,0x10(%rcx)
    let swaps: [(&[u8], u32); 3] = [
        (&[0xf0, 0x0f, 0xb1, 0x8f, 0x90, 0, 0, 0], 0x90),
        (&[0xf0, 0x41, 0x0f, 0xb1, 0x94, 0x24, 0x98, 0, 0, 0], 0x98),
        (&[0xf0, 0x0f, 0xb1, 0x51, 0x10], 0x10),
    ];
    for (bytes, offset) in swaps {
        assert!(may_swap(Arch::Amd64, bytes, offset));
        assert!(!may_swap(Arch::Amd64, bytes, offset + 8));
    }
}

proptest! {
    /// Whatever the bytes are, there is an answer.
    #[test]
    fn any_bytes_are_analysed(bytes in proptest::collection::vec(any::<u8>(), 0..2048), start in any::<u64>()) {
        let whole = bytes.len() / 4 * 4;
        for (arch, insns) in [
            (Arch::Amd64, amd64::decode(&bytes, start)),
            (Arch::Arm64, arm64::decode(&bytes[..whole], start)),
        ] {
            let Ok(insns) = insns else { continue };
            let analysis = Analysis::new(arch, &insns, |i| i.mem.and_then(|m| m.base));
            let mut seen = 0;
            analysis.visit(|index, insn, registers| {
                assert_eq!(*registers, analysis.before(index));
                flow::address(insn, registers);
                analysis.previous(index);
                seen += 1;
            });
            prop_assert_eq!(seen, insns.len());
        }
        may_reach(Arch::Amd64, &bytes, start, 0x1000);
        may_swap(Arch::Amd64, &bytes, 0x90);
        disassemble(Arch::Amd64, &bytes, start);
        disassemble(Arch::Arm64, &bytes, start);
    }
}
