use std::ops::Range;

use super::*;
use crate::binary::code::{amd64, arm64};

/// Offset of `g.trackingStamp`; `g.runnableTime` lies at 0xc8.
const STAMP: u32 = 0xc0;
const START: u64 = 0x40_1000;
/// Where `record` is that is called.
const RECORD_AT: u64 = 0x40_8000;

/// A function with a wait that ends in it, whose instructions in `inlined` (bytes from its entry) are inlined from `record`.
struct Program {
    arch: Arch,
    bytes: Vec<u8>,
    inlined: Range<u64>,
}

impl Program {
    fn function(&self) -> Function {
        Function {
            name: "runtime.casgstatus".into(),
            start: START,
            end: START + self.bytes.len() as u64,
        }
    }

    fn found(&self) -> Result<Site, String> {
        let insns = match self.arch {
            Arch::Amd64 => amd64::decode(&self.bytes, START),
            Arch::Arm64 => arm64::decode(&self.bytes, START),
        };
        let decoded = Decoded {
            function: self.function(),
            insns: insns.unwrap(),
        };
        match recorded(self, &[(decoded, 1)], STAMP, false) {
            Ok(mut sites) => {
                assert_eq!(sites.len(), 1);
                Ok(sites.remove(0))
            }
            Err(attempt) => Err(attempt.outcome),
        }
    }
}

impl Code for Program {
    fn arch(&self) -> Arch {
        self.arch
    }

    fn functions(&self, name: &str) -> Vec<Function> {
        let record = Function {
            name: RECORD.into(),
            start: RECORD_AT,
            end: RECORD_AT + 16,
        };
        if name == RECORD { vec![record] } else { Vec::new() }
    }

    fn runtime_functions(&self) -> &[Function] {
        &[]
    }

    fn code_of(&self, _: &Function) -> Option<&[u8]> {
        Some(&self.bytes)
    }

    fn inlined_into(&self, _: &Function) -> Vec<(String, usize)> {
        Vec::new()
    }

    fn inlined_at(&self, _: &Function, pc: u64) -> Vec<String> {
        match self.inlined.contains(&(pc - START)) {
            true => vec![RECORD.to_owned()],
            false => Vec::new(),
        }
    }

    fn file_offset(&self, address: u64) -> Option<u64> {
        Some(address - START)
    }
}

const NO_MORE_TRACKING: &[u8] = &[0xc6, 0x87, 0xbe, 0, 0, 0, 0]; // movb $0, 0xbe(%rdi)
const LOAD: &[u8] = &[0x48, 0x8b, 0x87, 0xc8, 0, 0, 0]; // mov 0xc8(%rdi), %rax
const TEST: &[u8] = &[0x48, 0x85, 0xc0]; // test %rax, %rax
const JGE: &[u8] = &[0x7d, 0x01]; // jge over a nop
const REST: &[u8] = &[0x90, 0x48, 0xc7, 0x87, 0xc8, 0, 0, 0, 0, 0, 0, 0, 0xc3]; // movq $0, 0xc8(%rdi); ret

fn amd64(parts: &[&[u8]], inlined: bool) -> Result<Site, String> {
    let bytes = [&[NO_MORE_TRACKING], parts, &[REST]].concat().concat();
    let program = Program {
        arch: Arch::Amd64,
        bytes,
        inlined: 0..if inlined { 99 } else { 0 },
    };
    program.found()
}

/// casgstatus of Go 1.26.6 with `record` inlined.
#[test]
fn the_first_branch_of_an_inlined_record_is_the_site() {
    let site = amd64(&[LOAD, TEST, JGE], true).unwrap();
    assert_eq!((site.kind, site.offset), (SiteKind::WaitRecorded, 17));
    // RDI has the g and RAX the latency.
    assert_eq!((site.gp_in, site.slot, site.statuses_in.0), (7, 0, 0));
    // js is as good.
    assert!(amd64(&[LOAD, TEST, &[0x78, 0x01]], true).is_ok());
    // Stored right before, as after the sum: mov %rax, 0xc8(%rdi).
    assert!(amd64(&[&[0x48, 0x89, 0x87, 0xc8, 0, 0, 0], TEST, JGE], true).is_ok());
}

#[test]
fn a_branch_that_may_be_another_is_not_taken_for_it() {
    let refused = |parts: &[&[u8]]| amd64(parts, true).unwrap_err();
    let unproven = "of 1 there are 0 that are proven to be given g.runnableTime";
    assert_eq!(
        amd64(&[LOAD, TEST, JGE], false).unwrap_err(),
        unproven,
        "not record's"
    );
    let cases: [(&str, &[&[u8]]); 9] = [
        ("test %rbx, %rbx", &[LOAD, &[0x48, 0x85, 0xdb], JGE]),
        ("half of it: test %eax, %eax", &[LOAD, &[0x85, 0xc0], JGE]),
        ("another field", &[&[0x48, 0x8b, 0x87, 0xd0, 0, 0, 0], TEST, JGE]),
        ("half of the field", &[&[0x8b, 0x87, 0xc8, 0, 0, 0], TEST, JGE]),
        (
            "a slot of the stack",
            &[&[0x48, 0x8b, 0x84, 0x24, 0xc8, 0, 0, 0], TEST, JGE],
        ),
        (
            "an element: 0xc8(%rdi,%rcx,8)",
            &[&[0x48, 0x8b, 0x84, 0xcf, 0xc8, 0, 0, 0], TEST, JGE],
        ),
        ("then mov %rdx, %rax", &[LOAD, &[0x48, 0x89, 0xd0], TEST, JGE]),
        (
            "then inc %rcx changes the flags",
            &[LOAD, TEST, &[0x48, 0xff, 0xc1], JGE],
        ),
        ("not by the sign: je", &[LOAD, TEST, &[0x74, 0x01]]),
    ];
    for (what, parts) in cases {
        assert_eq!(refused(parts), unproven, "{what}");
    }
    // The g is in no register any more: mov %rdx, %rdi.
    assert_eq!(refused(&[LOAD, &[0x48, 0x89, 0xd7], TEST, JGE]), unproven);
    // Control reaches the test from elsewhere as well: je over the load.
    assert_eq!(refused(&[&[0x74, 0x07], LOAD, TEST, JGE]), unproven);
}

