//! How a goroutine became runnable, by the functions in which its status changes.

use std::collections::HashSet;

use super::{Origin, sites::Decoded};
use crate::binary::code::flow::Analysis;
use crate::binary::code::{self, Insn};
use crate::binary::{Code, Function};

/// The functions that the instruction at `address` belongs to, the innermost inlined one first.
pub(super) fn place(code: &dyn Code, function: &Function, address: u64) -> Vec<String> {
    let mut names = code.inlined_at(function, address);
    names.push(function.name.raw().to_owned());
    names
}

/// How a goroutine became runnable whose status is set by instruction `index`. With profile-guided
/// optimisation one of these functions may be inlined into another: the innermost known one decides.
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

/// True if on every path to `index` the call before it is one that findRunnable makes with a list of
/// goroutines from the network poller.
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
    // Stands between the two, and says nothing about where the goroutine came from.
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
