//! The best site of `sampled`, from Go 1.26 on: where casgstatus passes a measured wait to the runtime's histogram.
//!
//! ```go
//! case _Grunning:             // newval, if gp.tracking
//!     gp.tracking = false
//!     sched.timeToRun.record(gp.runnableTime)   // <- this call is the site
//!     gp.runnableTime = 0
//! ```
//! Its second argument is the very latency that the runtime counts, taken before our trap. Up to Go 1.25, goroutines
//! that did not wait get here, too (with 0), which would only cost hits.
//!
//! With a profile in which `record` is hot, the compiler inlines it into casgstatus, but not into the functions into
//! which casgstatus itself is inlined: one program then has both forms. Where it is inlined there is no call, but
//! `record` begins with a branch:
//!
//! ```go
//! func (h *timeHistogram) record(duration int64) {
//!     if duration < 0 {       // <- this branch is the site
//! ```
//! A branch is taken to be that one if it belongs to `record` by the inline tree, depends on the sign of a register,
//! and that register provably holds `gp.runnableTime`. A branch on the sign is emulated on both architectures, and is
//! reached exactly as often as the call would be. Source: proc.go, casgstatus; histogram.go, record; Go 1.26 and
//! 1.27.

use super::sites::{Decoded, site};
use super::{Attempt, Site, SiteKind};
use crate::binary::code::flow::Analysis;
use crate::binary::code::{self, Flow, Insn, Mem, Op};
use crate::binary::{Arch, Code, Function};
use tracer_ebpf::gp_in;

/// The function that fills the runtime's own histogram of waits. Source: histogram.go.
pub const RECORD: &str = "runtime.(*timeHistogram).record";
/// The first Go in which only waits are recorded.
pub const FIRST_WITHOUT_ZEROS: u32 = 26;
/// How many instructions before and after the call are considered.
const WINDOW: usize = 8;
/// The zero register of arm64, as a source.
const ZERO_REGISTER: u8 = 31;

/// The sites at which these functions record waits. Each function comes with the number of tracked waits that end in
/// it; `stamp` is the offset of `g.trackingStamp`.
///
/// # Errors
/// In one of the functions not every site is found, or they are not all of one histogram.
pub fn recorded(
    code: &dyn Code,
    functions: &[(Decoded, usize)],
    stamp: u32,
    force: bool,
) -> Result<Vec<Site>, Attempt> {
    let record = code.functions(RECORD);
    let mut sites = Vec::new();
    let mut histograms = Vec::new();
    let mut inlined = Vec::new();
    for (decoded, ends) in functions {
        let analysis = Analysis::new(code.arch(), &decoded.insns, |_| None);
        let mut found = Vec::new();
        for recorded in all(code, decoded, &analysis, &record, stamp) {
            let mut site = site(
                code,
                &decoded.function,
                recorded.insn,
                SiteKind::WaitRecorded,
                force,
            )?;
            (site.gp_in, site.slot) = recorded.goroutine;
            site.statuses_in = (recorded.latency_in, 0);
            histograms.extend(recorded.histogram);
            found.push((site, recorded.histogram.is_none()));
        }
        if found.len() != *ends {
            return Err(Attempt {
                what: format!("{RECORD} in {}", decoded.function.name),
                outcome: format!(
                    "of {ends} there are {} that are proven to be given g.runnableTime",
                    found.len()
                ),
            });
        }
        if found.iter().any(|(_, inlined)| *inlined) {
            inlined.push((decoded, analysis));
        }
        sites.extend(found.into_iter().map(|(site, _)| site));
    }
    histograms.sort_unstable();
    histograms.dedup();
    let fail = |outcome: String| Attempt {
        what: format!("the calls of {RECORD}"),
        outcome,
    };
    match histograms.as_slice() {
        // All are inlined, or in a plugin. Each was proven to record g.runnableTime, which the runtime passes to one
        // histogram alone.
        [] => Ok(sites),
        [histogram] => match inlined.iter().find(|(d, a)| !uses(code, d, a, *histogram)) {
            None => Ok(sites),
            Some((decoded, _)) => Err(fail(format!(
                "they are of another histogram than the one that is inlined into {}",
                decoded.function.name
            ))),
        },
        several => Err(fail(format!("they are of {} histograms", several.len()))),
    }
}

/// A place where a wait is passed to the histogram.
struct Recorded<'i> {
    /// The call, or if it is inlined, its first branch.
    insn: &'i Insn,
    /// Register with the latency.
    latency_in: u8,
    /// Register or stack slot with the g.
    goroutine: (u8, u32),
    /// Address of the histogram; `None` if the call is inlined, where no register need hold it, or if the code takes the
    /// address from its global offset table, as that of a plugin does.
    histogram: Option<u64>,
}

