use super::branch;
use crate::binary::Arch;
use crate::binary::code::flow::Analysis;
use crate::binary::code::{Insn, Op, amd64, arm64};

fn swaps(insns: &[Insn]) -> Vec<usize> {
    let is = |i: &Insn| matches!(i.op, Op::CompareExchange { .. });
    insns
        .iter()
        .enumerate()
        .filter(|(_, i)| is(i))
        .map(|(n, _)| n)
        .collect()
}

/// `mov r10,rax; mov eax,4; mov r11d,1; lock cmpxchg [r10+0x90],r11d`, then `tail`.
fn after_amd64(tail: &[u8]) -> Option<(u64, u8)> {
    let mut bytes = vec![0x49, 0x89, 0xc2, 0xb8, 4, 0, 0, 0, 0x41, 0xbb, 1, 0, 0, 0];
    bytes.extend([0xf0, 0x45, 0x0f, 0xb1, 0x9a, 0x90, 0, 0, 0]);
    let swap_ends = bytes.len() as u64;
    bytes.extend(tail);
    let insns = amd64::decode(&bytes, 0).unwrap();
    let analysis = Analysis::new(Arch::Amd64, &insns, |_| None);
    let [index] = swaps(&insns)[..] else {
        panic!("no swap")
    };
    let branch = branch::after(Arch::Amd64, &insns, &analysis, index)?;
    Some((insns[branch.at].address - swap_ends, branch.zf))
}

#[test]
fn the_branch_after_a_swap_says_whether_it_succeeded() {
    // jne
    assert_eq!(after_amd64(&[0x75, 0, 0xc3]), Some((0, 1)));
    // sete r12b; test r12b,r12b; jne
    assert_eq!(
        after_amd64(&[0x41, 0x0f, 0x94, 0xc4, 0x45, 0x84, 0xe4, 0x75, 0, 0xc3]),
        Some((7, 0))
    );
    // setne al; mov rdi,rdx; test al,al; je
    assert_eq!(
        after_amd64(&[0x0f, 0x95, 0xc0, 0x48, 0x89, 0xd7, 0x84, 0xc0, 0x74, 0, 0xc3]),
        Some((8, 1))
    );
}

#[test]
fn a_branch_that_tests_something_else_is_not_taken_for_it() {
    // sete al; test bl,bl; jne
    assert_eq!(after_amd64(&[0x0f, 0x94, 0xc0, 0x84, 0xdb, 0x75, 0, 0xc3]), None);
    // sete al; mov eax,edx; test al,al; jne
    assert_eq!(
        after_amd64(&[0x0f, 0x94, 0xc0, 0x89, 0xd0, 0x84, 0xc0, 0x75, 0, 0xc3]),
        None
    );
    // inc edx; jne
    assert_eq!(after_amd64(&[0xff, 0xc2, 0x75, 0, 0xc3]), None);
    // sete al; 1: test al,al; jne 1b: control reaches the branch from elsewhere, too
    assert_eq!(
        after_amd64(&[0x0f, 0x94, 0xc0, 0x84, 0xc0, 0x75, 0xfc, 0xc3]),
        None
    );
    // ret
    assert_eq!(after_amd64(&[0xc3]), None);
}

/// casgstatus's compare-and-swap as Go's compiler emits it for arm64, in both forms.
const BOTH_FORMS: [u32; 16] = [
    0x9102_6005, // add x5, x0, #0x98
    0x3600_00c6, // tbz w6, #0, 1f
    0xb27e_03fb, // orr x27, xzr, #0x4
    0x88fb_fca2, // casal w27, w2, [x5]
    0x6b01_037f, // cmp w27, w1
    0x9a9f_17e6, // cset x6, eq
    0x1400_0007, // b 3f
    0x885f_fcbb, // 1: ldaxr w27, [x5]
    0x6b01_037f, // cmp w27, w1
    0x5400_0061, // b.ne 2f
    0x881b_fca2, // stlxr w27, w2, [x5]
    0xb5ff_ff9b, // cbnz x27, 1b
    0x9a9f_17e6, // 2: cset x6, eq
    0x3700_0046, // 3: tbnz w6, #0, 4f
    0xd503_201f, // nop
    0xd65f_03c0, // 4: ret
];

fn after_arm64(words: &[u32]) -> Option<(usize, u8)> {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let insns = arm64::decode(&bytes, 0x1000).unwrap();
    let analysis = Analysis::new(Arch::Arm64, &insns, |_| None);
    let [index] = swaps(&insns)[..] else {
        panic!("no swap")
    };
    branch::after(Arch::Arm64, &insns, &analysis, index).map(|b| (b.at, b.zf))
}

#[test]
fn both_forms_of_arm64_meet_at_the_branch() {
    assert_eq!(after_arm64(&BOTH_FORMS), Some((13, 1)));
    let with = |at: usize, word: u32| {
        let mut words = BOTH_FORMS;
        words[at] = word;
        after_arm64(&words)
    };
    // Another comparison after the one of what was read, on either path: cmp x1, x2.
    assert_eq!(with(5, 0xeb02_003f), None);
    assert_eq!(with(12, 0xeb02_003f), None);
    // A comparison of something else: cmp w3, w1.
    assert_eq!(with(4, 0x6b01_007f), None);
    assert_eq!(with(8, 0x6b01_007f), None);
    // The second form swaps elsewhere: ldaxr w27, [x4].
    assert_eq!(with(7, 0x885f_fc9b), None);
}
