//! Goroutines waited in queues while a P was idle and no thread was on its way to it.

use super::{
    Evidence,
    share::{Least, Share},
};
use crate::{
    findings::{Outcome, Verdict},
    model::sched::Cause,
};

/// The runtime wakes a thread whenever it queues a goroutine and a P is idle, unless one looks for work already: the state
/// is a matter of microseconds. A tenth of the waiting, and a hundredth of the time, is not.
const IDLE: Least = Least {
    share: 0.1,
    at_a_time: 0.01,
};

pub(super) fn check(evidence: &Evidence) -> Outcome {
    let what = "whether goroutines wait in queues while a P is idle";
    let share = match Share::reaching(evidence, Cause::NoThreadWoken, IDLE, what) {
        Ok(share) => share,
        Err(outcome) => return outcome,
    };
    Verdict::warning(
        "goroutines waited in queues while a P was idle, and no thread was woken for it".to_owned(),
        share.describe(),
        "See whether threads can be made: the limits are pids.max of its cgroups (TasksMax= of systemd, --pids-limit of \
         containers) and RLIMIT_NPROC of its user. Where they are not reached, this is a flaw of the scheduler or of gmpscope: \
         please report it with a recording.",
    )
    .at(evidence.clearest_moment(Cause::NoThreadWoken))
    .into()
}
