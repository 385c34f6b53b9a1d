//! Goroutines that were picked to run, and wait for the thread that they are locked to.

use super::ledger::{Amounts, ByCause};
use crate::model::sched::cause::Cause;

/// A goroutine that was picked and may only run on its own thread, which is not there yet.
#[derive(Clone, Copy, Debug)]
pub struct Picked {
    /// When it was picked, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// What its wait was due to before.
    pub before: Amounts,
}

impl Picked {
    /// The causes of a wait since `since_ns`; `all` is what it would be due to if the goroutine had not been picked. A
    /// stopped world and a quota that is used up keep its thread from coming, and come first.
    pub fn causes(&self, all: &Amounts, since_ns: u64, spent_ns: u64) -> ByCause {
        let before_ns = self.at_ns.saturating_sub(since_ns).min(spent_ns);
        let mut by_cause = self.before.to_ns(before_ns);
        let after = all.since(&self.before);
        let mut left_ns = spent_ns - before_ns;
        for cause in [Cause::Stw, Cause::CgroupThrottled] {
            let ns = after.ns_of(cause).min(left_ns);
            left_ns -= ns;
            if let Some(of_cause) = by_cause.get_mut(cause as usize) {
                *of_cause += ns;
            }
        }
        if let Some(of_cause) = by_cause.get_mut(Cause::LockedThread as usize) {
            *of_cause = left_ns;
        }
        by_cause
    }
}
