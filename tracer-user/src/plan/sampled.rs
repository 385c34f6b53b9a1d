//! The site of `sampled`: where casgstatus takes the end time of a wait that the runtime tracks. From Go 1.26 on
//! there is a better one a little later, see [`super::recorded`].
//!
//! ```go
//! case _Grunnable:            // oldval, if gp.tracking
//!     now := nanotime()       // <- the call of runtime.nanotime1 is the site
//!     gp.runnableTime += now - gp.trackingStamp
//!     gp.trackingStamp = 0
//! ```
//! Source: proc.go, casgstatus, Go 1.21 to 1.27; Go 1.19 has `runnableStamp` in place of `trackingStamp`. Fields are
//! recognized by their use, so that no layout is needed: the stamp is what is subtracted from the time, and the
//! difference is added to the `int64` after it. Where the compiler inlines nothing (`-gcflags=all=-l`), the call of
//! nanotime itself is the site.

use super::casgstatus::{CASGSTATUS, RUNNABLE, inlined, may_be};
use super::recorded::{FIRST_WITHOUT_ZEROS, RECORD, recorded};
use super::sites::{Decoded, site};
use super::{Attempt, Site, SiteKind, called, entry, swap};
use crate::binary::code::flow::{Analysis, Value};
use crate::binary::code::{self, Flow, Insn, Mem, Op};
use crate::binary::layout::Layout;
use crate::binary::{Arch, Code};
use tracer_ebpf::gp_in;

/// How many instructions after the call are considered.
const WINDOW: usize = 24;
/// `tracking` and `trackingSeq` lie less than this many bytes before the stamp.
const TRACKING_BEFORE_STAMP: i64 = 8;

/// What was found for `sampled`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// The sites: one for casgstatus and one for each place that it was inlined into.
    pub sites: Vec<Site>,
    /// What was tried before, and failed.
    pub attempts: Vec<Attempt>,
    /// Offset of `g.trackingStamp` (Go 1.19: `runnableStamp`) as the code uses it.
    pub stamp: Option<u32>,
}

/// The sites that `sampled` needs in a program of Go 1.`minor`.
///
/// # Errors
/// What was tried and why it failed.
pub fn sampled(
    code: &dyn Code,
    layout: Option<&Layout>,
    minor: u32,
    force: bool,
) -> Result<Sampled, Vec<Attempt>> {
    let tracked = match tracked(code, layout, force) {
        Ok((mut sites, functions, stamp)) => {
            let mut attempts = Vec::new();
            if minor >= FIRST_WITHOUT_ZEROS {
                match recorded(code, &functions, stamp, force) {
                    Ok(better) => sites = better,
                    Err(attempt) => attempts.push(attempt),
                }
            }
            return Ok(Sampled {
                sites,
                attempts,
                stamp: Some(stamp),
            });
        }
        Err(attempt) => attempt,
    };
    match whole_record(code, force) {
        Ok(site) => Ok(Sampled {
            sites: vec![site],
            attempts: vec![tracked],
            stamp: None,
        }),
        Err(attempt) => Err(vec![tracked, attempt]),
    }
}

/// The sites, their functions with the number of sites in each, and the offset of the stamp.
type Tracked = (Vec<Site>, Vec<(Decoded, usize)>, u32);

