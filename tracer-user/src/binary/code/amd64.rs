//! amd64, decoded by iced-x86 and lowered to [`Insn`].

use super::{Flow, Insn, Mem, Op, Shape};
use iced_x86::{
    ConditionCode, Decoder, DecoderOptions, FlowControl, Formatter, GasFormatter, InstructionInfoFactory,
    InstructionInfoOptions, Mnemonic, OpAccess, OpKind, Register, RflagsBits,
};

/// RAX, which `cmpxchg` compares with.
const RAX: u8 = 0;

/// Decodes every instruction of `bytes`, which begin at the link-time address `start`.
///
/// # Errors
/// Some bytes are not an instruction; the message says where the first ones are.
pub fn decode(bytes: &[u8], start: u64) -> Result<Vec<Insn>, String> {
    let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
    let mut factory = InstructionInfoFactory::new();
    let mut insns = Vec::with_capacity(bytes.len() / 4);
    let mut machine = iced_x86::Instruction::default();
    while decoder.can_decode() {
        let at = decoder.position();
        decoder.decode_out(&mut machine);
        if machine.is_invalid() {
            return Err(format!("no instruction at +{at:#x}"));
        }
        let raw = bytes.get(at..at + machine.len()).unwrap_or_default();
        insns.push(lower(&machine, raw, &mut factory));
    }
    Ok(insns)
}

/// Disassembles the first instruction of `bytes`, in the GNU assembler's syntax.
pub fn disassemble(bytes: &[u8], address: u64) -> String {
    let machine = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
    let mut text = String::new();
    let mut formatter = GasFormatter::new();
    formatter.options_mut().set_branch_leading_zeros(false);
    formatter.format(&machine, &mut text);
    text
}

/// See [`super::may_reach`]. Direct calls and jumps of 32 bits end in the distance from their end.
pub fn may_reach(bytes: &[u8], start: u64, target: u64) -> bool {
    // `e8`/`e9` begin a call or jmp; `0f 8x` a conditional jump, which no compiler aims at a function.
    memchr::memchr2_iter(0xe8, 0xe9, bytes).any(|at| {
        bytes
            .get(at + 1..at + 5)
            .and_then(|b| b.try_into().ok())
            .is_some_and(|distance| {
                let distance = i64::from(i32::from_le_bytes(distance));
                start.wrapping_add(at as u64 + 5).wrapping_add_signed(distance) == target
            })
    })
}

/// See [`super::may_swap`].
pub fn may_swap(bytes: &[u8], offset: u32) -> bool {
    // `0f b1`, ModRM, perhaps SIB, and the displacement in 4 bytes or, up to 127, in one.
    let offset = offset.to_le_bytes();
    memchr::memmem::find_iter(bytes, b"\x0f\xb1").any(|at| {
        let displaced = |from: usize, len: usize| bytes.get(at + from..at + from + len) == offset.get(..len);
        [3, 4].into_iter().any(|from| {
            displaced(from, 4)
                || (i8::from_le_bytes([offset[0]]) >= 0 && offset[1..] == [0; 3] && displaced(from, 1))
        })
    })
}

/// The number of a general-purpose register (of any width except AH..BH).
fn number(register: Register) -> Option<u8> {
    if matches!(
        register,
        Register::AH | Register::BH | Register::CH | Register::DH
    ) {
        return None;
    }
    let full = register.full_register();
    (full.is_gpr64()).then(|| full.number() as u8)
}

fn lower(machine: &iced_x86::Instruction, raw: &[u8], factory: &mut InstructionInfoFactory) -> Insn {
    let mut writes = 0;
    for used in factory
        .info_options(machine, InstructionInfoOptions::NO_MEMORY_USAGE)
        .used_registers()
    {
        let full = used.register().full_register();
        let written = matches!(
            used.access(),
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        );
        if written && full.is_gpr64() {
            writes |= 1 << full.number();
        }
    }
    let mem = memory(machine);
    let (op, bytes) = operation(machine, mem.is_some());
    Insn {
        address: machine.ip(),
        len: machine.len() as u8,
        flow: flow(machine),
        op,
        mem,
        bytes,
        writes,
        writes_zf: machine.rflags_modified() & RflagsBits::ZF != 0,
        shape: shape(raw),
    }
}

