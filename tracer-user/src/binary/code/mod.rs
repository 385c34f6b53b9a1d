//! Decodes the machine code of a function as far as needed to find probe sites and variables: control flow, constants
//! and addresses in registers, and which memory is read and written.
//!
//! Both architectures are lowered to the same few [`Op`]s; an instruction that none of them describes is
//! [`Op::Other`] with the registers that it writes. Registers are numbered as
//! [`tracer_ebpf::gp_in`] says.

pub mod amd64;
pub mod arm64;
pub mod flow;

use super::{Arch, Code, Function};

/// A decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Its link-time address.
    pub address: u64,
    /// Its length in bytes.
    pub len: u8,
    /// Where control continues after it.
    pub flow: Flow,
    /// What it computes.
    pub op: Op,
    /// The memory that it reads or writes.
    pub mem: Option<Mem>,
    /// Bytes of the value that it reads, writes or moves; 0 for [`Op::Other`].
    pub bytes: u8,
    /// Bit n is set if it writes register n (or a part of it).
    pub writes: u32,
    /// Whether it changes the zero flag.
    pub writes_zf: bool,
    /// How the kernel's uprobe code treats it.
    pub shape: Shape,
}

impl Insn {
    /// Address of the next instruction.
    pub fn next(&self) -> u64 {
        self.address.wrapping_add(u64::from(self.len))
    }

    /// The address that it calls or jumps to, in its function or outside.
    pub fn target(&self) -> Option<u64> {
        match self.flow {
            Flow::Jump(target) | Flow::Branch(target) => Some(target),
            Flow::Call(target) => target,
            Flow::Next | Flow::Indirect | Flow::End => None,
        }
    }
}

/// Where control continues after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// At the next instruction.
    Next,
    /// At this address.
    Jump(u64),
    /// At this address, or at the next instruction.
    Branch(u64),
    /// In a function (`None`: through a register or memory), and then after the call.
    Call(Option<u64>),
    /// At an unknown address, through a register or memory.
    Indirect,
    /// Outside of the function, or nowhere.
    End,
}

#[allow(
    missing_docs,
    reason = "the fields are the operands that the variants' formulas name"
)]
/// What an instruction computes. `dst`, `src`, `a`, `b` are register numbers; the memory operand, if there is one, is
/// [`Insn::mem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `dst` = `value`, a number or an address.
    Set { dst: u8, value: u64 },
    /// `dst` = `src`.
    Move { dst: u8, src: u8 },
    /// `dst` = `src` + `value`, all 64 bits.
    AddConst { dst: u8, src: u8, value: i64 },
    /// `dst` = `a` + `b`.
    Add { dst: u8, a: u8, b: u8 },
    /// `dst` = `a` - `b`.
    Sub { dst: u8, a: u8, b: u8 },
    /// `dst` = memory (zero- or sign-extended).
    Load { dst: u8 },
    /// `first` and `second` = two values in a row in memory.
    LoadPair { first: u8, second: u8 },
    /// `dst` += memory.
    AddMem { dst: u8 },
    /// `dst` -= memory.
    SubMem { dst: u8 },
    /// Memory = `src`.
    Store { src: u8 },
    /// Two values in a row in memory = `first`, `second` (either may be 31: zero).
    StorePair { first: u8, second: u8 },
    /// Memory = `value`.
    StoreConst { value: u64 },
    /// Memory += `src`.
    AddToMem { src: u8 },
    /// Flags of memory - `value`.
    CompareMem { value: u64 },
    /// If memory = `old` then memory = `new`. amd64: `lock cmpxchg`, and ZF says whether it succeeded; arm64: `cas…`,
    /// and `old` = the old value in memory.
    CompareExchange { old: u8, new: u8 },
    /// `dst` = memory, to which the next store-exclusive stores if nobody else did (arm64).
    LoadExclusive { dst: u8 },
    /// Flags of `a` - `b`.
    Compare { a: u8, b: u8 },
    /// `dst` = 1 if ZF is set, else 0.
    SetIfZero { dst: u8 },
    /// `dst` = 1 if ZF is clear, else 0.
    SetIfNotZero { dst: u8 },
    /// ZF = (`src` is zero), and the other flags say its sign.
    Test { src: u8 },
    /// A branch on the sign of the last tested value, by the flags (amd64).
    BranchOnFlagsSign,
    /// A branch on the sign of the 64-bit value in `src` (arm64).
    BranchOnSign { src: u8 },
    /// Anything else.
    Other,
}

