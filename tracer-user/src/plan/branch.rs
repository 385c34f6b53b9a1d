//! The conditional branch after a compare-and-swap, at which a probe can see whether the swap succeeded.

use crate::binary::Arch;
use crate::binary::code::flow::Analysis;
use crate::binary::code::{Flow, Insn, Op};
use std::collections::BTreeSet;

/// How many instructions after the compare-and-swap are searched for its branch.
const WINDOW: usize = 8;
/// Most instructions in the two forms of an arm64 compare-and-swap together.
const PATHS: usize = 32;

/// The first branch that every path from a compare-and-swap reaches.
pub(super) struct Branch {
    /// Index of the branch.
    pub at: usize,
    /// The zero flag at the branch that says that the swap succeeded.
    pub zf: u8,
    /// Indexes of the instructions in between.
    pub between: Vec<usize>,
    /// Whether a successful swap leaves the register with the old status unchanged.
    pub old_kept: bool,
}

/// Finds the branch after the compare-and-swap at `index`.
pub(super) fn after(arch: Arch, insns: &[Insn], analysis: &Analysis, index: usize) -> Option<Branch> {
    match arch {
        Arch::Amd64 => amd64(insns, analysis, index),
        Arch::Arm64 => arm64(insns, analysis, index),
    }
}

/// What the zero flag or a register says about the success of the compare-and-swap.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    /// Nothing is known.
    Unknown,
    /// It succeeded if this is 1 (set).
    IfOne,
    /// It succeeded if this is 0 (clear).
    IfZero,
}

/// `lock cmpxchg; jne`, or, as the compiler emits it, `lock cmpxchg; sete; test; jne`.
fn amd64(insns: &[Insn], analysis: &Analysis, index: usize) -> Option<Branch> {
    let found = |at, zf| {
        Some(Branch {
            at,
            zf,
            between: (index + 1..at).collect(),
            old_kept: true,
        })
    };
    let mut flag = Done::IfOne;
    let mut held: Option<(u8, Done)> = None;
    for (at, insn) in insns.iter().enumerate().skip(index + 1).take(WINDOW) {
        if !analysis.in_one_block(index, at) {
            return None;
        }
        match insn.flow {
            Flow::Branch(_) => {
                return match flag {
                    Done::IfOne => found(at, 1),
                    Done::IfZero => found(at, 0),
                    Done::Unknown => None,
                };
            }
            Flow::Next => {}
            _ => return None,
        }
        let inverse = |done| match done {
            Done::IfOne => Done::IfZero,
            Done::IfZero => Done::IfOne,
            Done::Unknown => Done::Unknown,
        };
        match insn.op {
            Op::SetIfZero { dst } => held = Some((dst, flag)),
            Op::SetIfNotZero { dst } => held = Some((dst, inverse(flag))),
            Op::Test { src } => {
                // ZF = (the register is 0).
                flag = held
                    .filter(|(r, _)| *r == src)
                    .map_or(Done::Unknown, |(_, done)| inverse(done));
            }
            _ => {
                if insn.writes_zf {
                    flag = Done::Unknown;
                }
                if held.is_some_and(|(r, _)| insn.writes & (1 << r) != 0) {
                    held = None;
                }
            }
        }
    }
    None
}

/// Both forms compare what was in memory with the old status (`cmp`, so that the zero flag says whether the swap
/// succeeded), keep the result (`cset`) and join before the branch that tests it:
///
/// ```text
///     tbz  w6, #0, 1f         // does the processor have casal?
///     casal w27, w2, [x5]
///     cmp  w27, w1
///     cset x6, eq
///     b    3f
/// 1:  ldaxr w27, [x5]
///     cmp  w27, w1
///     b.ne 2f
///     stlxr w27, w2, [x5]
///     cbnz x27, 1b
/// 2:  cset x6, eq
/// 3:  tbnz w6, #0, …          // the site
/// ```
fn arm64(insns: &[Insn], analysis: &Analysis, index: usize) -> Option<Branch> {
    let base = insns.get(index)?.mem?.base?;
    // Forward to the branch.
    let mut at = index + 1;
    for _ in 0..WINDOW {
        let insn = insns.get(at)?;
        match insn.flow {
            Flow::Branch(_) => break,
            Flow::Next => at += 1,
            Flow::Jump(target) => at = insns.iter().position(|i| i.address == target)?,
            _ => return None,
        }
    }
    if !matches!(insns.get(at)?.flow, Flow::Branch(_)) {
        return None;
    }
    // Backward from it through both forms: only the comparison may have set the zero flag.
    let mut between = BTreeSet::new();
    let mut work: Vec<(usize, bool)> = analysis.previous(at).into_iter().map(|i| (i, false)).collect();
    let mut seen: BTreeSet<(usize, bool)> = work.iter().copied().collect();
    while let Some((node, mut compared)) = work.pop() {
        let insn = insns.get(node)?;
        let loads = matches!(insn.op, Op::LoadExclusive { .. }) && insn.mem?.base? == base;
        if node == index || loads {
            if !compared {
                return None;
            }
            continue;
        }
        between.insert(node);
        if insn.writes_zf && !compared {
            if !compares_loaded(insns, analysis, node, index, base) {
                return None;
            }
            compared = true;
        }
        let previous = analysis.previous(node);
        if previous.is_empty() || seen.len() > PATHS {
            return None;
        }
        let more = previous.into_iter().map(|p| (p, compared));
        work.extend(more.filter(|step| seen.insert(*step)));
    }
    Some(Branch {
        at,
        zf: 1,
        between: between.into_iter().collect(),
        old_kept: false,
    })
}

/// Whether instruction `node` compares what the instruction before it has read from memory.
fn compares_loaded(insns: &[Insn], analysis: &Analysis, node: usize, swap: usize, base: u8) -> bool {
    let Some(Op::Compare { a, b }) = insns.get(node).map(|i| i.op) else {
        return false;
    };
    let [before] = analysis.previous(node)[..] else {
        return false;
    };
    let Some(insn) = insns.get(before) else {
        return false;
    };
    match insn.op {
        Op::CompareExchange { old, .. } => before == swap && (old == a || old == b),
        Op::LoadExclusive { dst } => (dst == a || dst == b) && insn.mem.is_some_and(|m| m.base == Some(base)),
        _ => false,
    }
}
