//! What registers hold before each instruction of a function, on every path to it.
//!
//! A forward data-flow analysis over basic blocks, to a fixpoint: a register is known to hold a value only if it
//! holds that value on every path. Calls clobber every register except those that Go's ABIInternal preserves. If a
//! function jumps through a table, nothing is known at the beginning of any block.

use super::{Flow, Insn, Op};
use crate::binary::Arch;
use std::collections::{BTreeSet, HashMap};

/// What is known of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// No path leads here (yet).
    Unreached,
    /// This number or address.
    Const(u64),
    /// The value that the instruction with this index marked, see [`Analysis::new`].
    Marked(u32),
    /// Anything.
    Unknown,
}

impl Value {
    fn join(self, other: Value) -> Value {
        match (self, other) {
            (Value::Unreached, v) | (v, Value::Unreached) => v,
            (a, b) if a == b => a,
            _ => Value::Unknown,
        }
    }

    /// The constant, if it is one.
    pub fn constant(self) -> Option<u64> {
        match self {
            Value::Const(value) => Some(value),
            _ => None,
        }
    }
}

/// What is known of every register at one point.
pub type Registers = [Value; 32];

const NOTHING: Registers = [Value::Unknown; 32];

/// A run of instructions with one way in and one way out.
#[derive(Clone, Debug)]
struct Block {
    first: usize,
    end: usize,
    next: Vec<usize>,
    previous: Vec<usize>,
    entry: Registers,
}

impl Block {
    /// What is known at its beginning: nothing if no path is seen to lead to it.
    fn known(&self) -> Registers {
        if self.is_reached() { self.entry } else { NOTHING }
    }

    fn is_reached(&self) -> bool {
        self.entry.iter().any(|v| *v != Value::Unreached)
    }
}

/// The control flow of a function, and what its registers hold.
pub struct Analysis<'i> {
    arch: Arch,
    insns: &'i [Insn],
    blocks: Vec<Block>,
    /// Block of each instruction.
    block_of: Vec<usize>,
    marks: Vec<Option<u8>>,
}

impl<'i> Analysis<'i> {
    /// Analyses `insns`, which are a whole function. `mark` may name a register of an instruction whose value is to be
    /// followed from there on: [`Value::Marked`]. Only the last mark counts.
    pub fn new(arch: Arch, insns: &'i [Insn], mark: impl Fn(&Insn) -> Option<u8>) -> Self {
        let marks = insns.iter().map(mark).collect();
        let (blocks, block_of, indirect) = blocks(insns);
        let mut analysis = Self {
            arch,
            insns,
            blocks,
            block_of,
            marks,
        };
        if indirect {
            for block in &mut analysis.blocks {
                block.entry = NOTHING;
            }
        } else {
            analysis.settle();
        }
        analysis
    }

    /// What the registers hold before instruction `index`.
    pub fn before(&self, index: usize) -> Registers {
        let Some(block) = self.block_of.get(index).and_then(|&b| self.blocks.get(b)) else {
            return NOTHING;
        };
        let mut registers = block.known();
        for at in block.first..index {
            self.step(at, &mut registers);
        }
        registers
    }

    /// Indexes of the instructions right before `index`, on every path from the entry. (Padding after a jump is on
    /// none.)
    pub fn previous(&self, index: usize) -> Vec<usize> {
        let Some(block) = self.block_of.get(index).and_then(|&b| self.blocks.get(b)) else {
            return Vec::new();
        };
        if index > block.first {
            return vec![index - 1];
        }
        let previous = block.previous.iter().filter_map(|&b| self.blocks.get(b));
        previous.filter(|b| b.is_reached()).map(|b| b.end - 1).collect()
    }

    /// Whether control can reach `index`, as far as can be seen: it cannot reach padding, or constants after the code
    /// of the function.
    pub fn is_reached(&self, index: usize) -> bool {
        self.block_of
            .get(index)
            .and_then(|&b| self.blocks.get(b))
            .is_some_and(Block::is_reached)
    }

    /// Whether control reaches `later` only right after executing every instruction from `earlier` on.
    pub fn in_one_block(&self, earlier: usize, later: usize) -> bool {
        let block = self.block_of.get(earlier);
        earlier <= later && block.is_some() && block == self.block_of.get(later)
    }

    /// Calls `with` for every instruction, with what the registers hold before it.
    pub fn visit(&self, mut with: impl FnMut(usize, &Insn, &Registers)) {
        for block in &self.blocks {
            let mut registers = block.known();
            for (at, insn) in self.insns.iter().enumerate().take(block.end).skip(block.first) {
                with(at, insn, &registers);
                self.step(at, &mut registers);
            }
        }
    }

    fn settle(&mut self) {
        if let Some(first) = self.blocks.first_mut() {
            first.entry = NOTHING;
        }
        let mut work = vec![0];
        let mut queued = vec![false; self.blocks.len()];
        while let Some(b) = work.pop() {
            let Some(block) = self.blocks.get(b) else { continue };
            if let Some(queued) = queued.get_mut(b) {
                *queued = false;
            }
            let mut registers = block.entry;
            for at in block.first..block.end {
                self.step(at, &mut registers);
            }
            for next in block.next.clone() {
                let Some(block) = self.blocks.get_mut(next) else {
                    continue;
                };
                let mut changed = false;
                for (held, value) in block.entry.iter_mut().zip(registers) {
                    let joined = held.join(value);
                    changed |= joined != *held;
                    *held = joined;
                }
                if changed && queued.get(next) == Some(&false) {
                    work.push(next);
                    queued[next] = true;
                }
            }
        }
    }