/// The calls of nanotime1 that end a tracked wait.
fn tracked(code: &dyn Code, layout: Option<&Layout>, force: bool) -> Result<Tracked, Attempt> {
    let fail = |outcome: String| Attempt {
        what: "the end of a tracked wait in runtime.casgstatus".into(),
        outcome,
    };
    let clock = Clock::all(code);
    if clock.is_empty() {
        return Err(fail("the binary has no function runtime.nanotime1".into()));
    }
    let casgstatus = code.functions(CASGSTATUS);
    let status = swap::status_offset(code, &casgstatus, &called::swappers(code), layout)?;
    let mut sites = Vec::new();
    let mut stamps = Vec::new();
    let mut functions = Vec::new();
    for function in code.runtime_functions() {
        let itself = casgstatus.contains(function);
        if !itself && !swap::may_swap(code, function, status, || inlined(code, function)) {
            continue;
        }
        let decoded = Decoded::new(code, function)?;
        if !itself && !may_leave_runnable(code, &decoded, status) {
            continue;
        }
        let ends = ends(code, &decoded, &clock, layout, force)?;
        if ends.is_empty() {
            return Err(fail(format!(
                "no call of nanotime1 in {} is followed by what ends a tracked wait",
                function.name
            )));
        }
        functions.push((decoded, ends.len()));
        for (site, stamp) in ends {
            sites.push(site);
            stamps.push(stamp);
        }
    }
    stamps.dedup();
    match stamps.as_slice() {
        [stamp] => Ok((sites, functions, *stamp)),
        [] => Err(fail("the binary has no such function".into())),
        _ => Err(fail(format!(
            "the code disagrees with itself on where the stamp is: {stamps:?}"
        ))),
    }
}

/// Whether casgstatus may be inlined into this function to take a goroutine out of Runnable.
fn may_leave_runnable(code: &dyn Code, decoded: &Decoded, status: u32) -> bool {
    let analysis = Analysis::new(code.arch(), &decoded.insns, |_| None);
    let swaps = swap::swaps(code, decoded, &analysis, status);
    swaps.iter().any(|swap| may_be(RUNNABLE, swap.from))
}

/// The entry of `(*timeHistogram).record`, which the runtime calls for each tracked wait.
fn whole_record(code: &dyn Code, force: bool) -> Result<Site, Attempt> {
    let fail = |outcome: &str| Attempt {
        what: RECORD.into(),
        outcome: outcome.into(),
    };
    let functions = code.functions(RECORD);
    let [function] = functions.as_slice() else {
        return Err(fail("the binary has no such function: it is inlined"));
    };
    let callers = code
        .runtime_functions()
        .iter()
        .filter(|f| f.name == CASGSTATUS || inlined(code, f) > 0);
    for caller in callers {
        if code.inlined_into(caller).iter().any(|(name, _)| name == RECORD) {
            return Err(fail(&format!("it is inlined into {}", caller.name)));
        }
    }
    let mut site = entry::site(code, function, 2, SiteKind::HistogramRecord, force)?;
    // The goroutine is not an argument; it is the one that the M has just begun to run.
    site.gp_in = tracer_ebpf::gp_in::CURG;
    Ok(site)
}

/// Where a function leaves the time that it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returned {
    /// As ABI0 has it: above the (empty) arguments.
    OnStack,
    /// As ABIInternal has it: in the first register.
    InRegister,
}

/// A function that reads the clock.
struct Clock {
    start: u64,
    returned: Returned,
}

impl Clock {
    /// nanotime1 is assembly. nanotime, which only calls it, is called itself where the compiler inlines nothing.
    fn all(code: &dyn Code) -> Vec<Self> {
        let named = |name: &str, returned| {
            let functions = code.functions(name).into_iter();
            functions.map(move |f| Self {
                start: f.start,
                returned,
            })
        };
        let assembly = named("runtime.nanotime1", Returned::OnStack);
        assembly
            .chain(named("runtime.nanotime", Returned::InRegister))
            .collect()
    }
}

/// The sites in one function, each with the offset of the stamp that it uses.
fn ends(
    code: &dyn Code,
    decoded: &Decoded,
    clock: &[Clock],
    layout: Option<&Layout>,
    force: bool,
) -> Result<Vec<(Site, u32)>, Attempt> {
    let Decoded { function, insns } = decoded;
    let mut found = Vec::new();
    for (index, insn) in insns.iter().enumerate() {
        let Flow::Call(Some(target)) = insn.flow else {
            continue;
        };
        let called = clock.iter().find(|clock| clock.start == target);
        let wait = called.and_then(|clock| tracked_wait(code.arch(), insns, index, clock.returned));
        let Some((stamp, slot)) = wait else {
            continue;
        };
        if let Some(layout) = layout
            && (layout.g.tracking_stamp != stamp || layout.g.runnable_time != stamp + 8)
        {
            return Err(Attempt {
                what: format!("{}+{:#x}", function.name, insn.address - function.start),
                outcome: format!(
                    "the code has g.trackingStamp at {stamp}, the layout of this Go version at {}",
                    layout.g.tracking_stamp
                ),
            });
        }
        let mut site = site(code, function, insn, SiteKind::TrackedWaitEnds, force)?;
        (site.gp_in, site.slot) = match goroutine(code.arch(), insns, index, stamp, layout) {
            Some(register) => (register, 0),
            None => (gp_in::STACK_SLOT, slot),
        };
        found.push((site, stamp));
    }
    Ok(found)
}

