//! Functions that do what the runtime does at a probed instruction, one for each kind of instruction that the kernel
//! emulates: what a hit costs differs by some tenths between them.

/// A kind of instruction under a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// A call.
    Call,
    /// A jump, conditional or not.
    Jump,
    /// A push (amd64).
    Push,
    /// A nop.
    Nop,
}

impl Instruction {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Call, Self::Jump, Self::Push, Self::Nop];

    /// Returns the kind of an instruction by its disassembly. What is none of them counts as a call, the most expensive.
    pub fn of(disassembly: &str) -> Self {
        let mnemonic = disassembly.split_ascii_whitespace().next().unwrap_or_default();
        match mnemonic {
            "push" => Self::Push,
            "nop" | "nopw" | "nopl" | "xchg" => Self::Nop,
            "cbz" | "cbnz" | "tbz" | "tbnz" | "b" => Self::Jump,
            _ if mnemonic.starts_with('j') || mnemonic.starts_with("b.") => Self::Jump,
            _ => Self::Call,
        }
    }

    /// Address of the instruction of this kind.
    pub fn site(self) -> u64 {
        self.function() as usize as u64 + self.offset()
    }

    /// Bytes from the entry of its function.
    fn offset(self) -> u64 {
        match self {
            // On arm64 a function that calls another saves its return address first.
            Self::Call if cfg!(target_arch = "aarch64") => 4,
            _ => 0,
        }
    }

    fn function(self) -> unsafe extern "C" fn() {
        match self {
            Self::Call => gmpscope_calibration_call,
            Self::Jump => gmpscope_calibration_jump,
            Self::Push => gmpscope_calibration_push,
            Self::Nop => gmpscope_calibration_nop,
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Call => 1,
            Self::Jump => 2,
            Self::Push => 4,
            Self::Nop => 8,
        }
    }
}

/// A set of kinds of instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Instructions(u8);

impl Instructions {
    /// All kinds that every kernel emulates. On arm64 there is no push, and a nop is single-stepped before Linux 6.13.
    pub const ALL: Self = Self(if cfg!(target_arch = "aarch64") {
        0b0011
    } else {
        0b1111
    });

    /// Its members.
    pub fn iter(self) -> impl Iterator<Item = Instruction> {
        let members = Instruction::ALL.into_iter();
        members.filter(move |instruction| self.0 & instruction.bit() != 0)
    }
}

impl FromIterator<Instruction> for Instructions {
    fn from_iter<I: IntoIterator<Item = Instruction>>(members: I) -> Self {
        Self(
            members
                .into_iter()
                .fold(0, |set, instruction| set | instruction.bit()),
        )
    }
}

/// The part of a g that the programs read.
#[repr(C)]
pub struct FakeG {
    /// Its words of 8 bytes.
    pub words: [u64; 64],
}

/// Makes one goroutine runnable and has it run, `cycles` times: two hits each of `instruction`.
pub fn cycles(instruction: Instruction, g: &FakeG, cycles: u64) {
    // SAFETY: the function touches its callee-saved registers only to restore them, and `g` outlives it.
    unsafe { gmpscope_calibration_cycles(g, cycles, instruction.function()) };
}

/// Has a goroutine wait, `cycles` times: one hit each of `instruction`.
pub fn waits(instruction: Instruction, g: &FakeG, cycles: u64) {
    // SAFETY: as in `cycles`.
    unsafe { gmpscope_calibration_waits(g, cycles, instruction.function()) };
}

