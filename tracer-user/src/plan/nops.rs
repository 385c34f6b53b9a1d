//! x86_64, Linux 6.18 and newer: where the compiler has put a nop of five bytes on the way to a call of `execute`.
//! Such a nop the kernel replaces by a call into a system call of its own, so that a hit is no trap and costs half as
//! much. Go's linker pads with nops so that no jump crosses 32 bytes: `schedule` has one in front of the jump
//! that leaves goroutines to their locked thread, at whose fall-through the chosen one is executed.

use super::sites::{Decoded, site};
use super::{Emulation, Site, SiteKind, whole};
use crate::target::code::flow::Analysis;
use crate::target::code::{self, Flow, Insn};
use crate::target::{Arch, Code, Function};
use tracer_ebpf::full::status;

const EXECUTE: &str = "runtime.execute";
const SCHEDULE: &str = "runtime.schedule";
/// `nopl 0x0(%rax,%rax,1)`, the one form that the kernel replaces (arch/x86/kernel/uprobes.c, `is_nop5_insn`).
const NOP: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
/// It must lie in one page.
const PAGE: u64 = 4096;
/// How many instructions before the call are looked at.
const WINDOW: usize = 12;

/// Puts, in place of the entry of `execute`, the calls of it, if there is such a nop on the way to one of them: it
/// stands for that call then.
pub(super) fn prefer(code: &dyn Code, sites: &mut Vec<Site>) {
    let Some(at) = sites
        .iter()
        .position(|site| site.function == EXECUTE && whole::is_whole(site))
    else {
        return;
    };
    if code.arch() != Arch::Amd64 {
        return;
    }
    let Some(callers) = callers(code) else { return };
    // The others are seldom used, and a call costs more than the entry.
    if callers
        .iter()
        .any(|site| site.emulation == Emulation::Replaced && is_of_schedule(code, site))
    {
        sites.splice(at..=at, callers);
    }
}

/// Whether a site lies in `schedule`, inlined or not.
fn is_of_schedule(code: &dyn Code, site: &Site) -> bool {
    let functions = code.functions(&site.function);
    let function = functions.iter().find(|f| f.start == site.address - site.offset);
    site.function == SCHEDULE
        || function.is_some_and(|f| {
            code.inlined_at(f, site.address)
                .iter()
                .any(|name| name == SCHEDULE)
        })
}

/// A site for each call of `execute`; `None` where one has none, or `execute` is reached in another way.
fn callers(code: &dyn Code) -> Option<Vec<Site>> {
    let [execute] = &code.functions(EXECUTE)[..] else {
        return None;
    };
    let mut sites = Vec::new();
    for function in code.runtime_functions() {
        let bytes = code.code_of(function).unwrap_or_default();
        if function == execute || !code::may_reach(code.arch(), bytes, function.start, execute.start) {
            continue;
        }
        let decoded = Decoded::new(code, function).ok()?;
        let analysis = Analysis::new(code.arch(), &decoded.insns, |_| None);
        for (index, insn) in decoded.insns.iter().enumerate() {
            match insn.flow {
                Flow::Call(Some(to)) if to == execute.start => {
                    sites.push(of_call(code, &decoded, &analysis, index)?);
                }
                Flow::Branch(to) | Flow::Jump(to) if to == execute.start => return None,
                _ => {}
            }
        }
    }
    Some(sites)
}

/// The nop before the call of `execute` at `index`, or the call itself.
fn of_call(code: &dyn Code, decoded: &Decoded, analysis: &Analysis, index: usize) -> Option<Site> {
    let insns = &decoded.insns;
    let call = insns.get(index)?;
    let (insn, kind, zf) = match nop(code, &decoded.function, insns, analysis, index) {
        Some((nop, None)) => (nop, SiteKind::StatusEntry, 0),
        Some((nop, Some(zf))) => (nop, SiteKind::SwappedConstants, zf),
        None => (call, SiteKind::StatusEntry, 0),
    };
    let is_nop = insn.address != call.address;
    // Older kernels single-step it: whoever calls this knows that ours does not.
    let mut site = site(code, &decoded.function, insn, kind, is_nop).ok()?;
    if is_nop {
        site.emulation = Emulation::Replaced;
    }
    site.gp_in = code::argument(code.arch(), 0);
    site.zf_when_swapped = zf;
    site.statuses_in = (status::RUNNABLE, status::RUNNING);
    Some(site)
}

/// Such a nop on the only way to the call at `index`, with the goroutine in its register already; and, where a jump
/// between leads elsewhere, the zero flag that says it is not taken.
fn nop<'i>(
    code: &dyn Code,
    function: &Function,
    insns: &'i [Insn],
    analysis: &Analysis,
    index: usize,
) -> Option<(&'i Insn, Option<u8>)> {
    let goroutine = 1 << code::argument(code.arch(), 0);
    let mut zf = None;
    for at in (index.saturating_sub(WINDOW)..index).rev() {
        let insn = insns.get(at)?;
        if analysis.previous(at + 1) != [at] {
            return None;
        }
        let bytes = bytes(code, function, insn)?;
        if *bytes == NOP && insn.address % PAGE <= PAGE - NOP.len() as u64 {
            return Some((insn, zf));
        }
        match (insn.flow, bytes) {
            (Flow::Next, _) if insn.writes & goroutine == 0 && !(zf.is_some() && insn.writes_zf) => {}
            // jne, je: what falls through has the flag set, or clear.
            (Flow::Branch(_), [0x75, _] | [0x0f, 0x85, ..]) if zf.is_none() => zf = Some(1),
            (Flow::Branch(_), [0x74, _] | [0x0f, 0x84, ..]) if zf.is_none() => zf = Some(0),
            _ => return None,
        }
    }
    None
}

/// The bytes of an instruction of `function`.
fn bytes<'c>(code: &'c dyn Code, function: &Function, insn: &Insn) -> Option<&'c [u8]> {
    let offset = usize::try_from(insn.address.checked_sub(function.start)?).ok()?;
    code.code_of(function)?
        .get(offset..)?
        .get(..usize::from(insn.len))
}

/// Whether `insn` of `function` is a nop that the kernel replaces, if it does that at all.
pub(super) fn is_replaced(code: &dyn Code, function: &Function, insn: &Insn) -> bool {
    bytes(code, function, insn).is_some_and(|bytes| *bytes == NOP)
}
