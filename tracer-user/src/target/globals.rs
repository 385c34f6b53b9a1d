//! Addresses of the runtime's variables, from the operands of the code that uses them: a stripped binary
//! has no other word about them.

use super::code::flow::{Analysis, Value};
use super::code::{self, Flow, Insn};
use super::layout::Layout;
use super::{Code, Globals};
use std::collections::HashMap;

/// Functions that lock `sched.lock` and little else, in all versions.
const LOCKERS_OF_SCHED: [&str; 8] = [
    "runtime.stopm",
    "runtime.startm",
    "runtime.injectglist",
    "runtime.findRunnable",
    "runtime.goschedImpl",
    "runtime.mexit",
    "runtime.handoffp",
    "runtime.stopTheWorldWithSema",
];

/// All that can be found.
pub fn find(code: &dyn Code, layout: Option<&Layout>) -> Globals {
    let sched = layout.and_then(|l| sched(code, l));
    let by_sched = sched
        .zip(layout)
        .and_then(|(s, l)| s.checked_add(u64::from(l.sched.time_to_run)));
    Globals {
        sched,
        time_to_run: recorded(code).or(by_sched),
        ..Globals::default()
    }
}

/// `&sched.timeToRun`: the receiver of the call of `(*timeHistogram).record` in casgstatus.
fn recorded(code: &dyn Code) -> Option<u64> {
    let votes = arguments(code, &["runtime.casgstatus"], "runtime.(*timeHistogram).record");
    only(&votes)
}

/// `&sched`: what most calls of lock2 in these functions lock is `sched.lock`.
fn sched(code: &dyn Code, layout: &Layout) -> Option<u64> {
    let votes = arguments(code, &LOCKERS_OF_SCHED, "runtime.lock2");
    most(&votes)?.checked_sub(u64::from(layout.sched.lock))
}

/// How often each constant is the first argument of a call of `callee` in the functions `callers`.
fn arguments(code: &dyn Code, callers: &[&str], callee: &str) -> HashMap<u64, usize> {
    let callees = code.functions(callee);
    let mut votes = HashMap::new();
    let first = usize::from(code::argument(code.arch(), 0));
    each(code, callers, |insns, analysis| {
        for (index, insn) in insns.iter().enumerate() {
            if matches!(insn.flow, Flow::Call(Some(t)) if callees.iter().any(|c| c.start == t))
                && let Some(value) = analysis
                    .before(index)
                    .get(first)
                    .copied()
                    .and_then(Value::constant)
            {
                *votes.entry(value).or_default() += 1;
            }
        }
    });
    votes
}

/// Decodes and analyses each of the functions that there are.
fn each(code: &dyn Code, names: &[&str], mut with: impl FnMut(&[Insn], &Analysis)) {
    for function in names.iter().flat_map(|n| code.functions(n)) {
        if let Ok(insns) = code::decode(code, &function) {
            let analysis = Analysis::new(code.arch(), &insns, |_| None);
            with(&insns, &analysis);
        }
    }
}

/// The address with the most votes, if it is ahead of the next by a factor of two.
fn most(votes: &HashMap<u64, usize>) -> Option<u64> {
    let mut sorted: Vec<(u64, usize)> = votes.iter().map(|(a, n)| (*a, *n)).collect();
    sorted.sort_by_key(|(address, n)| (std::cmp::Reverse(*n), *address));
    match sorted.as_slice() {
        [(address, _)] => Some(*address),
        [(address, n), (_, next), ..] if *n >= next * 2 => Some(*address),
        _ => None,
    }
}

/// The address, if there is just one.
fn only(votes: &HashMap<u64, usize>) -> Option<u64> {
    if votes.len() == 1 {
        votes.keys().next().copied()
    } else {
        None
    }
}