/// A value after the call of nanotime1.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TimeValue {
    Nothing,
    /// What the clock returned.
    Now,
    /// What this stack slot held.
    Slot(u32),
    /// The field of the g in slot .0 at offset .1.
    Field(u32, u32),
    /// Now minus the field.
    Elapsed(u32, u32),
    /// Elapsed since the field .1, plus the field at .2.
    Total(u32, u32, u32),
}

/// If the call at `index` ends a tracked wait: the offset of the stamp, and the stack slot with the g.
fn tracked_wait(arch: Arch, insns: &[Insn], index: usize, returned: Returned) -> Option<(u32, u32)> {
    let mut held = [TimeValue::Nothing; 32];
    let result = match (returned, arch) {
        (Returned::OnStack, Arch::Amd64) => Some(0),
        // Above the saved link register, too.
        (Returned::OnStack, Arch::Arm64) => Some(8),
        (Returned::InRegister, _) => {
            // The first result is where the first argument is.
            *held.get_mut(usize::from(code::argument(arch, 0)))? = TimeValue::Now;
            None
        }
    };
    for insn in insns.get(index + 1..)?.iter().take(WINDOW) {
        if insn.flow != Flow::Next {
            return None;
        }
        let get = |r: u8| held.get(usize::from(r)).copied().unwrap_or(TimeValue::Nothing);
        let memory = |further: i64| -> TimeValue {
            let Some(Mem {
                base: Some(base),
                disp,
                indexed: false,
            }) = insn.mem
            else {
                return TimeValue::Nothing;
            };
            let Ok(disp) = u32::try_from(disp.wrapping_add(further)) else {
                return TimeValue::Nothing;
            };
            if base == code::stack_pointer(arch) {
                return if Some(disp) == result {
                    TimeValue::Now
                } else {
                    TimeValue::Slot(disp)
                };
            }
            match get(base) {
                TimeValue::Slot(slot) => TimeValue::Field(slot, disp),
                _ => TimeValue::Nothing,
            }
        };
        let minus = |a, b| match (a, b) {
            (TimeValue::Now, TimeValue::Field(slot, stamp)) => TimeValue::Elapsed(slot, stamp),
            _ => TimeValue::Nothing,
        };
        let plus = |a, b| match (a, b) {
            (TimeValue::Elapsed(slot, stamp), TimeValue::Field(other, total)) if slot == other => {
                TimeValue::Total(slot, stamp, total)
            }
            _ => TimeValue::Nothing,
        };
        let mem = memory(0);
        let stored = match insn.op {
            Op::Store { src } => [(get(src), mem), (TimeValue::Nothing, mem)],
            Op::StorePair { first, second } => [(get(first), mem), (get(second), memory(8))],
            Op::AddToMem { src } => [(plus(get(src), mem), mem), (TimeValue::Nothing, mem)],
            _ => [(TimeValue::Nothing, mem); 2],
        };
        for (value, at) in stored {
            if let (TimeValue::Total(slot, stamp, total), TimeValue::Field(other, at)) = (value, at) {
                let right = slot == other && at == total && total == stamp.checked_add(8)?;
                return right.then_some((stamp, slot));
            }
        }
        let mut second = None;
        let result = match insn.op {
            Op::Load { dst } if insn.bytes == 8 => Some((dst, mem)),
            Op::LoadPair { first, second: dst } if insn.bytes == 16 => {
                second = Some((dst, memory(8)));
                Some((first, mem))
            }
            Op::Move { dst, src } if insn.bytes == 8 => Some((dst, get(src))),
            Op::SubMem { dst } => Some((dst, minus(get(dst), mem))),
            Op::AddMem { dst } => Some((dst, plus(get(dst), mem))),
            Op::Sub { dst, a, b } => Some((dst, minus(get(a), get(b)))),
            Op::Add { dst, a, b } => Some((
                dst,
                match plus(get(a), get(b)) {
                    TimeValue::Nothing => plus(get(b), get(a)),
                    total => total,
                },
            )),
            _ => None,
        };
        for (n, value) in held.iter_mut().enumerate() {
            if insn.writes & (1 << n) != 0 {
                *value = TimeValue::Nothing;
            }
        }
        for (dst, value) in result.into_iter().chain(second) {
            if let Some(held) = held.get_mut(usize::from(dst)) {
                *held = value;
            }
        }
    }
    None
}

