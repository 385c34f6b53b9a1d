//! Where profile-guided optimisation has inlined casgstatus, there is no call to probe, only its
//! compare-and-swap: `lock cmpxchg`, which the kernel lets nobody probe. The conditional branch that tests
//! whether it was done is the site.

use super::exact::{CASGSTATUS, RUNNABLE, RUNNING, may_be, origin};
use super::sites::{Decoded, site};
use super::{Attempt, Site, SiteKind};
use crate::target::code::flow::{Analysis, Value};
use crate::target::code::{Flow, Insn, Op, amd64};
use crate::target::layout::Layout;
use crate::target::{Arch, Code, Function};

/// `_Gscan`, a bit that whoever looks at a goroutine's stack sets on its status for that time.
const SCAN: u64 = 0x1000;
/// How many instructions behind the compare-and-swap its branch is looked for.
const WINDOW: usize = 8;

/// Offset of `g.atomicstatus`: what casgstatus itself compares and swaps. `None` where the architecture's
/// compare-and-swap is not decoded.
///
/// # Errors
/// casgstatus holds not just one, or the layout knows better.
pub(super) fn status_offset(
    code: &dyn Code,
    casgstatus: &[Function],
    layout: Option<&Layout>,
) -> Result<Option<u32>, Attempt> {
    if code.arch() != Arch::Amd64 {
        return Ok(None);
    }
    let mut offsets = Vec::new();
    for function in casgstatus {
        offsets.extend(Decoded::new(code, function)?.insns.iter().filter_map(swapped_at));
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
        ([offset], _) => Ok(Some(*offset)),
        (offsets, _) => fail(format!(
            "no one offset is compared and swapped there: {offsets:?}"
        )),
    }
}

/// The offset from a register of a 32-bit compare-and-swap.
fn swapped_at(insn: &Insn) -> Option<u32> {
    let mem = insn
        .mem
        .filter(|m| !m.indexed && m.base.is_some() && insn.bytes == 4)?;
    matches!(insn.op, Op::CompareExchange { .. })
        .then(|| u32::try_from(mem.disp).ok())
        .flatten()
}

/// A compare-and-swap of a goroutine's status, outside of casgstatus itself.
pub(super) struct Swap {
    /// Index of the instruction.
    pub index: usize,
    /// Register with the g.
    pub g: u8,
    /// Register with the new status.
    pub new: u8,
    /// The old status, if it is a constant.
    pub from: Option<u64>,
    /// The new status, if it is a constant.
    pub to: Option<u64>,
    /// It is casgstatus, inlined.
    pub of_casgstatus: bool,
}

/// All compare-and-swaps of a goroutine's status in a function. Those that set or clear the scan bit are
/// left out: casgstatus never does.
pub(super) fn swaps(code: &dyn Code, decoded: &Decoded, analysis: &Analysis, status: u32) -> Vec<Swap> {
    let mut swaps = Vec::new();
    analysis.visit(|index, insn, registers| {
        let (Op::CompareExchange { new }, Some(offset)) = (insn.op, swapped_at(insn)) else {
            return;
        };
        let Some(g) = insn.mem.and_then(|m| m.base).filter(|_| offset == status) else {
            return;
        };
        let inlined = code.inlined_at(&decoded.function, insn.address);
        let constant = |r: u8| {
            let value = registers.get(usize::from(r)).copied().and_then(Value::constant);
            value.map(|v| v & 0xffff_ffff)
        };
        let (from, to) = (constant(amd64::RAX), constant(new));
        let of_casgstatus = inlined.iter().any(|name| name == CASGSTATUS);
        let plain = |status: Option<u64>| status.is_some_and(|s| s & SCAN == 0);
        if of_casgstatus || (plain(from) && plain(to)) {
            swaps.push(Swap {
                index,
                g,
                new,
                from,
                to,
                of_casgstatus,
            });
        }
    });
    swaps
}

/// The sites of casgstatus inlined into a function, which its inline tree says it is `inlined` times.
///
/// # Errors
/// One that may enter or leave Runnable cannot be probed, or not all of them are found.
pub(super) fn sites(
    code: &dyn Code,
    decoded: &Decoded,
    analysis: &Analysis,
    status: Option<u32>,
    inlined: usize,
    force: bool,
) -> Result<Vec<Site>, Attempt> {
    let fail = |outcome: String| Attempt {
        what: format!(
            "casgstatus inlined into {} by profile-guided optimisation",
            decoded.function.name
        ),
        outcome,
    };
    let Some(status) = status else {
        return match inlined {
            0 => Ok(Vec::new()),
            _ => Err(fail(
                "on arm64 its compare-and-swap is there in two forms (with and without LSE atomics), and \
                 exclusives cannot be probed"
                    .into(),
            )),
        };
    };
    let swaps = swaps(code, decoded, analysis, status);
    let found = swaps.iter().filter(|s| s.of_casgstatus).count();
    if found < inlined {
        return Err(fail(format!(
            "the inline tree says that it is there {inlined} times, its compare-and-swap was found {found} times"
        )));
    }
    let mut sites = Vec::new();
    for Swap {
        index,
        g,
        new,
        from,
        to,
        ..
    } in swaps
    {
        if !may_be(RUNNABLE, from) && !may_be(RUNNABLE, to) {
            continue;
        }
        let kind = match (from, to) {
            (_, Some(RUNNABLE)) => SiteKind::SwappedToRunnable,
            (Some(RUNNABLE), Some(RUNNING)) => SiteKind::SwappedToRunning,
            _ => SiteKind::Swapped,
        };
        let branch = branch(&decoded.insns, analysis, index);
        let Some((branch, zf, insn)) = branch.and_then(|(b, zf)| Some((b, zf, decoded.insns.get(b)?))) else {
            return Err(fail(
                "no branch behind the compare-and-swap tests whether it was done".into(),
            ));
        };
        let between = decoded.insns.get(index + 1..branch).unwrap_or_default();
        let kept = |r: u8| between.iter().all(|i| i.writes & (1 << r) == 0);
        if !kept(g) || (kind == SiteKind::Swapped && !(kept(amd64::RAX) && kept(new))) {
            return Err(fail(
                "a register that the probe needs is overwritten before the branch".into(),
            ));
        }
        let mut site = site(code, &decoded.function, insn, kind, force)?;
        site.gp_in = g;
        site.zf_when_swapped = zf;
        if kind == SiteKind::Swapped {
            // A swap that was done leaves RAX as it was: the old status.
            site.statuses_in = (amd64::RAX, new);
        }
        if may_be(RUNNABLE, to) {
            site.origin = Some(origin(code, decoded, analysis, index));
        }
        sites.push(site);
    }
    Ok(sites)
}

/// What the zero flag or a register says about the compare-and-swap.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    /// Nothing.
    Unknown,
    /// It was done if this is 1 (set).
    IfOne,
    /// It was done if this is 0 (clear).
    IfZero,
}

/// Index of the conditional branch behind the compare-and-swap at `index`, which every way from it reaches
/// first, and the zero flag there that says it was done.
fn branch(insns: &[Insn], analysis: &Analysis, index: usize) -> Option<(usize, u8)> {
    let mut flag = Done::IfOne;
    let mut held: Option<(u8, Done)> = None;
    for (at, insn) in insns.iter().enumerate().skip(index + 1).take(WINDOW) {
        if !analysis.in_one_block(index, at) {
            return None;
        }
        match insn.flow {
            Flow::Branch(_) => {
                return match flag {
                    Done::IfOne => Some((at, 1)),
                    Done::IfZero => Some((at, 0)),
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
