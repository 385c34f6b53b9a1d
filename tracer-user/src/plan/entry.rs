//! Where to probe calls of a function: early enough that its arguments are still in their registers, late enough that
//! growing the stack does not cause a second hit, and cheaply.

use super::sites::{self, Decoded};
use super::{Attempt, Site, SiteKind};
use crate::binary::code::flow::Analysis;
use crate::binary::code::{self, Flow, Insn, Shape};
use crate::binary::{Code, Function};

/// How many instructions from the entry on are considered.
const WINDOW: usize = 32;

/// The first emulated instruction of `function` that every call reaches exactly once, with the first
/// `arguments` (at most 3) integer arguments intact.
///
/// The stack check at the entry calls morestack and then starts over, so instructions up to it are skipped.
///
/// # Errors
/// There is no such instruction before the function branches, loops or overwrites an argument.
pub fn site(
    code: &dyn Code,
    function: &Function,
    arguments: u8,
    kind: SiteKind,
    force: bool,
) -> Result<Site, Attempt> {
    let decoded = Decoded::new(code, function)?;
    let insn = find(code, &decoded, arguments, true);
    site_of(code, &decoded, insn, kind, force)
}

/// Like [`site`], for a function that only runs on the stack of g0, which does not grow: there the branch of the stack
/// check can be the site, and no instruction is cheaper to probe.
///
/// # Errors
/// As [`site`].
pub fn site_on_g0(
    code: &dyn Code,
    function: &Function,
    arguments: u8,
    kind: SiteKind,
) -> Result<Site, Attempt> {
    let decoded = Decoded::new(code, function)?;
    let insn = find(code, &decoded, arguments, false);
    site_of(code, &decoded, insn, kind, false)
}

fn site_of(
    code: &dyn Code,
    decoded: &Decoded,
    insn: Option<&Insn>,
    kind: SiteKind,
    force: bool,
) -> Result<Site, Attempt> {
    let insn = insn.ok_or_else(|| Attempt {
        what: format!("the entry of {}", decoded.function.name),
        outcome: "no instruction there is emulated by the kernel with the arguments still in registers"
            .into(),
    })?;
    let mut site = sites::site(code, &decoded.function, insn, kind, force)?;
    site.gp_in = code::argument(code.arch(), 0);
    Ok(site)
}

fn find<'d>(code: &dyn Code, decoded: &'d Decoded, arguments: u8, may_restart: bool) -> Option<&'d Insn> {
    let analysis = Analysis::new(code.arch(), &decoded.insns, |_| None);
    let wanted = (0..arguments).fold(0, |mask, n| mask | 1 << code::argument(code.arch(), n));
    let restarts: Vec<u64> = code
        .functions("runtime.morestack_noctxt")
        .iter()
        .map(|f| f.start)
        .collect();
    let restarts = |target: u64| -> bool {
        let there = decoded.insns.iter().skip_while(|i| i.address != target);
        // Registers are saved before the call. What follows another call is of another path: throw does not return.
        let mut calls = there
            .take(WINDOW)
            .take_while(|i| matches!(i.flow, Flow::Next | Flow::Call(_)))
            .filter_map(|i| match i.flow {
                Flow::Call(to) => Some(to),
                _ => None,
            });
        let first = calls.next().flatten();
        first.is_some_and(|to| restarts.contains(&to))
    };
    let mut first = 0;
    for (index, insn) in decoded.insns.iter().enumerate().take(WINDOW) {
        if index > 0 && !analysis.in_one_block(first, index) {
            return None;
        }
        match insn.flow {
            Flow::Branch(target) if may_restart && restarts(target) => {
                first = index + 1;
                continue;
            }
            _ if insn.shape == Shape::Emulated => return Some(insn),
            Flow::Next => {}
            _ => return None,
        }
        if insn.writes & wanted != 0 {
            return None;
        }
    }
    None
}
