//! The best site of `sampled`, from Go 1.26 on: where casgstatus hands a wait that it has measured to the
//! runtime's histogram.
//!
//! ```go
//! case _Grunning:             // newval, if gp.tracking
//!     gp.tracking = false
//!     sched.timeToRun.record(gp.runnableTime)   // <- this call is the site
//!     gp.runnableTime = 0
//! ```
//! Its second argument is the very latency that the runtime counts, taken before our trap. Up to Go 1.25
//! goroutines that never waited come here too (with 0), which would only cost hits.
//! Source: proc.go, casgstatus, Go 1.26 and 1.27.

use super::sites::{Decoded, site};
use super::{Attempt, Site, SiteKind};
use crate::target::code::flow::Analysis;
use crate::target::code::{self, Flow, Insn, Mem, Op};
use crate::target::{Arch, Code, Function};
use tracer_ebpf::gp_in;

/// The runtime's own histogram of waits is filled by this. Source: histogram.go.
pub const RECORD: &str = "runtime.(*timeHistogram).record";
/// The first Go in which only waits are recorded.
pub const FIRST_WITHOUT_ZEROS: u32 = 26;
/// How many instructions before and behind the call are looked at.
const WINDOW: usize = 8;
/// The zero register of arm64, as a source.
const ZERO_REGISTER: u8 = 31;

/// The calls in these functions, each with the number of tracked waits that end in it; `stamp` is the offset of
/// `g.trackingStamp`.
///
/// # Errors
/// One of the functions has none, or they are not all of one histogram.
pub fn recorded(
    code: &dyn Code,
    functions: &[(Decoded, usize)],
    stamp: u32,
    force: bool,
) -> Result<Vec<Site>, Attempt> {
    let record = code.functions(RECORD);
    let mut sites = Vec::new();
    let mut histograms = Vec::new();
    for (decoded, ends) in functions {
        let found = calls(code, decoded, &record, stamp, force)?;
        if found.len() != *ends {
            return Err(Attempt {
                what: format!("the call of {RECORD} in {}", decoded.function.name),
                outcome: format!(
                    "of {ends} there are {} that hand over g.runnableTime",
                    found.len()
                ),
            });
        }
        for (site, histogram) in found {
            sites.push(site);
            histograms.push(histogram);
        }
    }
    histograms.sort_unstable();
    histograms.dedup();
    match histograms.as_slice() {
        [_] => Ok(sites),
        several => Err(Attempt {
            what: format!("the calls of {RECORD}"),
            outcome: format!("they are of {} histograms", several.len()),
        }),
    }
}

/// The calls in one function, each with the address of its histogram.
fn calls(
    code: &dyn Code,
    decoded: &Decoded,
    record: &[Function],
    stamp: u32,
    force: bool,
) -> Result<Vec<(Site, u64)>, Attempt> {
    let analysis = Analysis::new(code.arch(), &decoded.insns, |_| None);
    let Some(total) = stamp.checked_add(8) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for (index, insn) in decoded.insns.iter().enumerate() {
        let called = matches!(insn.flow, Flow::Call(Some(t)) if record.iter().any(|r| r.start == t));
        if !called {
            continue;
        }
        let registers = analysis.before(index);
        let receiver = usize::from(code::argument(code.arch(), 0));
        let histogram = registers.get(receiver).and_then(|value| value.constant());
        if let Some(histogram) = histogram
            && let Some((gp_in, slot)) = goroutine(code.arch(), &decoded.insns, &analysis, index, total)
        {
            let mut site = site(code, &decoded.function, insn, SiteKind::WaitRecorded, force)?;
            (site.gp_in, site.slot) = (gp_in, slot);
            found.push((site, histogram));
        }
    }
    Ok(found)
}

/// If the call at `index` is given the field at `total` of a g: where that g is, as a register or a stack slot.
fn goroutine(arch: Arch, insns: &[Insn], analysis: &Analysis, index: usize, total: u32) -> Option<(u8, u32)> {
    let given = code::argument(arch, 1);
    let from = index.saturating_sub(WINDOW);
    let before = insns.get(from..index)?.iter().enumerate().rev();
    // Either it was loaded from the field, or (right behind the sum, where all is inlined) stored into it.
    let (at, same) = before
        .map(|(at, insn)| (from + at, insn))
        .find(|(_, insn)| insn.writes & (1 << given) != 0 || insn.op == Op::Store { src: given })?;
    let base = match (same.op, same.mem) {
        (Op::Load { dst }, Some(mem)) if dst == given && same.bytes == 8 => field_of(mem, total)?,
        (Op::Store { .. }, Some(mem)) if same.bytes == 8 => field_of(mem, total)?,
        _ => return None,
    };
    if base == code::stack_pointer(arch) {
        return None;
    }
    if !analysis.in_one_block(at, index) {
        return None;
    }
    let still = insns
        .get(at..index)?
        .iter()
        .all(|insn| insn.writes & (1 << base) == 0);
    if still {
        return Some((base, 0));
    }
    spilled(arch, insns.get(index + 1..)?, total).map(|slot| (gp_in::STACK_SLOT, slot))
}

/// The register whose field at `offset` an operand is.
fn field_of(mem: Mem, offset: u32) -> Option<u8> {
    mem.base.filter(|_| !mem.indexed && mem.disp == i64::from(offset))
}

/// Behind the call: the stack slot from which the g is taken whose field is then set to 0.
fn spilled(arch: Arch, insns: &[Insn], total: u32) -> Option<u32> {
    let mut slots = [None; 32];
    for insn in insns.iter().take(WINDOW) {
        if insn.flow != Flow::Next {
            return None;
        }
        let clears = matches!(
            insn.op,
            Op::StoreConst { value: 0 } | Op::Store { src: ZERO_REGISTER }
        );
        if clears && insn.bytes == 8 {
            let base = insn.mem.and_then(|mem| field_of(mem, total));
            if let Some(slot) = base.and_then(|base| slots.get(usize::from(base)).copied().flatten()) {
                return Some(slot);
            }
        }
        // Whatever is stored first could be into the very slot.
        let stores = matches!(
            insn.op,
            Op::Store { .. } | Op::StorePair { .. } | Op::StoreConst { .. } | Op::AddToMem { .. }
        );
        if stores
            && insn
                .mem
                .is_some_and(|mem| mem.base == Some(code::stack_pointer(arch)))
        {
            return None;
        }
        let loaded = match (insn.op, insn.mem) {
            (
                Op::Load { dst },
                Some(Mem {
                    base: Some(base),
                    disp,
                    indexed: false,
                }),
            ) if insn.bytes == 8 && base == code::stack_pointer(arch) => {
                u32::try_from(disp).ok().map(|slot| (dst, slot))
            }
            _ => None,
        };
        for (n, slot) in slots.iter_mut().enumerate() {
            if insn.writes & (1 << n) != 0 {
                *slot = None;
            }
        }
        if let Some((dst, slot)) = loaded
            && let Some(held) = slots.get_mut(usize::from(dst))
        {
            *held = Some(slot);
        }
    }
    None
}
