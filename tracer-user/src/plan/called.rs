//! The compare-and-swap of a goroutine's status where the compiler inlines nothing (`-gcflags=all=-l`, and
//! `-gcflags=all=-N -l`, with which debuggers are used; package runtime is optimised all the same). There casgstatus
//! calls the method of the status's type, instead of having the instruction itself:
//!
//! ```text
//!     lea  rax, [rdx+0x90]     // &gp.atomicstatus
//!     mov  [rsp+0x18], rax     // is needed again in the loop
//!     mov  ebx, …              // old
//!     mov  ecx, …              // new
//!     call internal/runtime/atomic.(*Uint32).CompareAndSwap
//! ```
//! In Go 1.19 the status is a plain integer, whose compare-and-swap is an instruction in every build. Source: proc.go;
//! `types.go` of `internal/runtime/atomic`; for `-N`, `gc.go` of `cmd/go` and `flag.go` of `cmd/compile`.

use std::collections::HashMap;

use super::Attempt;
use super::casgstatus::RUNNABLE;
use super::sites::Decoded;
use crate::binary::code::flow::{Analysis, Value};
use crate::binary::code::{self, Flow, Insn, Op};
use crate::binary::{Arch, Code, Function};

/// The method's names, newest first.
const COMPARE_AND_SWAP: [&str; 2] = [
    "internal/runtime/atomic.(*Uint32).CompareAndSwap",
    "runtime/internal/atomic.(*Uint32).CompareAndSwap",
];

/// A 32-bit compare-and-swap with the base of its address.
pub(super) fn compare_and_swap(insn: &Insn) -> Option<(&Insn, u8)> {
    let mem = insn.mem.filter(|m| !m.indexed && insn.bytes == 4)?;
    matches!(insn.op, Op::CompareExchange { .. }).then_some((insn, mem.base?))
}

/// The functions that compare and swap 32 bits at their first argument: those of the method's name that decoding shows
/// to have the instruction.
pub(super) fn swappers(code: &dyn Code) -> Vec<Function> {
    let named = COMPARE_AND_SWAP.iter().flat_map(|name| code.functions(name));
    let swaps = |insn: &Insn| {
        let at = compare_and_swap(insn).and_then(|(insn, _)| insn.mem);
        at.is_some_and(|mem| mem.disp == 0)
    };
    let is_one = |function: &Function| {
        Decoded::new(code, function).is_ok_and(|decoded| decoded.insns.iter().any(swaps))
    };
    named.filter(is_one).collect()
}

/// The calls of one of `callees` in a function whose first argument is some pointer plus a constant: the index of the
/// call, and the constant. The sum may be kept in another register, or in a stack slot until a later call.
pub(super) fn passed(arch: Arch, insns: &[Insn], callees: &[Function]) -> Vec<(usize, u32)> {
    let mut passed = Vec::new();
    if callees.is_empty() {
        return passed;
    }
    let stack = code::stack_pointer(arch);
    let mut registers: [Option<i64>; 32] = [None; 32];
    let mut slots: HashMap<i64, i64> = HashMap::new();
    for (index, insn) in insns.iter().enumerate() {
        let held = |register: u8| registers.get(usize::from(register)).copied().flatten();
        let slot = insn.mem.filter(|mem| mem.base == Some(stack) && !mem.indexed);
        let slot = slot.map(|mem| mem.disp);
        if matches!(insn.flow, Flow::Call(Some(target)) if callees.iter().any(|c| c.start == target))
            && let Some(offset) = held(code::argument(arch, 0)).and_then(|offset| u32::try_from(offset).ok())
        {
            passed.push((index, offset));
        }
        let result = match insn.op {
            Op::AddConst { dst, src, value } if src != stack => {
                Some((dst, held(src).unwrap_or(0).wrapping_add(value)))
            }
            Op::Move { dst, src } if insn.bytes == 8 => held(src).map(|offset| (dst, offset)),
            Op::Load { dst } if insn.bytes == 8 => {
                let kept = slot.and_then(|slot| slots.get(&slot));
                kept.map(|offset| (dst, *offset))
            }
            _ => None,
        };
        match (insn.op, slot) {
            (Op::Store { src }, Some(slot)) => {
                let stored = held(src).filter(|_| insn.bytes == 8);
                match stored {
                    Some(offset) => slots.insert(slot, offset),
                    None => slots.remove(&slot),
                };
            }
            (Op::StorePair { first, second }, Some(slot)) => {
                for (slot, register) in [(slot, first), (slot.wrapping_add(8), second)] {
                    match held(register).filter(|_| insn.bytes == 16) {
                        Some(offset) => slots.insert(slot, offset),
                        None => slots.remove(&slot),
                    };
                }
            }
            (Op::StoreConst { .. } | Op::AddToMem { .. }, Some(slot)) => {
                slots.remove(&slot);
            }
            _ => {}
        }
        let written = match insn.flow {
            Flow::Call(_) => u32::MAX,
            _ => insn.writes,
        };
        for (register, offset) in registers.iter_mut().enumerate() {
            if written & (1 << register) != 0 {
                *offset = None;
            }
        }
        if let Some((dst, offset)) = result
            && let Some(register) = registers.get_mut(usize::from(dst))
        {
            *register = Some(offset);
        }
    }
    passed
}