unsafe extern "C" {
    /// Per cycle: →Runnable, then →Running, of the g at `g`, in a call of `probed`.
    fn gmpscope_calibration_cycles(g: *const FakeG, cycles: u64, probed: unsafe extern "C" fn());
    /// Per cycle: Running→Waiting of the g at `g`, in a call of `probed`.
    fn gmpscope_calibration_waits(g: *const FakeG, cycles: u64, probed: unsafe extern "C" fn());
    fn gmpscope_calibration_call();
    fn gmpscope_calibration_jump();
    fn gmpscope_calibration_push();
    fn gmpscope_calibration_nop();
}

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".pushsection .text.gmpscope_calibration, \"ax\", @progbits",
    ".globl gmpscope_calibration_cycles, gmpscope_calibration_waits",
    ".globl gmpscope_calibration_call, gmpscope_calibration_jump",
    ".globl gmpscope_calibration_push, gmpscope_calibration_nop",
    ".hidden gmpscope_calibration_cycles, gmpscope_calibration_waits",
    ".hidden gmpscope_calibration_call, gmpscope_calibration_jump",
    ".hidden gmpscope_calibration_push, gmpscope_calibration_nop",
    // (rdi: fake g, rsi: cycles, rdx: probed function)
    "gmpscope_calibration_cycles:",
    "push rbx",
    "push r14",
    "mov r14, rdi",
    "2: mov rax, rdi",
    "mov ebx, 4",
    "mov ecx, 1",
    "call rdx",
    "mov rax, rdi",
    "mov ebx, 1",
    "mov ecx, 2",
    "call rdx",
    "dec rsi",
    "jnz 2b",
    "pop r14",
    "pop rbx",
    "ret",
    // (rdi: fake g, rsi: cycles, rdx: probed function)
    "gmpscope_calibration_waits:",
    "push rbx",
    "push r14",
    // On another g's stack, as park_m is.
    "xor r14d, r14d",
    "3: mov rax, rdi",
    "mov ebx, 2",
    "mov ecx, 4",
    "call rdx",
    "dec rsi",
    "jnz 3b",
    "pop r14",
    "pop rbx",
    "ret",
    // A call rel32, as at the runtime's call sites.
    "gmpscope_calibration_call: call gmpscope_calibration_leaf",
    "gmpscope_calibration_leaf: ret",
    "gmpscope_calibration_jump: jne 4f",
    "4: ret",
    "gmpscope_calibration_push: push rbp",
    "pop rbp",
    "ret",
    "gmpscope_calibration_nop: nop",
    "ret",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".pushsection .text.gmpscope_calibration, \"ax\", @progbits",
    ".globl gmpscope_calibration_cycles, gmpscope_calibration_waits",
    ".globl gmpscope_calibration_call, gmpscope_calibration_jump",
    ".globl gmpscope_calibration_push, gmpscope_calibration_nop",
    ".hidden gmpscope_calibration_cycles, gmpscope_calibration_waits",
    ".hidden gmpscope_calibration_call, gmpscope_calibration_jump",
    ".hidden gmpscope_calibration_push, gmpscope_calibration_nop",
    // (x0: fake g, x1: cycles, x2: probed function)
    "gmpscope_calibration_cycles:",
    "stp x29, x30, [sp, #-48]!",
    "stp x28, x19, [sp, #16]",
    "str x20, [sp, #32]",
    "mov x28, x0",
    "mov x19, x1",
    "mov x20, x2",
    "2: mov x0, x28",
    "mov w1, #4",
    "mov w2, #1",
    "blr x20",
    "mov x0, x28",
    "mov w1, #1",
    "mov w2, #2",
    "blr x20",
    "subs x19, x19, #1",
    "b.ne 2b",
    "ldr x20, [sp, #32]",
    "ldp x28, x19, [sp, #16]",
    "ldp x29, x30, [sp], #48",
    "ret",
    // (x0: fake g, x1: cycles, x2: probed function)
    "gmpscope_calibration_waits:",
    "stp x29, x30, [sp, #-48]!",
    "stp x28, x19, [sp, #16]",
    "stp x20, x21, [sp, #32]",
    // On another g's stack, as park_m is.
    "mov x28, #0",
    "mov x20, x0",
    "mov x19, x1",
    "mov x21, x2",
    "3: mov x0, x20",
    "mov w1, #2",
    "mov w2, #4",
    "blr x21",
    "subs x19, x19, #1",
    "b.ne 3b",
    "ldp x20, x21, [sp, #32]",
    "ldp x28, x19, [sp, #16]",
    "ldp x29, x30, [sp], #48",
    "ret",
    "gmpscope_calibration_call: stp x29, x30, [sp, #-16]!",
    "bl gmpscope_calibration_leaf",
    "ldp x29, x30, [sp], #16",
    "gmpscope_calibration_leaf: ret",
    "gmpscope_calibration_jump: b.ne 4f",
    "4: ret",
    // There is no push; no site of this architecture is counted as one.
    "gmpscope_calibration_push: nop",
    "ret",
    "gmpscope_calibration_nop: nop",
    "ret",
    ".popsection",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_known_by_their_mnemonics() {
        for (disassembly, kind) in [
            ("call 0x43a5e0", Instruction::Call),
            ("bl #0x8123", Instruction::Call),
            ("jbe 0x43a5e0", Instruction::Jump),
            ("jmp 0x43a5e0", Instruction::Jump),
            ("b.ls #0x812", Instruction::Jump),
            ("b #0x812", Instruction::Jump),
            ("cbz x0, #0x812", Instruction::Jump),
            ("push rbp", Instruction::Push),
            ("nop", Instruction::Nop),
            ("sub rsp, 0x18", Instruction::Call),
            ("", Instruction::Call),
        ] {
            assert_eq!(Instruction::of(disassembly), kind, "{disassembly}");
        }
    }

    #[test]
    fn a_set_has_its_members() {
        assert!(Instructions::ALL.iter().count() >= 2);
        let set = Instructions::from_iter([Instruction::Push, Instruction::Jump, Instruction::Push]);
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            [Instruction::Jump, Instruction::Push]
        );
        assert_eq!(Instructions::default().iter().count(), 0);
    }

    /// The bytes under the probes are what their names say.
    #[test]
    fn each_site_is_an_instruction_of_its_kind() {
        for instruction in Instruction::ALL {
            let mut bytes = [0; 4];
            let own = std::fs::File::open("/proc/self/mem").unwrap();
            std::os::unix::fs::FileExt::read_exact_at(&own, &mut bytes, instruction.site()).unwrap();
            if cfg!(target_arch = "x86_64") {
                let expected = match instruction {
                    Instruction::Call => 0xe8,
                    Instruction::Jump => 0x75,
                    Instruction::Push => 0x55,
                    Instruction::Nop => 0x90,
                };
                assert_eq!(bytes[0], expected, "{instruction:?}");
            }
        }
    }
}