/// The register that provably holds the g at the call, if there is one: the one whose `tracking` was tested on the
/// way to it.
fn goroutine(arch: Arch, insns: &[Insn], index: usize, stamp: u32, layout: Option<&Layout>) -> Option<u8> {
    let fields = match layout {
        Some(layout) => i64::from(layout.g.tracking)..=i64::from(layout.g.tracking),
        None => i64::from(stamp) - TRACKING_BEFORE_STAMP..=i64::from(stamp) - 1,
    };
    let analysis = Analysis::new(arch, insns, |insn| {
        let mem = insn
            .mem
            .filter(|m| !m.indexed && fields.contains(&m.disp) && insn.bytes == 1)?;
        let reads = matches!(insn.op, Op::CompareMem { .. } | Op::Load { .. });
        mem.base
            .filter(|base| reads && *base != code::stack_pointer(arch))
    });
    let registers = analysis.before(index);
    registers
        .iter()
        .position(|v| matches!(v, Value::Marked(_)))
        .and_then(|n| u8::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::code::amd64;

    /// `call`, then what is given.
    fn after_call(tail: &[u8], returned: Returned) -> Option<(u32, u32)> {
        let mut bytes = vec![0xe8, 0, 0x10, 0, 0];
        bytes.extend(tail);
        let insns = amd64::decode(&bytes, 0).unwrap();
        tracked_wait(Arch::Amd64, &insns, 0, returned)
    }

    /// `mov rcx,[rsp+0x48]; sub rax,[rcx+0xc0]; add [rcx+0xc8],rax`
    const END: [u8; 19] = [
        0x48, 0x8b, 0x4c, 0x24, 0x48, 0x48, 0x2b, 0x81, 0xc0, 0, 0, 0, 0x48, 0x01, 0x81, 0xc8, 0, 0, 0,
    ];

    #[test]
    fn the_time_is_where_the_calling_convention_has_it() {
        assert_eq!(after_call(&END, Returned::InRegister), Some((0xc0, 0x48)));
        assert_eq!(after_call(&END, Returned::OnStack), None);
        // mov rax,[rsp]
        let loaded = [&[0x48, 0x8b, 0x04, 0x24][..], &END].concat();
        assert_eq!(after_call(&loaded, Returned::OnStack), Some((0xc0, 0x48)));
        assert_eq!(after_call(&loaded, Returned::InRegister), None);
    }

    #[test]
    fn what_is_only_stored_ends_no_wait() {
        // mov rcx,[rsp+0x48]; mov [rcx+0xc0],rax: the begin of one.
        let begin = [0x48, 0x8b, 0x4c, 0x24, 0x48, 0x48, 0x89, 0x81, 0xc0, 0, 0, 0];
        assert_eq!(after_call(&begin, Returned::InRegister), None);
        // The sum goes into another field: add [rcx+0xd0],rax.
        let mut other = END;
        other[15] = 0xd0;
        assert_eq!(after_call(&other, Returned::InRegister), None);
    }
}