    fn step(&self, at: usize, registers: &mut Registers) {
        let Some(insn) = self.insns.get(at) else { return };
        let get = |r: u8| registers.get(usize::from(r)).copied().unwrap_or(Value::Unknown);
        let narrow = |value: Value| match value {
            Value::Const(c) if insn.bytes == 4 => Value::Const(c & 0xffff_ffff),
            Value::Marked(_) if insn.bytes == 4 => Value::Unknown,
            value => value,
        };
        let result = match insn.op {
            Op::Set { dst, value } => Some((dst, Value::Const(value))),
            Op::Move { dst, src } => Some((dst, narrow(get(src)))),
            Op::AddConst { dst, src, value } => match get(src) {
                Value::Const(c) => Some((dst, Value::Const(c.wrapping_add_signed(value)))),
                _ => None,
            },
            _ => None,
        };
        let written = match insn.flow {
            Flow::Call(_) => !kept_by_calls(self.arch),
            _ => insn.writes,
        };
        for (n, value) in registers.iter_mut().enumerate() {
            if written & (1 << n) != 0 {
                *value = Value::Unknown;
            }
        }
        if let Some((dst, value)) = result
            && let Some(held) = registers.get_mut(usize::from(dst))
        {
            *held = value;
        }
        if let Some(marked) = self.marks.get(at).copied().flatten() {
            // Only the last mark counts.
            for value in registers.iter_mut() {
                if matches!(value, Value::Marked(_)) {
                    *value = Value::Unknown;
                }
            }
            // An instruction that overwrites the register that it marks has no lasting mark.
            if insn.writes & (1 << marked) == 0
                && let Some(held) = registers.get_mut(usize::from(marked))
            {
                *held = Value::Marked(at as u32);
            }
        }
    }
}

/// The address of an instruction's memory operand, if it is constant.
pub fn address(insn: &Insn, registers: &Registers) -> Option<u64> {
    let mem = insn.mem.filter(|m| !m.indexed)?;
    match mem.base {
        None => Some(mem.disp as u64),
        Some(base) => {
            let base = registers.get(usize::from(base))?.constant()?;
            Some(base.wrapping_add_signed(mem.disp))
        }
    }
}

/// Registers that ABIInternal preserves across a call: the stack and frame pointers and g. Source:
/// cmd/compile/abi-internal.md.
const fn kept_by_calls(arch: Arch) -> u32 {
    match arch {
        Arch::Amd64 => 1 << 4 | 1 << 5 | 1 << 14,
        Arch::Arm64 => 1 << 28 | 1 << 29 | 1 << 31,
    }
}

/// Basic blocks, the block of each instruction, and whether there is a jump whose target is not known.
fn blocks(insns: &[Insn]) -> (Vec<Block>, Vec<usize>, bool) {
    let index: HashMap<u64, usize> = insns.iter().enumerate().map(|(n, i)| (i.address, n)).collect();
    let mut leaders = BTreeSet::from([0]);
    let mut indirect = false;
    for (n, insn) in insns.iter().enumerate() {
        match insn.flow {
            Flow::Next | Flow::Call(_) => {}
            Flow::Jump(target) | Flow::Branch(target) => {
                leaders.extend(index.get(&target));
                leaders.insert(n + 1);
            }
            Flow::Indirect => {
                indirect = true;
                leaders.insert(n + 1);
            }
            Flow::End => {
                leaders.insert(n + 1);
            }
        }
    }
    let starts: Vec<usize> = leaders.into_iter().filter(|n| *n < insns.len()).collect();
    let mut block_of = vec![0; insns.len()];
    let mut blocks: Vec<Block> = Vec::with_capacity(starts.len());
    for (b, &first) in starts.iter().enumerate() {
        let end = starts.get(b + 1).copied().unwrap_or(insns.len());
        block_of[first..end].fill(b);
        let entry = [Value::Unreached; 32];
        blocks.push(Block {
            first,
            end,
            next: Vec::new(),
            previous: Vec::new(),
            entry,
        });
    }
    for b in 0..blocks.len() {
        let Some(last) = blocks.get(b).and_then(|block| insns.get(block.end - 1)) else {
            continue;
        };
        let there = last
            .target()
            .and_then(|t| index.get(&t))
            .and_then(|&i| block_of.get(i))
            .copied();
        let following = (b + 1 < blocks.len()).then_some(b + 1);
        let next: Vec<usize> = match last.flow {
            Flow::Next | Flow::Call(_) => following.into_iter().collect(),
            Flow::Jump(_) => there.into_iter().collect(),
            Flow::Branch(_) => there.into_iter().chain(following).collect(),
            Flow::Indirect | Flow::End => Vec::new(),
        };
        for &n in &next {
            if let Some(block) = blocks.get_mut(n) {
                block.previous.push(b);
            }
        }
        if let Some(block) = blocks.get_mut(b) {
            block.next = next;
        }
    }
    (blocks, block_of, indirect)
}
