//! Sites where profile-guided optimisation has inlined casgstatus: there is no call to probe, only the
//! compare-and-swap (`lock cmpxchg`; on arm64 `casal` and, for processors without it, a loop of exclusives), which
//! the kernel refuses to probe. The site is the conditional branch that tests whether the swap succeeded.

use super::called::{compare_and_swap, passed};
use super::casgstatus::{CASGSTATUS, RUNNABLE, RUNNING, may_be};
use super::origin::{origin, place};
use super::sites::{Decoded, site};
use super::{Attempt, Site, SiteKind, branch, changes::Changes};
use crate::binary::code::flow::{Analysis, Value};
use crate::binary::code::{self, Insn, Op};
use crate::binary::layout::Layout;
use crate::binary::{Arch, Code, Function};

/// `_Gscan`, a bit of the status that is set while a goroutine's stack is scanned.
const SCAN: u64 = 0x1000;
/// How many instructions before a compare-and-swap are searched for the computation of its address (arm64).
const ADDRESS_WINDOW: usize = 24;

/// Offset of `g.atomicstatus`: what casgstatus itself compares and swaps, or where the compiler inlines nothing, what
/// it has one of `swappers` compare and swap.
///
/// # Errors
/// casgstatus does not have exactly one, or the layout says otherwise.
pub(super) fn status_offset(
    code: &dyn Code,
    casgstatus: &[Function],
    swappers: &[Function],
    layout: Option<&Layout>,
) -> Result<u32, Attempt> {
    let mut offsets = Vec::new();
    for function in casgstatus {
        let insns = Decoded::new(code, function)?.insns;
        offsets.extend((0..insns.len()).filter_map(|index| swapped_at(code.arch(), &insns, index)));
        let passed = passed(code.arch(), &insns, swappers);
        offsets.extend(passed.into_iter().map(|(_, offset)| offset));
    }
    offsets.dedup();
    let fail = |outcome| {
        Err(Attempt {
            what: "g.atomicstatus in runtime.casgstatus".into(),
            outcome,
        })
    };
    match (offsets.as_slice(), layout) {
        ([offset], Some(layout)) if layout.g.atomicstatus != *offset => fail(format!(
            "the code has it at {offset}, the layout of this Go version at {}",
            layout.g.atomicstatus
        )),
        ([offset], _) => Ok(*offset),
        (offsets, _) => fail(format!(
            "no one offset is compared and swapped there: {offsets:?}"
        )),
    }
}

/// If instruction `index` is a 32-bit compare-and-swap: its offset from some pointer. On amd64 the instruction has
/// it, on arm64 the address is computed before.
fn swapped_at(arch: Arch, insns: &[Insn], index: usize) -> Option<u32> {
    let (insn, base) = compare_and_swap(insns.get(index)?)?;
    let offset = match arch {
        Arch::Amd64 => insn.mem?.disp,
        Arch::Arm64 => insns
            .get(index.saturating_sub(ADDRESS_WINDOW)..index)?
            .iter()
            .rev()
            .find_map(|i| match i.op {
                Op::AddConst { dst, value, .. } if dst == base => Some(value),
                _ => None,
            })?,
    };
    u32::try_from(offset).ok()
}

/// Whether `function` may contain a compare-and-swap of a goroutine's status; `inlined` is how often casgstatus is in
/// its inline tree.
pub(super) fn may_swap(
    code: &dyn Code,
    function: &Function,
    status: u32,
    inlined: impl FnOnce() -> usize,
) -> bool {
    match code.arch() {
        Arch::Amd64 => code::may_swap(code.arch(), code.code_of(function).unwrap_or_default(), status),
        // The instruction does not have the offset, so its bytes look like those of any other.
        Arch::Arm64 => inlined() > 0,
    }
}

/// A compare-and-swap of a goroutine's status, outside of casgstatus itself.
pub(super) struct Swap {
    /// Index of the instruction.
    pub index: usize,
    /// The register with the g.
    g: u8,
    /// How many bytes that register is past the g: arm64 has the address of the status in it.
    past: u32,
    /// Register with the old status.
    old: u8,
    /// Register with the new status.
    new: u8,
    /// The old status, if it is a constant.
    pub from: Option<u64>,
    /// The new status, if it is a constant.
    pub to: Option<u64>,
    /// Whether this is casgstatus, inlined.
    of_casgstatus: bool,
}

