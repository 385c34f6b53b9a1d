//! Addresses of the runtime's variables, from the operands of the code that uses them: a stripped binary does not
//! have them elsewhere.

use super::code::flow::{self, Analysis, Registers, Value};
use super::code::{self, Flow, Insn, Op};
use super::layout::Layout;
use super::{Code, Globals};
use std::collections::{BTreeSet, HashMap};

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

/// Finds the variables. To be used only after a check of live memory: code shows where a variable should be, not that
/// it is the right one.
pub fn find(code: &dyn Code, layout: Option<&Layout>) -> Globals {
    let sched = layout.and_then(|l| sched(code, l));
    let by_layout = sched
        .zip(layout)
        .and_then(|(s, l)| s.checked_add(u64::from(l.sched.time_to_run)));
    let time_to_run = match (recorded(code), by_layout) {
        // The two ways disagree: one of them is wrong, and it is not known which.
        (Some(a), Some(b)) if a != b => None,
        (a, b) => a.or(b),
    };
    let in_sched = |address: u64| {
        let size = layout.map_or(0, |l| u64::from(l.sched.size));
        sched.is_some_and(|s| address.checked_sub(s).is_some_and(|at| at < size))
    };
    let procresize = accesses(code, "runtime.procresize");
    Globals {
        sched,
        time_to_run,
        allp: allp(code, &procresize),
        allgs: one(slices(&accesses(code, "runtime.allgadd"))),
        allm: only(&arguments(
            code,
            &["runtime.mcommoninit"],
            &["runtime.atomicwb", "runtime.atomicstorep"],
        )),
        gomaxprocs: gomaxprocs(code, &procresize, in_sched),
    }
}

/// `&allp`: procresize uses all three words of that slice, and of the masks next to it; retake reads pointer and
/// length of that slice alone.
fn allp(code: &dyn Code, procresize: &[Access]) -> Option<u64> {
    let retake = words(&accesses(code, "runtime.retake"));
    one(slices(procresize)
        .into_iter()
        .filter(|a| retake.contains(a) && retake.contains(&(a + 8))))
}

/// `&gomaxprocs`: the int32 that procresize reads first, and schedtrace too.
fn gomaxprocs(code: &dyn Code, procresize: &[Access], in_sched: impl Fn(u64) -> bool) -> Option<u64> {
    let ints = |accesses: &[Access]| -> Vec<u64> {
        let loads = accesses
            .iter()
            .filter(|a| a.bytes == 4 && a.loads && !in_sched(a.address));
        loads.map(|a| a.address).collect()
    };
    let traced = ints(&accesses(code, "runtime.schedtrace"));
    ints(procresize).into_iter().find(|a| traced.contains(a))
}

/// A read or write of a variable.
#[derive(Clone, Copy, Debug)]
struct Access {
    address: u64,
    bytes: u8,
    /// Whether it is a plain load into a register.
    loads: bool,
}

/// The reads and writes of `function` at constant addresses, in the order of its code.
fn accesses(code: &dyn Code, function: &str) -> Vec<Access> {
    let mut accesses = Vec::new();
    each(code, &[function], |_, insn, registers| {
        let Some(address) = flow::address(insn, registers) else {
            return;
        };
        let loads = matches!(insn.op, Op::Load { .. });
        // A longer access is one of a pair of registers or of a vector register.
        let bytes = match insn.op {
            Op::LoadPair { .. } | Op::StorePair { .. } => insn.bytes / 2,
            _ => insn.bytes.min(8),
        };
        for n in 0..insn.bytes.checked_div(bytes).unwrap_or(0) {
            let address = address.wrapping_add(u64::from(n) * u64::from(bytes));
            accesses.push(Access {
                address,
                bytes,
                loads,
            });
        }
    });
    accesses
}

/// Addresses of 8-byte words among the accesses.
fn words(accesses: &[Access]) -> BTreeSet<u64> {
    accesses
        .iter()
        .filter(|a| a.bytes == 8)
        .map(|a| a.address)
        .collect()
}

/// Addresses of possible slices among the accesses: three words in a row.
fn slices(accesses: &[Access]) -> BTreeSet<u64> {
    let words = words(accesses);
    let all = |a: &u64| (1..3).all(|n| a.checked_add(8 * n).is_some_and(|w| words.contains(&w)));
    words.iter().copied().filter(all).collect()
}

/// The only item, if there is exactly one.
fn one(items: impl IntoIterator<Item = u64>) -> Option<u64> {
    let mut items = items.into_iter();
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// `&sched.timeToRun`: the receiver of the call of `(*timeHistogram).record` in casgstatus.
fn recorded(code: &dyn Code) -> Option<u64> {
    let votes = arguments(
        code,
        &["runtime.casgstatus"],
        &["runtime.(*timeHistogram).record"],
    );
    only(&votes)
}

/// `&sched`: what most calls of lock2 (of lock, where the compiler inlines nothing) in these functions lock is
/// `sched.lock`.
fn sched(code: &dyn Code, layout: &Layout) -> Option<u64> {
    let votes = arguments(code, &LOCKERS_OF_SCHED, &["runtime.lock2", "runtime.lock"]);
    most(&votes)?.checked_sub(u64::from(layout.sched.lock))
}

/// How often each constant is the first argument of a call of one of `callees` in the functions `callers`.
fn arguments(code: &dyn Code, callers: &[&str], callees: &[&str]) -> HashMap<u64, usize> {
    let callees: Vec<_> = callees.iter().flat_map(|name| code.functions(name)).collect();
    let mut votes = HashMap::new();
    let first = usize::from(code::argument(code.arch(), 0));
    each(code, callers, |_, insn, registers| {
        if matches!(insn.flow, Flow::Call(Some(t)) if callees.iter().any(|c| c.start == t))
            && let Some(value) = registers.get(first).copied().and_then(Value::constant)
        {
            *votes.entry(value).or_default() += 1;
        }
    });
    votes
}

/// Calls `with` for every instruction of each of the functions, with what the registers hold before it.
fn each(code: &dyn Code, names: &[&str], mut with: impl FnMut(usize, &Insn, &Registers)) {
    for function in names.iter().flat_map(|n| code.functions(n)) {
        if let Ok(insns) = code::decode(code, &function) {
            Analysis::new(code.arch(), &insns, |_| None).visit(&mut with);
        }
    }
}

/// The address with the most votes, if it has twice as many as the next.
fn most(votes: &HashMap<u64, usize>) -> Option<u64> {
    let mut sorted: Vec<(u64, usize)> = votes.iter().map(|(a, n)| (*a, *n)).collect();
    sorted.sort_by_key(|(address, n)| (std::cmp::Reverse(*n), *address));
    match sorted.as_slice() {
        [(address, _)] => Some(*address),
        [(address, n), (_, next), ..] if *n >= next * 2 => Some(*address),
        _ => None,
    }
}

/// The only address, if there is exactly one.
fn only(votes: &HashMap<u64, usize>) -> Option<u64> {
    if votes.len() == 1 {
        votes.keys().next().copied()
    } else {
        None
    }
}
