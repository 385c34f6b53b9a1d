//! The changes of goroutines' status that are looked for in the code.

use super::casgstatus::{RUNNABLE, RUNNING, may_be};

const IDLE: u64 = 0;
const SYSCALL: u64 = 3;
const WAITING: u64 = 4;
const DEAD: u64 = 6;
const COPYSTACK: u64 = 8;
const PREEMPTED: u64 = 9;
const LEAKED: u64 = 10;

/// Functions that are probed as a whole, so that changes inside are not reported twice.
const PROBED_AS_A_WHOLE: [&str; 1] = ["runtime.coroswitch_m"];
/// Likewise for system calls from Go 1.26 on, where the fast path is a compare-and-swap.
const SYSCALLS_AS_A_WHOLE: [&str; 2] = ["runtime.reentersyscall", "runtime.exitsyscall"];
/// Functions in which a goroutine becomes Waiting because it waits. Elsewhere it only has that status for a while, and
/// continues to run: a GC worker, a stopped world, a stack that is scanned.
const WHERE_GOROUTINES_WAIT: [&str; 4] = [
    "runtime.park_m",
    "runtime.newproc1",
    "runtime.newcoro",
    "runtime.casGToWaiting",
];
/// The function in which a goroutine marks for the garbage collector, in return for memory: it says that it waits, and
/// at the end that it runs again. Source: mgcmark.go, Go 1.19 to 1.27.
const ASSISTS: &str = "runtime.gcAssistAlloc1";
/// First minor version of Go in which the begin of an assist is seen, with its reason, in casGToWaiting.
const ASSISTS_SINCE: u32 = 21;

/// A choice of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changes {
    /// Into and out of Runnable.
    OfRunnable,
    /// All that matter to the scheduler.
    All {
        /// Go 1.`minor`.
        minor: u32,
    },
}

impl Changes {
    /// Whether a change is included: `from` and `to` are the statuses where they are constants, `place` the functions
    /// that it is in, innermost first.
    pub fn include(self, from: Option<u64>, to: Option<u64>, place: impl FnOnce() -> Vec<String>) -> bool {
        let minor = match self {
            Self::OfRunnable => return may_be(RUNNABLE, from) || may_be(RUNNABLE, to),
            Self::All { minor } => minor,
        };
        match (from, to) {
            // These do not matter to the scheduler: memory for a g, a stack that moves, a leak that is reported.
            (Some(IDLE), Some(DEAD))
            | (Some(RUNNING), Some(COPYSTACK))
            | (Some(COPYSTACK), Some(RUNNING)) => {
                return false;
            }
            (Some(LEAKED), _) | (_, Some(LEAKED)) | (Some(PREEMPTED), Some(WAITING)) => return false,
            // The end of a wait that was not a real one. That of an assist shows how long the goroutine worked for the
            // collector: one hit each, for usually 64 KiB or more that are marked (gcOverAssistWork).
            (Some(WAITING), Some(RUNNING)) => {
                return minor >= ASSISTS_SINCE && place().iter().any(|name| name == ASSISTS);
            }
            _ => {}
        }
        let place = place();
        let is_in = |functions: &[&str]| place.iter().any(|name| functions.contains(&name.as_str()));
        if is_in(&PROBED_AS_A_WHOLE) || minor >= 26 && is_in(&SYSCALLS_AS_A_WHOLE) {
            return false;
        }
        to != Some(WAITING) || is_in(&WHERE_GOROUTINES_WAIT)
    }

    /// Whether every system call makes this change.
    pub fn is_of_syscall(from: Option<u64>, to: Option<u64>) -> bool {
        matches!(
            (from, to),
            (Some(RUNNING), Some(SYSCALL)) | (Some(SYSCALL), Some(RUNNING))
        )
    }
}