fn arm64(words: &[u32], inlined: Option<usize>) -> Result<Site, String> {
    let program = Program {
        arch: Arch::Arm64,
        bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        inlined: inlined.map_or(0..0, |index| index as u64 * 4..99),
    };
    program.found()
}

const RET: u32 = 0xd65f_03c0;

#[test]
fn the_same_of_arm64() {
    let words = [
        0x3902_f81f, // strb wzr, [x0, #190]
        0xf940_6401, // ldr x1, [x0, #200]
        0xb6f8_0041, // tbz x1, #63, 1f
        0xd503_201f, // nop
        0xf900_641f, // 1: str xzr, [x0, #200]
        RET,
    ];
    let site = arm64(&words, Some(2)).unwrap();
    assert_eq!((site.kind, site.offset), (SiteKind::WaitRecorded, 8));
    assert_eq!((site.gp_in, site.statuses_in.0), (0, 1));
    let with = |at: usize, word: u32| {
        let mut words = words;
        words[at] = word;
        arm64(&words, Some(2))
    };
    assert!(arm64(&words, None).is_err());
    assert!(with(1, 0xf940_6001).is_err(), "ldr x1, [x0, #192]");
    assert!(with(2, 0xb6f0_0041).is_err(), "tbz x1, #62");
    assert!(with(2, 0x36f8_0041).is_err(), "tbz w1, #31");
    assert!(with(2, 0xb6f8_0042).is_err(), "tbz x2, #63");
}

/// execute of Go 1.27.3 for arm64, with casgstatus inlined and `record` called: what is handed over has just been stored
/// as the second of a pair.
#[test]
fn a_pair_that_is_stored_is_two_fields() {
    let words = [
        0xa90c_041f, // stp xzr, x1, [x0, #192]
        0x3902_f81f, // strb wzr, [x0, #190]
        0x9000_0020, // adrp x0, 0x405000
        0x9100_4000, // add x0, x0, #0x10
        0x9400_1bfc, // bl 0x408000
        0xf940_47e0, // ldr x0, [sp, #136]
        0xf900_641f, // str xzr, [x0, #200]
        RET,
    ];
    let site = arm64(&words, None).unwrap();
    assert_eq!((site.kind, site.offset), (SiteKind::WaitRecorded, 16));
    assert_eq!(
        (site.gp_in, site.slot, site.statuses_in.0),
        (gp_in::STACK_SLOT, 136, 1)
    );
    let with = |at: usize, word: u32| {
        let mut words = words;
        words[at] = word;
        arm64(&words, None)
    };
    assert!(
        with(0, 0xa90c_7c01).is_err(),
        "stp x1, xzr, [x0, #192]: the stamp"
    );
    assert!(
        with(0, 0xa90c_841f).is_err(),
        "stp xzr, x1, [x0, #200]: the next field"
    );
    // ldp x2, x1, [x0, #192] loads it, ldp x1, x2 the stamp.
    assert!(with(0, 0xa94c_0402).is_ok());
    assert!(with(0, 0xa94c_0801).is_err());
}

/// What is inlined must be of the same histogram as what is called.
#[test]
fn two_histograms_are_not_one() {
    // The address that `record` as inlined has: lea 0x…(%rip), %rdx.
    let both = |inlined_address: u32| {
        let from = LOAD.len() + NO_MORE_TRACKING.len();
        let mut bytes = [NO_MORE_TRACKING, LOAD, TEST, JGE, &[0x90]].concat();
        let after = START + bytes.len() as u64 + 7;
        bytes.extend([0x48, 0x8d, 0x15]);
        bytes.extend((u64::from(inlined_address).wrapping_sub(after) as u32).to_le_bytes());
        bytes.extend([0x48, 0x89, 0x02]); // mov %rax, (%rdx)
        let until = bytes.len();
        // Then, elsewhere, a call: mov 0xc8(%rdi), %rbx; lea 0x405010, %rax; call record.
        bytes.extend([0x48, 0x8b, 0x9f, 0xc8, 0, 0, 0]);
        let after = START + bytes.len() as u64 + 7;
        bytes.extend([0x48, 0x8d, 0x05]);
        bytes.extend((0x40_5010_u64.wrapping_sub(after) as u32).to_le_bytes());
        let after = START + bytes.len() as u64 + 5;
        bytes.push(0xe8);
        bytes.extend((RECORD_AT.wrapping_sub(after) as u32).to_le_bytes());
        bytes.push(0xc3);
        let program = Program {
            arch: Arch::Amd64,
            bytes,
            inlined: from as u64..until as u64,
        };
        let decoded = Decoded {
            function: program.function(),
            insns: amd64::decode(&program.bytes, START).unwrap(),
        };
        recorded(&program, &[(decoded, 2)], STAMP, false)
    };
    assert_eq!(both(0x40_5010).unwrap().len(), 2);
    let attempt = both(0x40_6000).unwrap_err();
    assert!(attempt.outcome.contains("another histogram"), "{attempt:?}");
}
