//! The sites of `exact`: every place where a goroutine becomes Runnable, or Running from Runnable.

use super::sites::{Decoded, site};
use super::{Attempt, Origin, Site, SiteKind, changes::Changes, swap, whole};
use crate::binary::code::flow::{Analysis, Value};
use crate::binary::code::{self, Insn};
use crate::binary::layout::Layout;
use crate::binary::{Arch, Code, Function};
use std::collections::HashSet;

/// The function through which every goroutine changes its status. Source: proc.go.
pub(super) const CASGSTATUS: &str = "runtime.casgstatus";
/// More sites than any function of the runtime has (findRunnable has 5): excludes what only looks like code.
const MAX_SITES: usize = 64;
/// `_Grunnable`. Source: runtime2.go, all versions.
pub(super) const RUNNABLE: u64 = 1;

/// `_Grunning`.
pub(super) const RUNNING: u64 = 2;

/// All sites that `exact` needs.
///
/// # Errors
/// What was tried and why it failed: a result never misses a transition.
pub fn exact(code: &dyn Code, layout: Option<&Layout>, force: bool) -> Result<Vec<Site>, Vec<Attempt>> {
    of_changes(code, layout, Changes::OfRunnable, force)
}

/// The sites of those changes of goroutines' status that `changes` includes.
///
/// # Errors
/// As [`exact`].
pub(super) fn of_changes(
    code: &dyn Code,
    layout: Option<&Layout>,
    changes: Changes,
    force: bool,
) -> Result<Vec<Site>, Vec<Attempt>> {
    let casgstatus = code.functions(CASGSTATUS);
    if casgstatus.is_empty() {
        return Err(vec![Attempt {
            what: CASGSTATUS.into(),
            outcome: "the binary has no such function".into(),
        }]);
    }
    let mut sites = Vec::new();
    let mut failures = Vec::new();
    let status = swap::status_offset(code, &casgstatus, layout).map_err(|attempt| vec![attempt])?;
    for function in code.runtime_functions() {
        let bytes = code.code_of(function).unwrap_or_default();
        let calls = casgstatus
            .iter()
            .any(|c| code::may_reach(code.arch(), bytes, function.start, c.start));
        let inlined = inlined(code, function);
        let swaps = inlined > 0 || swap::may_swap(code, function, status, || inlined);
        if casgstatus.contains(function) || !(calls || swaps) {
            continue;
        }
        let found = Decoded::new(code, function).and_then(|decoded| {
            let analysis = Analysis::new(code.arch(), &decoded.insns, |_| None);
            let mut found = self::calls(code, &decoded, &analysis, &casgstatus, changes, force)?;
            found.extend(swap::sites(
                code, &decoded, &analysis, status, inlined, changes, force,
            )?);
            Ok(found)
        });
        match found {
            Ok(found) => sites.extend(found),
            Err(attempt) => failures.push(attempt),
        }
    }
    if !failures.is_empty() {
        return Err(failures);
    }
    let enters = |s: &Site| s.origin.is_some();
    if !sites.iter().any(enters) || sites.iter().all(enters) {
        return Err(vec![Attempt {
            what: "changes of goroutines' status".into(),
            outcome: "none was found into Runnable, or none out of it".into(),
        }]);
    }
    Ok(sites)
}

/// How often casgstatus is inlined into `function`, as its inline tree says.
pub(super) fn inlined(code: &dyn Code, function: &Function) -> usize {
    code.inlined_into(function)
        .iter()
        .filter(|(name, _)| name == CASGSTATUS)
        .map(|(_, n)| n)
        .sum()
}

