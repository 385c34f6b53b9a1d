//! Checks whether a layout and the addresses of variables fit a live process. Code says where a variable should be,
//! and a table where its fields should be; here the memory itself is checked before it is interpreted.
//!
//! The checks are relations that hold in every version (Go 1.19 to 1.27, `proc.go` and `runtime2.go`), and that other
//! bytes would hardly satisfy: `allp[i].id == i`, `m.g0.m == m` along the whole of `allm`, as many Ms as `sched`
//! counts, distinct goroutine ids, stacks whose ends are in order. The process continues to run meanwhile, so a
//! failed check is repeated before it counts, at once and after some time slices.

mod relations;

use std::thread;
use std::time::Duration;

use self::relations::{Doubt, RuntimeMemory};
use crate::binary::{Globals, layout::Layout};
use crate::process::memory::Memory;

/// How often a relation may fail while the process changes it.
const ATTEMPTS: u32 = 4;
/// Pause before the second attempt; it doubles each time.
const PAUSE: Duration = Duration::from_micros(100);
/// How often a process is checked again in which something was refuted, and after what pause: a thread may have been
/// preempted in the middle of a change, between the two ends of a new stack for instance. 30 ms are several time slices
/// of a busy CPU.
const AGAIN: u32 = 6;
const AGAIN_PAUSE: Duration = Duration::from_millis(5);
/// How often, if it has no goroutine yet: setting the runtime up takes longer than one change, 100 ms at most.
const STARTING: u32 = 20;

/// What the process's memory says about one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The memory is as it should be.
    Confirmed,
    /// The memory is different; this is what was found.
    Refuted(String),
    /// All zero: the runtime has not set it up yet.
    Unset,
    /// Not known: there is no address or no layout, or the memory cannot be read.
    Unchecked(String),
}

/// The verdicts on all variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveCheck {
    /// `runtime.sched`, and the layout of `schedt`.
    pub sched: Verdict,
    /// `runtime.sched.timeToRun`.
    pub time_to_run: Verdict,
    /// `runtime.allp`, and the layout of `p`.
    pub allp: Verdict,
    /// `runtime.allgs`, and the layout of `g`.
    pub allgs: Verdict,
    /// `runtime.allm`, and the layout of `m`.
    pub allm: Verdict,
    /// `runtime.gomaxprocs`.
    pub gomaxprocs: Verdict,
}

impl LiveCheck {
    /// The variables by name, in the order of the struct.
    pub fn verdicts(&self) -> [(&'static str, &Verdict); 6] {
        [
            ("sched", &self.sched),
            ("sched.timeToRun", &self.time_to_run),
            ("allp", &self.allp),
            ("allgs", &self.allgs),
            ("allm", &self.allm),
            ("gomaxprocs", &self.gomaxprocs),
        ]
    }

    /// `globals` without those that were refuted.
    pub fn believed(&self, globals: &Globals) -> Globals {
        let keep = |address: Option<u64>, verdict: &Verdict| match verdict {
            Verdict::Refuted(_) => None,
            _ => address,
        };
        Globals {
            sched: keep(globals.sched, &self.sched),
            time_to_run: keep(globals.time_to_run, &self.time_to_run),
            allp: keep(globals.allp, &self.allp),
            allgs: keep(globals.allgs, &self.allgs),
            allm: keep(globals.allm, &self.allm),
            gomaxprocs: keep(globals.gomaxprocs, &self.gomaxprocs),
        }
    }

    /// Whether every struct of the layout was seen in memory and fits: enough to use a layout that is not known to be
    /// that of the release.
    pub fn confirms_layout(&self) -> bool {
        self.verdicts()
            .iter()
            .all(|(_, verdict)| **verdict == Verdict::Confirmed)
    }
}

/// Checks a process's memory. `globals` are link-time addresses; `bias` is added to each.
///
/// The process may be in the middle of a change, and off its CPU there for long. As long as something is refuted, all of
/// it is checked again: [`AGAIN`] times, or [`STARTING`] times while there is no goroutine.
pub fn check_live(memory: &impl Memory, globals: &Globals, bias: u64, layout: Option<&Layout>) -> LiveCheck {
    let refuted = |(_, verdict): (_, &Verdict)| matches!(verdict, Verdict::Refuted(_));
    let mut check = check_all(memory, globals, bias, layout);
    for again in 0..STARTING {
        let is_starting = check.allgs == Verdict::Unset;
        if !check.verdicts().into_iter().any(refuted) || again >= AGAIN && !is_starting {
            break;
        }
        thread::sleep(AGAIN_PAUSE);
        check = check_all(memory, globals, bias, layout);
    }
    check
}

fn check_all(memory: &impl Memory, globals: &Globals, bias: u64, layout: Option<&Layout>) -> LiveCheck {
    let at = |address: Option<u64>| address.map(|a| a.wrapping_add(bias));
    let process = RuntimeMemory { memory, layout };
    let (sched, allp, gomaxprocs) = (at(globals.sched), at(globals.allp), at(globals.gomaxprocs));
    // Counts are read before everything else and again after it: they only grow.
    let before = at(globals.time_to_run).map(|a| process.counts(a));
    // Before the others, which are set earlier: otherwise it could be set by now where they were not yet.
    let allgs = judge(at(globals.allgs), |a| process.allgs(a));
    let mut check = LiveCheck {
        gomaxprocs: judge(gomaxprocs, |a| process.gomaxprocs(a, allp)),
        allp: judge(allp, |a| process.allp(a)),
        sched: judge(sched, |a| process.sched(a, allp)),
        allgs,
        allm: judge(at(globals.allm), |a| process.allm(a, sched)),
        time_to_run: judge(at(globals.time_to_run), |a| {
            process.time_to_run(a, sched, before.as_ref())
        }),
    };
    // The first goroutine is created after schedinit: from then on nothing is zero.
    if check.allgs == Verdict::Confirmed {
        for verdict in [
            &mut check.sched,
            &mut check.allp,
            &mut check.allm,
            &mut check.gomaxprocs,
        ] {
            if *verdict == Verdict::Unset {
                *verdict = Verdict::Refuted("it is zero, although there are goroutines".into());
            }
        }
    }
    check
}

/// Checks a variable until it is confirmed or has failed often enough.
fn judge(address: Option<u64>, check: impl Fn(u64) -> Result<(), Doubt>) -> Verdict {
    let Some(address) = address else {
        return Verdict::Unchecked("its address is not known".into());
    };
    let mut found = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            thread::sleep(PAUSE * 2u32.pow(attempt - 1));
        }
        match check(address) {
            Ok(()) => return Verdict::Confirmed,
            Err(Doubt::Unset) => return Verdict::Unset,
            Err(Doubt::Blind(why)) => return Verdict::Unchecked(why),
            Err(Doubt::Wrong(what)) => found = what,
        }
    }
    Verdict::Refuted(found)
}
