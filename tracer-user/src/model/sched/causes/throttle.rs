//! Stretches in which no thread with a P had a CPU though one could have run, and whether the CPU quota of its cgroup
//! was why.
//!
//! The kernel adds a throttled stretch to `cpu.stat` when it ends, and does not say which one it was. So the time of such a
//! stretch is kept apart from the ledger until a thread with a P gets a CPU again: no wait can end before that. Threads
//! without one do not count: sysmon wakes up meanwhile, and from Linux 6.18 on gets a CPU until it would return to user
//! mode. The counter alone would not do: it counts each CPU of the cgroup on its own, for threads
//! that wanted none, too (kernel/sched/fair.c, `unthrottle_cfs_rq`).

use std::collections::VecDeque;

use super::ledger::{Amounts, UNIT};
use crate::model::sched::cause::Cause;

/// Shorter stretches are switches between threads.
const SHORTEST_NS: u64 = 100_000;
/// How much earlier than a stretch the observation that confirms it may be: it is emitted before the transitions that were
/// read together with it, and those are held back for some milliseconds.
const EARLY_NS: u64 = 50_000_000;

/// The stretch that is under way, and what the kernel has confirmed.
#[derive(Clone, Debug, Default)]
pub struct Throttle {
    /// When it began; `None` while a thread with a P has a CPU or none wants one.
    since_ns: Option<u64>,
    /// What it would be due to, if it is not confirmed.
    pending: Amounts,
    /// Its nanoseconds in which a goroutine was runnable.
    pending_ns: u64,
    /// Throttled time that was not assigned to a stretch yet, and when it was observed.
    confirmed: VecDeque<(u64, u64)>,
}

impl Throttle {
    /// Takes in that the cgroup was throttled for so long before `at_ns`.
    pub fn confirm(&mut self, at_ns: u64, throttled_ns: u64) {
        self.confirmed.push_back((at_ns, throttled_ns));
    }

    /// Whether a stretch is under way.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.since_ns.is_some()
    }

    /// Adds time with a runnable goroutine to the stretch that is under way.
    pub fn add(&mut self, rates: &Amounts, ns: u64) {
        self.pending.add_times(rates, ns);
        self.pending_ns = self.pending_ns.saturating_add(ns);
    }

    /// Applies whether no thread with a P has a CPU though one could run, from `now_ns` on. Returns what the ledger is to be
    /// advanced by.
    #[inline]
    pub fn set_held(&mut self, held: bool, now_ns: u64) -> Option<Amounts> {
        match (self.since_ns, held) {
            (None, true) => {
                self.since_ns = Some(now_ns);
                None
            }
            (Some(since_ns), false) => Some(self.end(since_ns, now_ns)),
            _ => None,
        }
    }

    /// What the ledger would be advanced by if the stretch ended at `now_ns`.
    pub fn as_of(&self, now_ns: u64) -> Amounts {
        let mut ended = self.clone();
        match ended.since_ns {
            Some(since_ns) => ended.end(since_ns, now_ns),
            None => Amounts::default(),
        }
    }

    #[cold]
    fn end(&mut self, since_ns: u64, now_ns: u64) -> Amounts {
        let length_ns = now_ns.saturating_sub(since_ns);
        self.since_ns = None;
        let pending_ns = std::mem::take(&mut self.pending_ns);
        let pending = std::mem::take(&mut self.pending);
        if length_ns < SHORTEST_NS || !self.is_confirmed(since_ns, length_ns) {
            return pending;
        }
        let mut throttled = Amounts::default();
        throttled.add(Cause::CgroupThrottled, pending_ns.wrapping_mul(UNIT));
        throttled
    }

    /// Whether at least half of a stretch is confirmed; that much is then used up.
    fn is_confirmed(&mut self, since_ns: u64, length_ns: u64) -> bool {
        while self
            .confirmed
            .pop_front_if(|(at_ns, ns)| *ns == 0 || at_ns.saturating_add(EARLY_NS) < since_ns)
            .is_some()
        {}
        let sum_ns = self
            .confirmed
            .iter()
            .fold(0u64, |sum, (_, ns)| sum.saturating_add(*ns));
        if sum_ns < length_ns / 2 {
            return false;
        }
        let mut left_ns = length_ns;
        for (_, ns) in &mut self.confirmed {
            let used_ns = left_ns.min(*ns);
            *ns -= used_ns;
            left_ns -= used_ns;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn ended(throttle: &mut Throttle, from_ms: u64, to_ms: u64) -> super::super::ledger::ByCause {
        assert_eq!(throttle.set_held(true, from_ms * MS), None);
        throttle.add(&Amounts::all_of(Cause::OsPreempted), (to_ms - from_ms) * MS);
        let amounts = throttle.set_held(false, to_ms * MS).unwrap();
        amounts.to_ns((to_ms - from_ms) * MS)
    }

    #[test]
    fn a_stretch_is_throttled_if_the_kernel_counted_it() {
        let mut throttle = Throttle::default();
        assert_eq!(ended(&mut throttle, 10, 90)[Cause::OsPreempted as usize], 80 * MS);
        throttle.confirm(100 * MS, 75 * MS);
        assert_eq!(
            ended(&mut throttle, 110, 190)[Cause::CgroupThrottled as usize],
            80 * MS
        );
        // It has been used up.
        assert_eq!(
            ended(&mut throttle, 191, 199)[Cause::OsPreempted as usize],
            8 * MS
        );
    }

    #[test]
    fn what_was_confirmed_long_ago_is_not_this_stretch() {
        let mut throttle = Throttle::default();
        throttle.confirm(MS, 75 * MS);
        assert_eq!(
            ended(&mut throttle, 110, 190)[Cause::OsPreempted as usize],
            80 * MS
        );
    }

    #[test]
    fn a_switch_between_threads_is_not_throttled() {
        let mut throttle = Throttle::default();
        throttle.confirm(100 * MS, 75 * MS);
        assert_eq!(throttle.set_held(true, 100 * MS), None);
        throttle.add(&Amounts::all_of(Cause::OsPreempted), 2_000);
        let amounts = throttle.set_held(false, 100 * MS + 2_000).unwrap();
        assert_eq!(amounts.to_ns(2_000)[Cause::OsPreempted as usize], 2_000);
    }

    #[test]
    fn a_stretch_that_has_not_ended_is_seen_as_of_now() {
        let mut throttle = Throttle::default();
        throttle.confirm(100 * MS, 75 * MS);
        assert_eq!(throttle.as_of(100 * MS), Amounts::default());
        throttle.set_held(true, 100 * MS);
        throttle.add(&Amounts::all_of(Cause::OsPreempted), 50 * MS);
        let now = throttle.as_of(150 * MS).to_ns(50 * MS);
        assert_eq!(now[Cause::CgroupThrottled as usize], 50 * MS);
        assert!(throttle.is_held());
    }
}