/// Checks that a function does not change a goroutine's status into or out of Runnable by calling one of `swappers`
/// itself, past casgstatus. No runtime does; after such a call no register need hold the goroutine, so that it could
/// not be probed.
///
/// # Errors
/// It does.
pub(super) fn check_no_bypass(
    code: &dyn Code,
    decoded: &Decoded,
    analysis: &Analysis,
    status: u32,
    swappers: &[Function],
) -> Result<(), Attempt> {
    for (index, offset) in passed(code.arch(), &decoded.insns, swappers) {
        let registers = analysis.before(index);
        let argument = |n| {
            let value = registers.get(usize::from(code::argument(code.arch(), n)));
            value.copied().and_then(Value::constant).map(|v| v & 0xffff_ffff)
        };
        if offset == status && (1..=2).any(|n| argument(n) == Some(RUNNABLE)) {
            return Err(Attempt {
                what: format!("the status that {} swaps itself", decoded.function.name),
                outcome: "it does so by a call, after which the goroutine is in no register".into(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::code::amd64;

    /// Where the callee is.
    const CALLEE: u64 = 0x1000;

    /// Decodes instructions, with a call of the callee where one is empty.
    fn of(parts: &[&[u8]]) -> Vec<(usize, u32)> {
        let mut bytes: Vec<u8> = Vec::new();
        for part in parts {
            if part.is_empty() {
                bytes.push(0xe8);
                let next = bytes.len() + 4;
                bytes.extend((CALLEE as u32 - next as u32).to_le_bytes());
            } else {
                bytes.extend(*part);
            }
        }
        let callee = Function {
            name: COMPARE_AND_SWAP[0].into(),
            start: CALLEE,
            end: CALLEE + 16,
        };
        passed(Arch::Amd64, &amd64::decode(&bytes, 0).unwrap(), &[callee])
    }

    /// `mov rdx,[rsp+0x48]`, the goroutine.
    const LOAD: &[u8] = &[0x48, 0x8b, 0x54, 0x24, 0x48];
    /// `lea rax,[rdx+0x90]`
    const LEA: &[u8] = &[0x48, 0x8d, 0x82, 0x90, 0, 0, 0];
    /// `mov [rsp+0x20],rax`
    const SPILL: &[u8] = &[0x48, 0x89, 0x44, 0x24, 0x20];
    /// `mov rax,[rsp+0x20]`
    const FILL: &[u8] = &[0x48, 0x8b, 0x44, 0x24, 0x20];
    const CALL: &[u8] = &[];

    #[test]
    fn the_address_that_is_passed_is_followed() {
        assert_eq!(of(&[LOAD, LEA, CALL]), [(2, 0x90)]);
        // In a loop it is computed once.
        assert_eq!(of(&[LOAD, LEA, SPILL, CALL, FILL, CALL]), [(3, 0x90), (5, 0x90)]);
        // lea rsi,[rdx+0x90]; mov rax,rsi
        let by_move: &[u8] = &[0x48, 0x8d, 0xb2, 0x90, 0, 0, 0, 0x48, 0x89, 0xf0];
        assert_eq!(of(&[LOAD, by_move, CALL]), [(3, 0x90)]);
        // mov rax,rdx; add rax,0x90
        let by_add: &[u8] = &[0x48, 0x89, 0xd0, 0x48, 0x05, 0x90, 0, 0, 0];
        assert_eq!(of(&[LOAD, by_add, CALL]), [(3, 0x90)]);
        // add rax,8 after lea rax,[rdx+0x90]: the next field.
        assert_eq!(of(&[LOAD, LEA, &[0x48, 0x83, 0xc0, 0x08], CALL]), [(3, 0x98)]);
    }

    #[test]
    fn what_is_not_known_to_be_passed_is_not_guessed() {
        // The call leaves another value in the register.
        assert_eq!(of(&[LOAD, LEA, CALL, CALL]), [(2, 0x90)]);
        // Another value is in the slot: mov [rsp+0x20],rdx
        let overwrite: &[u8] = &[0x48, 0x89, 0x54, 0x24, 0x20];
        assert!(of(&[LOAD, LEA, SPILL, overwrite, FILL, CALL]).is_empty());
        // lea rax,[rsp+0x90]: a variable on the stack.
        let on_stack: &[u8] = &[0x48, 0x8d, 0x84, 0x24, 0x90, 0, 0, 0];
        assert!(of(&[on_stack, CALL]).is_empty());
        // mov rax,rdx: the pointer itself.
        assert!(of(&[LOAD, &[0x48, 0x89, 0xd0], CALL]).is_empty());
        // Only half of it: mov eax,esi after lea rsi,[rdx+0x90].
        let half: &[u8] = &[0x48, 0x8d, 0xb2, 0x90, 0, 0, 0, 0x89, 0xf0];
        assert!(of(&[LOAD, half, CALL]).is_empty());
        assert!(passed(Arch::Amd64, &[], &[]).is_empty());
    }
}