fn flow(machine: &iced_x86::Instruction) -> Flow {
    let direct = (machine.op0_kind() == OpKind::NearBranch64).then(|| machine.near_branch_target());
    match (machine.flow_control(), direct) {
        (FlowControl::Next, _) => Flow::Next,
        (FlowControl::UnconditionalBranch, Some(target)) => Flow::Jump(target),
        (FlowControl::ConditionalBranch, Some(target)) => Flow::Branch(target),
        (FlowControl::Call, target) => Flow::Call(target),
        (FlowControl::IndirectCall, _) => Flow::Call(None),
        (FlowControl::Return | FlowControl::Exception | FlowControl::Interrupt, _) => {
            // iced classifies `syscall` as a call; `int3` is padding, and `ud2` ends the flow.
            Flow::End
        }
        _ => Flow::Indirect,
    }
}

/// The memory operand, if the instruction reads or writes it.
fn memory(machine: &iced_x86::Instruction) -> Option<Mem> {
    // These compute with an address and touch no memory.
    if matches!(machine.mnemonic(), Mnemonic::Lea | Mnemonic::Nop) {
        return None;
    }
    if !(0..machine.op_count()).any(|n| machine.op_kind(n) == OpKind::Memory) {
        return None;
    }
    let segment = !matches!(machine.segment_prefix(), Register::None);
    let indexed = machine.memory_index() != Register::None || segment;
    Some(match machine.memory_base() {
        Register::RIP => Mem {
            base: None,
            disp: machine.ip_rel_memory_address() as i64,
            indexed,
        },
        Register::None => Mem {
            base: None,
            disp: machine.memory_displacement64() as i64,
            indexed,
        },
        base => match number(base) {
            Some(base) => Mem {
                base: Some(base),
                disp: machine.memory_displacement64() as i64,
                indexed,
            },
            None => Mem {
                base: None,
                disp: 0,
                indexed: true,
            },
        },
    })
}

/// What the instruction computes, and the size of the value in bytes.
fn operation(machine: &iced_x86::Instruction, has_memory: bool) -> (Op, u8) {
    let register = |n: u32| {
        (machine.op_kind(n) == OpKind::Register)
            .then(|| machine.op_register(n))
            .and_then(number)
    };
    let is_memory = |n: u32| machine.op_kind(n) == OpKind::Memory;
    let immediate = |n: u32| machine.try_immediate(n).ok();
    // The size of the destination or of what is compared; for an extending load, that of the memory operand.
    let bytes = if has_memory {
        machine.memory_size().size() as u8
    } else {
        machine.op0_register().size() as u8
    };
    let op = match machine.mnemonic() {
        Mnemonic::Mov => match (register(0), register(1), immediate(1)) {
            (Some(dst), Some(src), _) if bytes >= 4 => Op::Move { dst, src },
            (Some(dst), _, Some(value)) if bytes >= 4 => Op::Set {
                dst,
                value: truncate(value, bytes),
            },
            // A load of 1 or 2 bytes by `mov` leaves the rest of the register as it was.
            (Some(dst), None, None) if is_memory(1) && bytes >= 4 => Op::Load { dst },
            (None, Some(src), _) if is_memory(0) => Op::Store { src },
            (None, None, Some(value)) if is_memory(0) => Op::StoreConst {
                value: truncate(value, bytes),
            },
            _ => Op::Other,
        },
        Mnemonic::Movzx | Mnemonic::Movsxd | Mnemonic::Movsx => match register(0) {
            Some(dst) if is_memory(1) => Op::Load { dst },
            _ => Op::Other,
        },
        Mnemonic::Lea => match (register(0), machine.memory_base(), machine.memory_index()) {
            (Some(dst), Register::RIP, _) => Op::Set {
                dst,
                value: machine.ip_rel_memory_address(),
            },
            (Some(dst), base, Register::None) if machine.op0_register().is_gpr64() => match number(base) {
                Some(src) => Op::AddConst {
                    dst,
                    src,
                    value: machine.memory_displacement64() as i64,
                },
                None => Op::Other,
            },
            _ => Op::Other,
        },
        Mnemonic::Xor => match (register(0), register(1)) {
            (Some(dst), Some(src)) if dst == src && bytes >= 4 => Op::Set { dst, value: 0 },
            _ => Op::Other,
        },
        Mnemonic::Add => match (register(0), register(1), immediate(1)) {
            (Some(dst), _, Some(value)) if bytes == 8 => Op::AddConst {
                dst,
                src: dst,
                value: value as i64,
            },
            (Some(dst), Some(b), _) if bytes == 8 => Op::Add { dst, a: dst, b },
            (Some(dst), None, None) if is_memory(1) && bytes == 8 => Op::AddMem { dst },
            (None, Some(src), _) if is_memory(0) && bytes == 8 => Op::AddToMem { src },
            _ => Op::Other,
        },
        Mnemonic::Sub => match (register(0), register(1)) {
            (Some(dst), Some(b)) if bytes == 8 => Op::Sub { dst, a: dst, b },
            (Some(dst), None) if is_memory(1) && bytes == 8 => Op::SubMem { dst },
            _ => Op::Other,
        },
        Mnemonic::Cmp => match immediate(1) {
            Some(value) if is_memory(0) => Op::CompareMem {
                value: truncate(value, bytes),
            },
            _ => Op::Other,
        },
        Mnemonic::Cmpxchg => match register(1) {
            Some(new) if is_memory(0) && machine.has_lock_prefix() => Op::CompareExchange { old: RAX, new },
            _ => Op::Other,
        },
        Mnemonic::Sete => register(0).map_or(Op::Other, |dst| Op::SetIfZero { dst }),
        Mnemonic::Setne => register(0).map_or(Op::Other, |dst| Op::SetIfNotZero { dst }),
        Mnemonic::Test => match (register(0), register(1)) {
            (Some(src), Some(other)) if src == other => Op::Test { src },
            _ => Op::Other,
        },
        _ if tests_sign(machine) => Op::BranchOnFlagsSign,
        _ => Op::Other,
    };
    (
        op,
        if matches!(op, Op::Other) && !has_memory {
            0
        } else {
            bytes
        },
    )
}