/// A memory operand: `base` + `disp`, plus an unknown index if `indexed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mem {
    /// Register, or `None` for an absolute address in `disp`.
    pub base: Option<u8>,
    /// Displacement in bytes, or the address.
    pub disp: i64,
    /// Whether a scaled index or a segment is added.
    pub indexed: bool,
}

/// How the kernel's uprobe code treats an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It is emulated on every kernel that has eBPF.
    Emulated,
    /// It is copied out of line and single-stepped.
    SingleStepped,
    /// It must not be probed: the kernel refuses it, or it may kill the target.
    Refused,
}

/// Largest function that is decoded, in bytes; those of the runtime have at most some 10,000.
const MAX_FUNCTION: usize = 1 << 18;

/// Number of the stack pointer.
pub const fn stack_pointer(arch: Arch) -> u8 {
    match arch {
        Arch::Amd64 => 4,
        Arch::Arm64 => 31,
    }
}

/// Register of the n-th (0, 1, 2) integer argument in Go's ABIInternal. Source:
/// cmd/compile/abi-internal.md.
pub const fn argument(arch: Arch, n: u8) -> u8 {
    match (arch, n) {
        (Arch::Amd64, 0) => 0,
        (Arch::Amd64, 1) => 3,
        (Arch::Amd64, _) => 1,
        (Arch::Arm64, n) => n,
    }
}

/// Decodes the instructions of a whole function, one after the other from its entry.
///
/// # Errors
/// Some bytes are not an instruction, there are no bytes, or too many; the message says which and where.
pub fn decode(code: &dyn Code, function: &Function) -> Result<Vec<Insn>, String> {
    let bytes = code
        .code_of(function)
        .ok_or_else(|| format!("the code of {} is not in the file", function.name))?;
    if bytes.len() > MAX_FUNCTION {
        return Err(format!(
            "{} has {} bytes, more than any function of the runtime",
            function.name,
            bytes.len()
        ));
    }
    match code.arch() {
        Arch::Amd64 => amd64::decode(bytes, function.start),
        Arch::Arm64 => arm64::decode(bytes, function.start),
    }
    .map_err(|e| format!("{}: {e}", function.name))
}

/// Disassembles one instruction, in the assembler's syntax of its architecture.
pub fn disassemble(arch: Arch, bytes: &[u8], address: u64) -> String {
    match arch {
        Arch::Amd64 => amd64::disassemble(bytes, address),
        Arch::Arm64 => arm64::disassemble(bytes),
    }
}

/// Whether `bytes` may contain a compare-and-swap of 32 bits at `offset` from a register. Like [`may_reach`] it has
/// no false negatives; on arm64, where the instruction does not have the offset, it is always true.
pub fn may_swap(arch: Arch, bytes: &[u8], offset: u32) -> bool {
    match arch {
        Arch::Amd64 => amd64::may_swap(bytes, offset),
        Arch::Arm64 => true,
    }
}

/// Whether `bytes`, which begin at `start`, may contain a direct call or jump to `target`. It tests every byte
/// offset, so it has false positives, which decoding excludes, but no false negatives.
pub fn may_reach(arch: Arch, bytes: &[u8], start: u64, target: u64) -> bool {
    match arch {
        Arch::Amd64 => amd64::may_reach(bytes, start, target),
        Arch::Arm64 => arm64::may_reach(bytes, start, target),
    }
}

#[cfg(test)]
mod tests;
