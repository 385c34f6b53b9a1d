//! `runtime.casgstatus`, through which every goroutine changes its status, and the statuses that `exact` and `sampled`
//! look for.

use crate::binary::{Code, Function};

/// Its name. Source: proc.go.
pub(super) const CASGSTATUS: &str = "runtime.casgstatus";
/// `_Grunnable`. Source: runtime2.go, all versions.
pub(super) const RUNNABLE: u64 = 1;
/// `_Grunning`.
pub(super) const RUNNING: u64 = 2;

/// How often casgstatus is inlined into `function`, as its inline tree says.
pub(super) fn inlined(code: &dyn Code, function: &Function) -> usize {
    code.inlined_into(function)
        .iter()
        .filter(|(name, _)| name == CASGSTATUS)
        .map(|(_, n)| n)
        .sum()
}

/// False if `status` is known and is another.
pub(super) fn may_be(wanted: u64, status: Option<u64>) -> bool {
    status.is_none_or(|s| s == wanted)
}