/// Whether this is `js`, `jns`, `jl` or `jge`: after a `test` of a register with itself, which clears the overflow
/// flag, all four depend on its sign.
fn tests_sign(machine: &iced_x86::Instruction) -> bool {
    machine.flow_control() == FlowControl::ConditionalBranch
        && matches!(
            machine.condition_code(),
            ConditionCode::s | ConditionCode::ns | ConditionCode::l | ConditionCode::ge
        )
}

fn truncate(value: u64, bytes: u8) -> u64 {
    if bytes >= 8 {
        value
    } else {
        value & ((1 << (u32::from(bytes) * 8)) - 1)
    }
}

/// `nopl 0x0(%rax,%rax,1)`. Linux 6.18 and newer replace it by a call to a page that they map into the process. A
/// forked child does not have that page, and would die.
const REPLACED: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];

/// How the kernel treats the instruction: `arch_uprobe_analyze_insn` in arch/x86/kernel/uprobes.c. Emulated are
/// `nop` (90, also with 66 or f3), `push r64`, `jmp`, `call rel32` and `jcc`, none of them with another
/// prefix; lock and segment prefixes are refused, as are branches with an operand-size prefix.
/// Longer `nop`s are emulated from Linux 6.18 on only; and [`REPLACED`] is not to be probed on any.
fn shape(raw: &[u8]) -> Shape {
    let prefixes = raw
        .iter()
        .take_while(|b| {
            matches!(
                b,
                0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3 | 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65
            )
        })
        .count();
    let (prefixes, opcode) = raw.split_at(prefixes);
    if prefixes
        .iter()
        .any(|b| matches!(b, 0xf0 | 0x26 | 0x2e | 0x36 | 0x3e))
    {
        return Shape::Refused;
    }
    let branch = matches!(
        opcode,
        [0xeb | 0xe9 | 0xe8 | 0x70..=0x7f, ..] | [0x0f, 0x80..=0x8f, ..]
    );
    if raw == REPLACED {
        return Shape::Refused;
    }
    match (prefixes, opcode) {
        ([] | [0x66 | 0xf3], [0x90]) => Shape::Emulated,
        ([], [0x50..=0x57] | [0x41, 0x50..=0x57]) => Shape::Emulated,
        ([], _) if branch => Shape::Emulated,
        (_, _) if branch => Shape::Refused,
        // int3, int, hlt, in, out, cli, sti, iret, ud2, sysenter and the like.
        (
            _,
            [
                0xcc..=0xcf | 0xe4..=0xe7 | 0xec..=0xef | 0xf1 | 0xf4 | 0xfa | 0xfb,
                ..,
            ],
        ) => Shape::Refused,
        (_, [0x0f, 0x0b | 0x34 | 0x35, ..]) => Shape::Refused,
        _ => Shape::SingleStepped,
    }
}
