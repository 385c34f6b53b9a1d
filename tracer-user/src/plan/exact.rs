//! The sites of `exact`: every place where a goroutine becomes Runnable, or Running from Runnable.

use super::casgstatus::{CASGSTATUS, RUNNABLE, inlined, may_be};
use super::origin::{origin, place};
use super::sites::{Decoded, site};
use super::{Attempt, Site, SiteKind, called, changes::Changes, swap, whole};
use crate::binary::code;
use crate::binary::code::flow::{Analysis, Value};
use crate::binary::layout::Layout;
use crate::binary::{Arch, Code, Function};

/// More sites than any function of the runtime has (findRunnable has 5): stops what only looks like one.
const MAX_SITES: usize = 64;

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
    let swappers = called::swappers(code);
    let status =
        swap::status_offset(code, &casgstatus, &swappers, layout).map_err(|attempt| vec![attempt])?;
    for function in code.runtime_functions() {
        let bytes = code.code_of(function).unwrap_or_default();
        let reaches = |callees: &[Function]| {
            let mut callees = callees.iter();
            callees.any(|c| code::may_reach(code.arch(), bytes, function.start, c.start))
        };
        let calls = reaches(&casgstatus) || reaches(&swappers);
        let inlined = inlined(code, function);
        let swaps = inlined > 0 || swap::may_swap(code, function, status, || inlined);
        if casgstatus.contains(function) || !(calls || swaps) {
            continue;
        }
        let found = Decoded::new(code, function).and_then(|decoded| {
            let analysis = Analysis::new(code.arch(), &decoded.insns, |_| None);
            called::check_no_bypass(code, &decoded, &analysis, status, &swappers)?;
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
