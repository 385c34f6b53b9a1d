//! arm64, lowered to [`Insn`]: the subset of A64 that determines control flow, addresses and constants, and which
//! memory is read and written. For all other instructions only the registers that they may write are kept, rather too
//! many than too few. Encodings: Arm Architecture Reference Manual, C4.
//!
//! Instructions have four bytes each, so that a site can never be in the middle of one. yaxpeax-arm makes the
//! disassembly.

use super::{Flow, Insn, Mem, Op, Shape};
use yaxpeax_arch::{Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::InstDecoder;

/// The stack pointer, as register 31 is read in addresses.
const SP: u8 = 31;
/// The zero register, as register 31 is read elsewhere.
const ZR: u8 = 31;
/// What Go's assembler emits where control must never get to (obj7.go, `AUNDEF`).
const GO_UNDEF: u32 = 0xbea7_1700;

/// Decodes every instruction of `bytes`, which begin at the link-time address `start`.
///
/// # Errors
/// The bytes are not a whole number of words.
pub fn decode(bytes: &[u8], start: u64) -> Result<Vec<Insn>, String> {
    let (words, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(format!(
            "{} bytes are not a whole number of instructions",
            bytes.len()
        ));
    }
    let mut insns = Vec::with_capacity(words.len());
    for (n, word) in words.iter().enumerate() {
        let at = n as u64 * 4;
        insns.push(lower(u32::from_le_bytes(*word), start.wrapping_add(at)));
    }
    Ok(insns)
}

/// Disassembles the first instruction of `bytes`.
pub fn disassemble(bytes: &[u8]) -> String {
    let mut reader = U8Reader::new(bytes);
    match InstDecoder::default().decode(&mut reader) {
        Ok(insn) => insn.to_string(),
        Err(_) => format!("{bytes:02x?}"),
    }
}

/// See [`super::may_reach`].
pub fn may_reach(bytes: &[u8], start: u64, target: u64) -> bool {
    bytes.as_chunks::<4>().0.iter().enumerate().any(|(n, word)| {
        let word = u32::from_le_bytes(*word);
        // `b` and `bl`: no compiler aims a conditional branch at another function.
        word & 0x7c00_0000 == 0x1400_0000
            && relative(start.wrapping_add(n as u64 * 4), bits(word, 0, 26), 26, 2) == target
    })
}

/// `len` bits of `word` from bit `from` on.
const fn bits(word: u32, from: u32, len: u32) -> u32 {
    (word >> from) & ((1 << len) - 1)
}

/// `value`, a signed number of `len` bits, shifted left.
const fn signed(value: u32, len: u32, shift: u32) -> i64 {
    ((value as i64) << (64 - len)) >> (64 - len) << shift
}

/// A target relative to the instruction at `pc`.
const fn relative(pc: u64, value: u32, len: u32, shift: u32) -> u64 {
    pc.wrapping_add_signed(signed(value, len, shift))
}

/// Register number in `word` at bit `from`.
const fn register(word: u32, from: u32) -> u8 {
    bits(word, from, 5) as u8
}

/// The mask of a register that is written, empty for the zero register.
const fn written(register: u8) -> u32 {
    if register == ZR { 0 } else { 1 << register }
}

fn lower(word: u32, pc: u64) -> Insn {
    let mut insn = Insn {
        address: pc,
        len: 4,
        flow: Flow::Next,
        op: Op::Other,
        mem: None,
        bytes: 0,
        writes: 0,
        writes_zf: false,
        shape: Shape::SingleStepped,
    };
    // `udf`, which is also what zeros between functions are.
    if word == GO_UNDEF || word >> 16 == 0 {
        insn.flow = Flow::End;
        insn.shape = Shape::Refused;
        return insn;
    }
    match bits(word, 25, 4) {
        0b1000 | 0b1001 => immediate(word, &mut insn),
        0b1010 | 0b1011 => branch(word, &mut insn),
        0b0100 | 0b0110 | 0b1100 | 0b1110 => memory(word, &mut insn),
        0b0101 | 0b1101 => arithmetic(word, &mut insn),
        // Some vector instructions write a general register.
        0b0111 | 0b1111 => insn.writes = written(register(word, 0)),
        // Not an instruction: constants that some functions have after their code.
        _ => {
            insn.flow = Flow::End;
            insn.shape = Shape::Refused;
        }
    }
    insn
}

/// Data processing with an immediate.
fn immediate(word: u32, insn: &mut Insn) {
    let (dst, src) = (register(word, 0), register(word, 5));
    let wide = bits(word, 31, 1) == 1;
    insn.bytes = if wide { 8 } else { 4 };
    insn.writes = written(dst);
    let narrow = |value: u64| if wide { value } else { value & 0xffff_ffff };
    match bits(word, 23, 6) {
        // adr, adrp
        0b100000 | 0b100001 => {
            let value = bits(word, 5, 19) << 2 | bits(word, 29, 2);
            let value = match wide {
                true => relative(insn.address & !0xfff, value, 21, 12),
                false => relative(insn.address, value, 21, 0),
            };
            insn.bytes = 8;
            insn.op = Op::Set { dst, value };
            insn.shape = Shape::Emulated;
        }
        // add, sub
        0b100010 => {
            let value = i64::from(bits(word, 10, 12)) << (12 * bits(word, 22, 1));
            let value = if bits(word, 30, 1) == 1 { -value } else { value };
            if bits(word, 29, 1) == 1 {
                insn.writes_zf = true;
            } else {
                // Register 31 is the stack pointer here.
                insn.writes = 1 << dst;
                if wide {
                    insn.op = Op::AddConst { dst, src, value };
                }
            }
        }
        // and, orr, eor, ands
        0b100100 => match bits(word, 29, 2) {
            0b01 if src == ZR && dst != SP => {
                if let Some(value) = bitmask(word) {
                    insn.op = Op::Set {
                        dst,
                        value: narrow(value),
                    };
                }
            }
            0b11 => insn.writes_zf = true,
            _ => insn.writes = 1 << dst,
        },
        // sxtw: differs from a plain move only for numbers from 2^31 on.
        0b100110 if word & 0xffff_fc00 == 0x9340_7c00 && ![dst, src].contains(&ZR) => {
            insn.bytes = 4;
            insn.op = Op::Move { dst, src };
        }
        // movn, movz, movk
        0b100101 if dst != ZR => {
            let value = u64::from(bits(word, 5, 16)) << (16 * bits(word, 21, 2));
            match bits(word, 29, 2) {
                0b00 => {
                    insn.op = Op::Set {
                        dst,
                        value: narrow(!value),
                    }
                }
                0b10 => {
                    insn.op = Op::Set {
                        dst,
                        value: narrow(value),
                    }
                }
                _ => {}
            }
        }
        _ => {}
    }
}

/// `DecodeBitMasks` of the manual: the immediate of a logical instruction.
fn bitmask(word: u32) -> Option<u64> {
    let (n, rotate, ones) = (bits(word, 22, 1), bits(word, 16, 6), bits(word, 10, 6));
    let combined = n << 6 | (!ones & 0x3f);
    let size = 1_u32 << combined.checked_ilog2()?;
    let (ones, rotate) = (ones & (size - 1), rotate & (size - 1));
    if size < 2 || ones == size - 1 {
        return None;
    }
    let mask = if size == 64 { u64::MAX } else { (1 << size) - 1 };
    let element = (1_u64 << (ones + 1)) - 1;
    let element = match rotate {
        0 => element,
        _ => (element >> rotate | element << (size - rotate)) & mask,
    };
    Some((0..64 / size).fold(0, |value, n| value | element << (n * size)))
}

/// Branches, exceptions and system instructions. The kernel emulates the branches (`simulate-insn.c`), and refuses
/// instructions that change its own state.
fn branch(word: u32, insn: &mut Insn) {
    let pc = insn.address;
    insn.shape = Shape::Emulated;
    if word & 0x7c00_0000 == 0x1400_0000 {
        let target = relative(pc, bits(word, 0, 26), 26, 2);
        insn.flow = if word >> 31 == 1 {
            Flow::Call(Some(target))
        } else {
            Flow::Jump(target)
        };
    } else if word & 0xff00_0010 == 0x5400_0000 || word & 0x7e00_0000 == 0x3400_0000 {
        insn.flow = Flow::Branch(relative(pc, bits(word, 5, 19), 19, 2));
        // `b.al`.
        if word & 0xff00_001e == 0x5400_000e {
            insn.flow = Flow::Jump(relative(pc, bits(word, 5, 19), 19, 2));
        }
    } else if word & 0x7e00_0000 == 0x3600_0000 {
        insn.flow = Flow::Branch(relative(pc, bits(word, 5, 14), 14, 2));
        // tbz, tbnz of bit 63: the compiler's comparison of a number with 0.
        let bit = bits(word, 31, 1) << 5 | bits(word, 19, 5);
        if bit == 63 && register(word, 0) != ZR {
            insn.op = Op::BranchOnSign {
                src: register(word, 0),
            };
        }
    } else if word & 0xffff_fc1f == 0xd61f_0000 {
        insn.flow = Flow::Indirect;
    } else if word & 0xffff_fc1f == 0xd63f_0000 {
        insn.flow = Flow::Call(None);
    } else if word & 0xffff_fc1f == 0xd65f_0000 {
        insn.flow = Flow::End;
    } else if word == 0xd503_201f {
        // `nop` is emulated from Linux 6.13 on only.
        insn.shape = Shape::SingleStepped;
    } else if word & 0xffe0_001f == 0xd400_0001 {
        // `svc` may return with any values in the registers.
        insn.flow = Flow::Call(None);
        insn.shape = Shape::Refused;
    } else if word >> 24 == 0xd4 {
        insn.flow = Flow::End;
        insn.shape = Shape::Refused;
    } else if word >> 22 == 0b11_0101_0100 {
        // System: `mrs` writes a register.
        insn.writes = written(register(word, 0));
        insn.writes_zf = true;
        insn.shape = Shape::Refused;
    } else {
        // Branches with pointer authentication and the like, which Go does not use.
        insn.flow = Flow::Indirect;
        insn.shape = Shape::Refused;
    }
}

/// Data processing with registers.
fn arithmetic(word: u32, insn: &mut Insn) {
    let (dst, a, b) = (register(word, 0), register(word, 5), register(word, 16));
    let wide = bits(word, 31, 1) == 1;
    insn.bytes = if wide { 8 } else { 4 };
    insn.writes = written(dst);
    insn.writes_zf = true;
    let unshifted = bits(word, 10, 6) == 0;
    match bits(word, 24, 5) {
        0b01010 => {
            insn.writes_zf = bits(word, 29, 2) == 0b11;
            // orr with the zero register
            if bits(word, 29, 2) == 0b01 && bits(word, 21, 1) == 0 && a == ZR && unshifted && dst != ZR {
                insn.op = if b == ZR {
                    Op::Set { dst, value: 0 }
                } else {
                    Op::Move { dst, src: b }
                };
            }
        }
        // Conditional selects, shifts, divisions and the like; multiplications.
        0b11010 if matches!(bits(word, 21, 3), 0b100 | 0b110) => insn.writes_zf = false,
        0b11011 => insn.writes_zf = false,
        0b01011 => {
            insn.writes_zf = bits(word, 29, 1) == 1;
            let plain = bits(word, 21, 1) == 0 && unshifted && wide && !insn.writes_zf;
            if insn.writes_zf && dst == ZR && bits(word, 30, 1) == 1 && bits(word, 21, 1) == 0 && unshifted {
                insn.op = Op::Compare { a, b };
            }
            if plain && ![dst, a, b].contains(&ZR) {
                insn.op = match bits(word, 30, 1) {
                    0 => Op::Add { dst, a, b },
                    _ => Op::Sub { dst, a, b },
                };
            }
        }
        _ => {}
    }
}

/// Loads and stores.
fn memory(word: u32, insn: &mut Insn) {
    let (value, base) = (register(word, 0), register(word, 5));
    let vector = bits(word, 26, 1) == 1;
    let mem = |disp| {
        Some(Mem {
            base: Some(base),
            disp,
            indexed: false,
        })
    };
    match bits(word, 27, 3) {
        // One register.
        0b111 => {
            let size = if vector && bits(word, 23, 1) == 1 {
                4
            } else {
                bits(word, 30, 2)
            };
            insn.bytes = 1 << size;
            let mut known = true;
            if bits(word, 24, 1) == 1 {
                insn.mem = mem(i64::from(bits(word, 10, 12)) << size);
            } else if bits(word, 21, 1) == 0 {
                let disp = signed(bits(word, 12, 9), 9, 0);
                // The base is changed after the access (01), before it (11), or not at all.
                insn.mem = mem(if bits(word, 10, 2) == 0b01 { 0 } else { disp });
                insn.writes = if bits(word, 10, 1) == 1 { 1 << base } else { 0 };
            } else if bits(word, 10, 2) == 0b10 {
                insn.mem = Some(Mem {
                    base: Some(base),
                    disp: 0,
                    indexed: true,
                });
            } else {
                // Atomics: the old value is loaded into the register.
                insn.mem = mem(0);
                known = false;
            }
            let load = bits(word, 22, 2) != 0;
            match (vector, known, load) {
                (true, ..) => {}
                (false, true, true) if bits(word, 22, 2) == 2 && size == 3 => {} // prefetch
                (false, true, true) => {
                    insn.writes |= written(value);
                    insn.op = if value == ZR {
                        Op::Other
                    } else {
                        Op::Load { dst: value }
                    };
                }
                (false, true, false) => insn.op = store(value),
                (false, false, _) => insn.writes |= written(value),
            }
        }
        // Two registers.
        0b101 => {
            let second = register(word, 10);
            let size = if vector {
                2 + bits(word, 30, 2)
            } else {
                2 + bits(word, 31, 1)
            };
            let disp = signed(bits(word, 15, 7), 7, size);
            insn.bytes = 2 << size;
            insn.mem = mem(if bits(word, 23, 2) == 0b01 { 0 } else { disp });
            insn.writes = if bits(word, 23, 1) == 1 { 1 << base } else { 0 };
            if !vector && bits(word, 22, 1) == 0 {
                insn.op = Op::StorePair { first: value, second };
            } else if !vector {
                insn.writes |= written(value) | written(second);
                if ![value, second].contains(&ZR) {
                    insn.op = Op::LoadPair { first: value, second };
                }
            }
        }
        // Relative to the instruction. The kernel emulates it for general registers.
        0b011 if bits(word, 24, 1) == 0 => {
            let disp = relative(insn.address, bits(word, 5, 19), 19, 2) as i64;
            insn.mem = Some(Mem {
                base: None,
                disp,
                indexed: false,
            });
            insn.bytes = if bits(word, 30, 2) == 0b01 { 8 } else { 4 };
            insn.shape = if vector { Shape::Refused } else { Shape::Emulated };
            if !vector {
                insn.writes = written(value);
                insn.op = if value == ZR {
                    Op::Other
                } else {
                    Op::Load { dst: value }
                };
            }
        }
        // Exclusives, ordered loads and stores, compare-and-swap, which write different registers.
        0b001 if !vector => {
            insn.bytes = 1 << bits(word, 30, 2);
            insn.mem = mem(0);
            // A load writes its destination; a store-exclusive, whether it succeeded.
            insn.writes = match bits(word, 22, 1) {
                1 => written(value) | written(register(word, 10)),
                _ => written(register(word, 16)),
            };
            // ldxr, ldaxr; cas, casa, casl, casal
            if word & 0x3fff_7c00 == 0x085f_7c00 && value != ZR {
                insn.op = Op::LoadExclusive { dst: value };
            } else if word & 0x3fa0_7c00 == 0x08a0_7c00 {
                insn.op = Op::CompareExchange {
                    old: register(word, 16),
                    new: value,
                };
                insn.writes = written(register(word, 16));
            }
            if bits(word, 23, 1) == 0 {
                insn.shape = Shape::Refused;
            }
        }
        // Vector structures and the rest.
        _ => {
            insn.mem = Some(Mem {
                base: Some(base),
                disp: 0,
                indexed: true,
            });
            insn.writes = 1 << base | written(value);
        }
    }
}

const fn store(value: u8) -> Op {
    if value == ZR {
        Op::StoreConst { value: 0 }
    } else {
        Op::Store { src: value }
    }
}