/// All compare-and-swaps of a goroutine's status in a function. Those that set or clear the scan bit are
/// left out: casgstatus never does.
pub(super) fn swaps(code: &dyn Code, decoded: &Decoded, analysis: &Analysis, status: u32) -> Vec<Swap> {
    let mut swaps = Vec::new();
    analysis.visit(|index, insn, registers| {
        let Op::CompareExchange { old, new } = insn.op else {
            return;
        };
        let Some((_, base)) = compare_and_swap(insn) else {
            return;
        };
        if !analysis.is_reached(index) {
            return;
        }
        let inlined = code.inlined_at(&decoded.function, insn.address);
        let of_casgstatus = inlined.iter().any(|name| name == CASGSTATUS);
        let held = |r: u8| registers.get(usize::from(r)).copied().unwrap_or(Value::Unknown);
        let past = match code.arch() {
            Arch::Amd64 if insn.mem.is_some_and(|m| m.disp == i64::from(status)) => 0,
            // The only compare-and-swap of casgstatus is that of the status.
            Arch::Arm64 if of_casgstatus => status,
            _ => return,
        };
        let constant = |r: u8| held(r).constant().map(|v| v & 0xffff_ffff);
        let (from, to) = (constant(old), constant(new));
        let plain = |status: Option<u64>| status.is_some_and(|s| s & SCAN == 0);
        if of_casgstatus || (plain(from) && plain(to)) {
            swaps.push(Swap {
                index,
                g: base,
                past,
                old,
                new,
                from,
                to,
                of_casgstatus,
            });
        }
    });
    swaps
}

/// The sites of casgstatus in a function into which it is inlined `inlined` times, by the inline tree.
///
/// # Errors
/// One that may enter or leave Runnable cannot be probed, or not all of them are found.
pub(super) fn sites(
    code: &dyn Code,
    decoded: &Decoded,
    analysis: &Analysis,
    status: u32,
    inlined: usize,
    changes: Changes,
    force: bool,
) -> Result<Vec<Site>, Attempt> {
    let fail = |outcome: String| Attempt {
        what: format!(
            "casgstatus inlined into {} by profile-guided optimisation",
            decoded.function.name
        ),
        outcome,
    };
    let swaps = swaps(code, decoded, analysis, status);
    let found = swaps.iter().filter(|s| s.of_casgstatus).count();
    if found < inlined {
        return Err(fail(format!(
            "the inline tree says that it is there {inlined} times, its compare-and-swap was found {found} times"
        )));
    }
    let mut sites = Vec::new();
    for swap in swaps {
        let Swap {
            index,
            g,
            past,
            old,
            new,
            from,
            to,
            ..
        } = swap;
        let address = decoded.insns.get(index).map_or(0, |i| i.address);
        let place = || place(code, &decoded.function, address);
        if !changes.include(from, to, place) {
            continue;
        }
        let kind = match (changes, from, to) {
            (Changes::OfRunnable, _, Some(RUNNABLE)) => SiteKind::SwappedToRunnable,
            (Changes::OfRunnable, Some(RUNNABLE), Some(RUNNING)) => SiteKind::SwappedToRunning,
            (Changes::All { .. }, Some(_), Some(_)) => SiteKind::SwappedConstants,
            _ => SiteKind::Swapped,
        };
        let branch = branch::after(code.arch(), &decoded.insns, analysis, index);
        let Some((branch, insn)) = branch.and_then(|b| decoded.insns.get(b.at).map(|insn| (b, insn))) else {
            return Err(fail(
                "no branch after the compare-and-swap tests whether it succeeded".into(),
            ));
        };
        let kept = |r: u8| {
            let between = branch.between.iter().filter_map(|&i| decoded.insns.get(i));
            between.into_iter().all(|i| i.writes & (1 << r) == 0)
        };
        if !kept(g) {
            return Err(fail(
                "the goroutine is in no register any more at the branch".into(),
            ));
        }
        let mut site = site(code, &decoded.function, insn, kind, force)?;
        (site.gp_in, site.slot) = (g, past);
        site.of_syscall = Changes::is_of_syscall(from, to);
        site.zf_when_swapped = branch.zf;
        if kind == SiteKind::Swapped {
            // A status that surely is not Runnable need not be read: the number of the stack pointer reads as 0, which
            // is Idle.
            let none = code::stack_pointer(code.arch());
            let matters = changes != Changes::OfRunnable || may_be(RUNNABLE, from);
            let from = if matters { old } else { none };
            if !kept(new) || !(from == none || branch.old_kept && kept(old)) {
                return Err(fail(
                    "a status that the probe needs is overwritten before the branch".into(),
                ));
            }
            site.statuses_in = (from, new);
        }
        if let (SiteKind::SwappedConstants, Some(from), Some(to)) = (kind, from, to) {
            // Without the scan bit each fits: `swaps` and casgstatus have none.
            site.statuses_in = (from as u8, to as u8);
        }
        if may_be(RUNNABLE, to) {
            site.origin = Some(origin(code, decoded, analysis, index));
        }
        sites.push(site);
    }
    Ok(sites)
}