/// The calls of casgstatus in `function` that may enter or leave Runnable.
fn calls(
    code: &dyn Code,
    decoded: &Decoded,
    analysis: &Analysis,
    casgstatus: &[Function],
    changes: Changes,
    force: bool,
) -> Result<Vec<Site>, Attempt> {
    let mut found = Vec::new();
    analysis.visit(|index, insn, registers| {
        if !insn
            .target()
            .is_some_and(|t| casgstatus.iter().any(|c| c.start == t))
        {
            return;
        }
        // Constants after the code of an arm64 function may look like instructions.
        if code.arch() == Arch::Arm64 && !analysis.is_reached(index) {
            return;
        }
        let argument = |n| {
            let value = registers.get(usize::from(code::argument(code.arch(), n)));
            // The statuses are uint32; the upper half of the register does not matter.
            value.copied().and_then(Value::constant).map(|v| v & 0xffff_ffff)
        };
        let (old, new) = (argument(1), argument(2));
        let place = || place(code, &decoded.function, insn.address);
        if changes.include(old, new, place) {
            found.push((index, *insn, old, new));
        }
    });
    if found.len() > MAX_SITES {
        return Err(Attempt {
            what: decoded.function.name.to_string(),
            outcome: format!("it calls casgstatus {} times, which no runtime does", found.len()),
        });
    }
    let mut sites = Vec::new();
    for (index, insn, old, new) in &found {
        let mut site = site(code, &decoded.function, insn, SiteKind::StatusCall, force)?;
        site.gp_in = code::argument(code.arch(), 0);
        site.of_syscall = Changes::is_of_syscall(*old, *new);
        let named = |status: Option<u64>| status.and_then(|s| u8::try_from(s).ok()).unwrap_or(0);
        site.statuses_in = (named(*old), named(*new));
        if may_be(RUNNABLE, *new) {
            site.origin = Some(origin(code, decoded, analysis, *index));
        }
        let is_alone = found
            .iter()
            .filter(|other| (other.2, other.3) == (*old, *new))
            .count()
            == 1;
        let cheaper = old
            .zip(*new)
            .filter(|_| is_alone)
            .and_then(|change| whole::site(code, &decoded.function, change, &site));
        sites.push(cheaper.unwrap_or(site));
    }
    Ok(sites)
}

/// Whether `status` is `wanted`, or is not known.
pub(super) fn may_be(wanted: u64, status: Option<u64>) -> bool {
    status.is_none_or(|s| s == wanted)
}

/// The functions that the instruction at `address` belongs to, the innermost inlined one first.
fn place(code: &dyn Code, function: &Function, address: u64) -> Vec<String> {
    let mut names = code.inlined_at(function, address);
    names.push(function.name.raw().to_owned());
    names
}

/// How a goroutine becomes runnable whose status instruction `index` sets. With profile-guided optimisation one of
/// these functions may be inlined into another: the innermost known one decides.
pub(super) fn origin(code: &dyn Code, decoded: &Decoded, analysis: &Analysis, index: usize) -> Origin {
    let address = decoded.insns.get(index).map_or(0, |i| i.address);
    for name in place(code, &decoded.function, address) {
        return match name.as_str() {
            "runtime.newproc1" => Origin::Created,
            "runtime.injectglist" => Origin::Netpoll,
            "runtime.goschedImpl" | "runtime.goyield_m" => Origin::Yielded,
            "runtime.exitsyscall0" | "runtime.exitsyscallNoP" => Origin::Syscall,
            "runtime.ready" | "runtime.park_m" => Origin::Unblocked,
            "runtime.findRunnable" if after_netpoll(code, &decoded.insns, analysis, index) => Origin::Netpoll,
            "runtime.findRunnable" => Origin::Unblocked,
            _ => continue,
        };
    }
    Origin::Unblocked
}

/// Whether on every path to `index` the previous call is one that findRunnable makes with a list of goroutines from
/// the network poller.
fn after_netpoll(code: &dyn Code, insns: &[Insn], analysis: &Analysis, index: usize) -> bool {
    let starts = |names: &[&str]| -> HashSet<u64> {
        names
            .iter()
            .flat_map(|n| code.functions(n))
            .map(|f| f.start)
            .collect()
    };
    let poll = starts(&[
        "runtime.netpoll",
        "runtime.injectglist",
        "runtime.netpollAdjustWaiters",
    ]);
    // These may come in between, and say nothing about where the goroutine came from.
    let pass = starts(&["runtime.traceAcquire", "runtime.traceAcquireEnabled"]);
    let mut work = analysis.previous(index);
    let mut seen: HashSet<usize> = work.iter().copied().collect();
    let mut found = false;
    while let Some(at) = work.pop() {
        let target = insns
            .get(at)
            .filter(|i| matches!(i.flow, code::Flow::Call(_)))
            .map(|i| i.target());
        match target {
            Some(Some(target)) if poll.contains(&target) => found = true,
            Some(Some(target)) if pass.contains(&target) => {}
            Some(_) => return false,
            None => {}
        }
        if !matches!(target, Some(Some(t)) if poll.contains(&t)) {
            let before = analysis.previous(at);
            if before.is_empty() {
                return false;
            }
            work.extend(before.into_iter().filter(|b| seen.insert(*b)));
        }
    }
    found
}