/// Finds all such places in one function.
fn all<'i>(
    code: &dyn Code,
    decoded: &'i Decoded,
    analysis: &Analysis,
    record: &[Function],
    stamp: u32,
) -> Vec<Recorded<'i>> {
    let Some(total) = stamp.checked_add(8) else {
        return Vec::new();
    };
    let (arch, insns) = (code.arch(), &decoded.insns);
    let receiver = usize::from(code::argument(arch, 0));
    let mut found = Vec::new();
    for (index, insn) in insns.iter().enumerate() {
        let called = matches!(insn.flow, Flow::Call(Some(t)) if record.iter().any(|r| r.start == t));
        let place = if called {
            let latency_in = code::argument(arch, 1);
            let histogram = analysis
                .before(index)
                .get(receiver)
                .and_then(|value| value.constant());
            goroutine(arch, insns, analysis, index, total, latency_in).map(|goroutine| Recorded {
                insn,
                latency_in,
                goroutine,
                histogram,
            })
        } else {
            signed(insns, analysis, index)
                .filter(|_| {
                    code.inlined_at(&decoded.function, insn.address)
                        .first()
                        .is_some_and(|f| f == RECORD)
                })
                .and_then(|latency_in| {
                    Some(Recorded {
                        insn,
                        latency_in,
                        goroutine: goroutine(arch, insns, analysis, index, total, latency_in)?,
                        histogram: None,
                    })
                })
        };
        found.extend(place);
    }
    found
}

/// The register on whose sign the instruction at `index` branches, if it does.
fn signed(insns: &[Insn], analysis: &Analysis, index: usize) -> Option<u8> {
    match insns.get(index)?.op {
        Op::BranchOnSign { src } => Some(src),
        // The last instruction that changed the flags must be a test of the whole register.
        Op::BranchOnFlagsSign => {
            let from = index.saturating_sub(WINDOW);
            let before = insns.get(from..index)?.iter().enumerate().rev();
            let (at, test) = before
                .map(|(at, insn)| (from + at, insn))
                .find(|(_, insn)| insn.writes_zf || insn.flow != Flow::Next)?;
            match test.op {
                Op::Test { src } if test.bytes == 8 && analysis.in_one_block(at, index) => {
                    let between = insns.get(at..index)?;
                    between.iter().all(|i| i.writes & (1 << src) == 0).then_some(src)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether a body of `record` that is inlined into a function has the address of `histogram` in a register.
fn uses(code: &dyn Code, decoded: &Decoded, analysis: &Analysis, histogram: u64) -> bool {
    let mut used = false;
    analysis.visit(|_, insn, registers| {
        used = used
            || registers.iter().any(|value| value.constant() == Some(histogram))
                && code
                    .inlined_at(&decoded.function, insn.address)
                    .iter()
                    .any(|name| name == RECORD);
    });
    used
}

/// If register `given` holds the field at `total` of a g at instruction `index`: the location of that g, as a
/// register or, if the instruction is a call, a stack slot.
fn goroutine(
    arch: Arch,
    insns: &[Insn],
    analysis: &Analysis,
    index: usize,
    total: u32,
    given: u8,
) -> Option<(u8, u32)> {
    let from = index.saturating_sub(WINDOW);
    let before = insns.get(from..index)?.iter().enumerate().rev();
    // It was either loaded from the field or, right after the sum if all is inlined, stored into it.
    let (at, same) = before
        .map(|(at, insn)| (from + at, insn))
        .find(|(_, insn)| insn.writes & (1 << given) != 0 || stores(insn, given))?;
    let base = moved(same, given, total)?;
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

/// Whether an instruction stores this register.
fn stores(insn: &Insn, register: u8) -> bool {
    match insn.op {
        Op::Store { src } => src == register,
        Op::StorePair { first, second } => first == register || second == register,
        _ => false,
    }
}

/// The base register of an instruction that loads or stores `register` from or to the 64-bit field at `offset`. The
/// arm64 compiler moves neighbouring fields in pairs.
fn moved(insn: &Insn, register: u8, offset: u32) -> Option<u8> {
    let mem = insn.mem?;
    // A pair load of two equal registers leaves either value.
    let (first, second) = match insn.op {
        Op::Load { dst } if insn.bytes == 8 => (Some(dst), None),
        Op::Store { src } if insn.bytes == 8 => (Some(src), None),
        Op::LoadPair { first, second } if insn.bytes == 16 && first != second => (Some(first), Some(second)),
        Op::StorePair { first, second } if insn.bytes == 16 => (Some(first), Some(second)),
        _ => return None,
    };
    if first == Some(register) && field_of(mem, offset).is_some() {
        return mem.base;
    }
    let next = Mem {
        disp: mem.disp.checked_add(8)?,
        ..mem
    };
    (second == Some(register))
        .then(|| field_of(next, offset))
        .flatten()
}

/// The base register of an operand that is the field at `offset`.
fn field_of(mem: Mem, offset: u32) -> Option<u8> {
    mem.base.filter(|_| !mem.indexed && mem.disp == i64::from(offset))
}

/// The stack slot from which the g is loaded, after the call, whose field is then set to 0.
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
        // An earlier store could be into that very slot.
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

#[cfg(test)]
mod tests;
