//! Machine code of a function, decoded to what finding probe sites and variables needs: where control
//! goes, which constants and addresses registers hold, and which memory is read and written.
//!
//! Both architectures are lowered to the same few [`Op`]s; an instruction that none of them describes is
//! [`Op::Other`] with the registers that it writes. Registers are numbered as
//! [`tracer_ebpf::gp_in`] says.

pub mod amd64;
pub mod arm64;
pub mod flow;

use super::{Arch, Code, Function};

/// An instruction, decoded. Its address is a link-time one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Where it is.
    pub address: u64,
    /// Bytes it takes.
    pub len: u8,
    /// Where control goes from it.
    pub flow: Flow,
    /// What it computes.
    pub op: Op,
    /// The memory that it reads or writes.
    pub mem: Option<Mem>,
    /// Bytes of the value that it reads, writes or moves; 0 for [`Op::Other`].
    pub bytes: u8,
    /// Bit n: it writes register n (or a part of it).
    pub writes: u32,
    /// It changes the zero flag.
    pub writes_zf: bool,
    /// What the kernel's uprobe code makes of it.
    pub shape: Shape,
}

impl Insn {
    /// Address of the instruction behind it.
    pub fn next(&self) -> u64 {
        self.address.wrapping_add(u64::from(self.len))
    }

    /// Where it calls or jumps to, outside of its function or not.
    pub fn target(&self) -> Option<u64> {
        match self.flow {
            Flow::Jump(target) | Flow::Branch(target) => Some(target),
            Flow::Call(target) => target,
            Flow::Next | Flow::Indirect | Flow::End => None,
        }
    }
}

/// Where control goes from an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next one.
    Next,
    /// There.
    Jump(u64),
    /// There, or to the next one.
    Branch(u64),
    /// To a function (`None`: through a register or memory) and back behind the call.
    Call(Option<u64>),
    /// Through a register or memory: nobody knows.
    Indirect,
    /// Out of the function, or nowhere.
    End,
}

#[allow(
    missing_docs,
    reason = "the fields are the operands that the variants' formulas name"
)]
/// What an instruction computes. `dst`, `src`, `a`, `b` are register numbers; the memory operand, where
/// there is one, is [`Insn::mem`].
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
    /// If memory = `old` then memory = `new`. amd64: `lock cmpxchg`, and ZF says whether it was; arm64:
    /// `cas…`, and `old` = what memory was.
    CompareExchange { old: u8, new: u8 },
    /// `dst` = memory, which the next store-exclusive stores to if nobody else did (arm64).
    LoadExclusive { dst: u8 },
    /// Flags of `a` - `b`.
    Compare { a: u8, b: u8 },
    /// `dst` = 1 if ZF is set, else 0.
    SetIfZero { dst: u8 },
    /// `dst` = 1 if ZF is clear, else 0.
    SetIfNotZero { dst: u8 },
    /// ZF = (`src` is zero), and the other flags say its sign.
    Test { src: u8 },
    /// A branch that is taken, or is not, by the sign that the flags say of what was tested last (amd64).
    BranchOnFlagsSign,
    /// A branch that is taken, or is not, by the sign of all 64 bits of `src` (arm64).
    BranchOnSign { src: u8 },
    /// Anything else.
    Other,
}

/// A memory operand: `base` + `disp`, plus an index that is not known where `indexed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mem {
    /// Register, or `None` for an absolute address in `disp`.
    pub base: Option<u8>,
    /// Displacement in bytes, or the address.
    pub disp: i64,
    /// A scaled index, or a segment, is added as well.
    pub indexed: bool,
}

/// How the kernel's uprobe code sees an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One that it emulates on every kernel that has eBPF.
    Emulated,
    /// One that it copies out of line and single-steps.
    SingleStepped,
    /// One that it does not let anybody probe, or that nobody should.
    Refused,
}

/// No larger functions are decoded, in bytes; those of the runtime have at most some 10,000.
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

/// The instructions of a whole function, decoded one after the other from its entry.
///
/// # Errors
/// What the decoder met and where: bytes that are no instruction, no bytes at all, or too many.
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

/// One instruction for people, in the assembler's syntax of its architecture.
pub fn disassemble(arch: Arch, bytes: &[u8], address: u64) -> String {
    match arch {
        Arch::Amd64 => amd64::disassemble(bytes, address),
        Arch::Arm64 => arm64::disassemble(bytes),
    }
}

/// True if `bytes` may hold a compare-and-swap of 32 bits at `offset` from a register. Like [`may_reach`]
/// it never says no wrongly; of arm64, whose instruction does not have the offset, it always says yes.
pub fn may_swap(arch: Arch, bytes: &[u8], offset: u32) -> bool {
    match arch {
        Arch::Amd64 => amd64::may_swap(bytes, offset),
        Arch::Arm64 => true,
    }
}

/// True if `bytes`, which begin at `start`, may hold a direct call or jump to `target`. It looks at every
/// byte offset, so it says yes too often, and never no wrongly: decoding decides.
pub fn may_reach(arch: Arch, bytes: &[u8], start: u64, target: u64) -> bool {
    match arch {
        Arch::Amd64 => amd64::may_reach(bytes, start, target),
        Arch::Arm64 => arm64::may_reach(bytes, start, target),
    }
}

#[cfg(test)]
mod tests;
