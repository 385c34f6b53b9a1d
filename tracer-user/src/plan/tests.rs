use std::collections::BTreeSet;

use super::{Emulation, Mode, Origin, Plan, SiteKind, branch, sites};
use crate::binary::code::flow::Analysis;
use crate::binary::code::{Insn, Op, amd64, arm64};
use crate::binary::layout::{self, Layout};
use crate::binary::testing::{Build, Go};
use crate::binary::{Arch, GoBinary, globals};

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

/// The layout and the plan of a program.
fn planned(binary: &GoBinary<'_>) -> (Layout, Plan) {
    let facts = binary.facts();
    let (layout, _) = layout::find(&facts.version, facts.arch, &[]).unwrap();
    let plan = Plan::of(binary, Some(&layout), facts.version.minor, false);
    (layout, plan)
}

/// Without inlining the runtime's compare-and-swap, its clock and its locks are calls. The plan has every site all the
/// same. Package runtime is optimised in both builds, so that the second one is made of two versions only.
#[test]
fn nothing_is_missed_where_nothing_is_inlined() {
    let all = Go::all();
    let ends = [all[0].minor, all[all.len() - 1].minor];
    for go in &all {
        let plain = std::fs::read(go.build(Build::Static)).unwrap();
        let plain = GoBinary::parse(&plain, "plain").unwrap();
        let (_, usual) = planned(&plain);
        for build in [Build::NoInline, Build::NoOpt] {
            if build == Build::NoOpt && !ends.contains(&go.minor) {
                continue;
            }
            let what = format!("{} {build:?}", go.version);
            let bytes = std::fs::read(go.build(build)).unwrap();
            let binary = GoBinary::parse(&bytes, &what).unwrap();
            let (layout, plan) = planned(&binary);

            for mode in Mode::ALL {
                assert_eq!(plan.obstacle(mode), None, "{what}, {mode}");
                for site in plan.sites(mode).unwrap() {
                    sites::verify(&binary, site).unwrap();
                    assert_eq!(site.emulation, Emulation::Emulated, "{what}: {site:?}");
                }
            }
            let exact = plan.exact.as_ref().unwrap();
            let origins: BTreeSet<&str> = exact.iter().filter_map(|s| s.origin).map(Origin::name).collect();
            let expected = ["created", "netpoll", "syscall", "unblocked", "yielded"];
            assert_eq!(origins.into_iter().collect::<Vec<_>>(), expected, "{what}");
            let kinds = [SiteKind::StatusCall, SiteKind::StatusEntry];
            assert!(exact.iter().all(|s| kinds.contains(&s.kind)), "{what}: {exact:?}");
            for function in [
                "runtime.execute",
                "runtime.ready",
                "runtime.newproc1",
                "runtime.goschedImpl",
            ] {
                let count = |plan: &Plan| {
                    let exact = plan.exact.as_ref().unwrap();
                    exact.iter().filter(|s| s.function == function).count()
                };
                assert_eq!(count(&plan), count(&usual), "{what}: {function}");
            }

            let sampled = plan.sampled.as_ref().unwrap();
            assert!(sampled.attempts.is_empty(), "{what}: {:?}", sampled.attempts);
            assert_eq!(sampled.stamp, Some(layout.g.tracking_stamp), "{what}");
            assert_eq!(sampled.sites.len(), 1, "{what}");
            assert_eq!(
                sampled.sites[0].kind,
                usual.sampled.as_ref().unwrap().sites[0].kind,
                "{what}"
            );

            let missing = |plan: &Plan| -> Vec<String> {
                let full = plan.full.as_ref().unwrap();
                full.missing.iter().map(|attempt| attempt.what.clone()).collect()
            };
            let usually = missing(&usual);
            let news: Vec<String> = missing(&plan)
                .into_iter()
                .filter(|missing| !usually.contains(missing))
                .collect();
            // In Go 1.19 no function begins with an instruction that the kernel emulates, and the first call in
            // procresize overwrites its argument.
            let known = |what: &String| go.minor < 21 && what.ends_with("runtime.procresize");
            assert!(news.iter().all(known), "{what}: {news:?}");

            let found = globals::find(&binary, Some(&layout));
            let all = [
                found.sched,
                found.time_to_run,
                found.allp,
                found.allgs,
                found.allm,
                found.gomaxprocs,
            ];
            assert!(all.iter().all(Option::is_some), "{what}: {found:?}");
        }
    }
}
