//! Stretches in which no thread with a P had a CPU though one could have run, and whether the CPU quota of its cgroup
//! was why.
//!
//! The kernel adds a throttled stretch to `cpu.stat` when it ends, and does not say which one it was. So the time of such a
//! stretch is kept apart from the ledger until a thread with a P gets a CPU again: hardly any wait ends before that. Threads
//! without one do not count: sysmon wakes up meanwhile, and from Linux 6.18 on gets a CPU until it would return to user
//! mode. The counter alone would not do: it counts each CPU of the cgroup on its own, for threads
//! that wanted none, too (kernel/sched/fair.c, `unthrottle_cfs_rq`).

use std::collections::VecDeque;

use super::ledger::{Amounts, Readings, UNIT};
use crate::model::sched::cause::Cause;

/// Shorter stretches are switches between threads.
const SHORTEST_NS: u64 = 100_000;
/// How much earlier than a stretch the observation that confirms it may be: it is emitted before the transitions that were
/// read together with it, and those are held back for some milliseconds.
const EARLY_NS: u64 = 50_000_000;

/// Observations that are kept: more come only where other processes of the cgroup are throttled all the time.
const MOST: usize = 64;

/// The stretch that is under way, and what the kernel has confirmed.
#[derive(Clone, Debug, Default)]
pub struct Throttle {
    /// When it began; `None` while a thread with a P has a CPU or none wants one.
    since_ns: Option<u64>,
    so_far: Held,
    /// Readings that were taken within it, and what of it was before each.
    within: Vec<(u32, Held)>,
    /// Whether a thread with a P, of which nothing was known, had a CPU within it.
    refuted: bool,
    /// Throttled time that was not assigned to a stretch yet, and what it is later than.
    confirmed: VecDeque<(u64, u64)>,
}

/// A part of a stretch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    /// What it is due to, if the quota is not.
    amounts: Amounts,
    /// Its nanoseconds in which a goroutine was runnable.
    ns: u64,
}

impl Held {
    /// What it is due to.
    fn causes(&self, throttled: bool) -> Amounts {
        if !throttled {
            return self.amounts;
        }
        let mut amounts = Amounts::default();
        amounts.add(Cause::CgroupThrottled, self.ns.wrapping_mul(UNIT));
        amounts
    }
}

impl Throttle {
    /// Takes in that the cgroup was throttled for so long, which ended after `at_ns`.
    pub fn confirm(&mut self, at_ns: u64, throttled_ns: u64) {
        if throttled_ns == 0 {
            return;
        }
        if self.confirmed.len() >= MOST {
            self.confirmed.pop_front();
        }
        self.confirmed.push_back((at_ns, throttled_ns));
    }

    /// Whether a stretch is under way.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.since_ns.is_some()
    }

    /// Adds time with a runnable goroutine to the stretch that is under way.
    pub fn add(&mut self, rates: &Amounts, ns: u64) {
        self.so_far.amounts.add_times(rates, ns);
        self.so_far.ns = self.so_far.ns.saturating_add(ns);
    }

    /// Records that a reading of the ledger was kept within the stretch: what is before it is not its wait's.
    pub fn keep(&mut self, reading: u32) {
        self.within.push((reading, self.so_far));
    }

    /// Records that a reading was returned.
    #[inline]
    pub fn take(&mut self, reading: u32) {
        if !self.within.is_empty() {
            self.within.retain(|(number, _)| *number != reading);
        }
    }

    /// Applies that a thread with a P had a CPU within the stretch that is under way: the quota was not used up.
    pub fn refute(&mut self) {
        self.refuted = self.is_held();
    }

    /// Applies whether no thread with a P has a CPU though one could run, from `now_ns` on, for all that is known. Where a stretch ends, the
    /// ledger is advanced, and readings that were taken within it are made what they would have been.
    #[inline]
    pub fn set_held(&mut self, held: bool, now_ns: u64, ledger: &mut Amounts, readings: &mut Readings) {
        match (self.since_ns, held) {
            (None, true) => self.since_ns = Some(now_ns),
            (Some(since_ns), false) => self.end(since_ns, now_ns, ledger, readings),
            _ => {}
        }
    }

    #[cold]
    fn end(&mut self, since_ns: u64, now_ns: u64, ledger: &mut Amounts, readings: &mut Readings) {
        let throttled = !std::mem::take(&mut self.refuted) && self.is_throttled(since_ns, now_ns);
        if throttled {
            // The counter adds up CPUs: what is left of it is not of another stretch.
            self.confirmed.retain(|(at_ns, _)| *at_ns > now_ns);
        }
        self.since_ns = None;
        ledger.add_times(&std::mem::take(&mut self.so_far).causes(throttled), 1);
        for (reading, before) in self.within.drain(..) {
            readings.add(reading, &before.causes(throttled));
        }
    }

    /// Ends the stretch that is under way, in a copy that is not used any further.
    pub fn finish(&mut self, now_ns: u64, ledger: &mut Amounts, readings: &mut Readings) {
        if let Some(since_ns) = self.since_ns {
            self.end(since_ns, now_ns, ledger, readings);
        }
    }

    /// Whether at least half of a stretch is confirmed.
    fn is_throttled(&mut self, since_ns: u64, now_ns: u64) -> bool {
        let length_ns = now_ns.saturating_sub(since_ns);
        if length_ns < SHORTEST_NS {
            return false;
        }
        let is_old = |(at_ns, _): &mut (u64, u64)| at_ns.saturating_add(EARLY_NS) < now_ns;
        while self.confirmed.pop_front_if(is_old).is_some() {}
        let confirmed = self.confirmed.iter().map(|(_, ns)| *ns);
        confirmed.fold(0u64, u64::saturating_add) >= length_ns / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sched::causes::ledger::ByCause;

    const MS: u64 = 1_000_000;

    /// Holds all Ps up from one moment to another; returns what that is due to.
    fn ended(throttle: &mut Throttle, from_ms: u64, to_ms: u64) -> ByCause {
        let (mut ledger, mut readings) = (Amounts::default(), Readings::default());
        throttle.set_held(true, from_ms * MS, &mut ledger, &mut readings);
        throttle.add(&Amounts::all_of(Cause::OsPreempted), (to_ms - from_ms) * MS);
        throttle.set_held(false, to_ms * MS, &mut ledger, &mut readings);
        ledger.to_ns((to_ms - from_ms) * MS)
    }

    #[test]
    fn a_stretch_is_throttled_if_the_kernel_counted_it() {
        let mut throttle = Throttle::default();
        assert_eq!(ended(&mut throttle, 10, 90)[Cause::OsPreempted as usize], 80 * MS);
        // On four CPUs.
        throttle.confirm(185 * MS, 300 * MS);
        assert_eq!(
            ended(&mut throttle, 110, 190)[Cause::CgroupThrottled as usize],
            80 * MS
        );
        // What is left of that is not of the next one.
        assert_eq!(
            ended(&mut throttle, 191, 199)[Cause::OsPreempted as usize],
            8 * MS
        );
    }

    #[test]
    fn what_was_confirmed_long_ago_is_not_this_stretch() {
        let mut throttle = Throttle::default();
        throttle.confirm(120 * MS, 75 * MS);
        assert_eq!(
            ended(&mut throttle, 110, 190)[Cause::OsPreempted as usize],
            80 * MS
        );
        for n in 0..1_000 {
            throttle.confirm(n, 1);
            throttle.confirm(n, 0);
        }
        assert_eq!(throttle.confirmed.len(), MOST);
    }

    #[test]
    fn a_switch_between_threads_is_not_throttled() {
        let mut throttle = Throttle::default();
        throttle.confirm(100 * MS, 75 * MS);
        let (mut ledger, mut readings) = (Amounts::default(), Readings::default());
        throttle.set_held(true, 100 * MS, &mut ledger, &mut readings);
        throttle.add(&Amounts::all_of(Cause::OsPreempted), 2_000);
        throttle.set_held(false, 100 * MS + 2_000, &mut ledger, &mut readings);
        assert_eq!(ledger.to_ns(2_000)[Cause::OsPreempted as usize], 2_000);
    }

    #[test]
    fn a_reading_within_a_stretch_has_only_what_is_after_it() {
        let mut throttle = Throttle::default();
        let (mut ledger, mut readings) = (Amounts::default(), Readings::default());
        throttle.confirm(75 * MS, 80 * MS);
        throttle.set_held(true, 0, &mut ledger, &mut readings);
        throttle.add(&Amounts::all_of(Cause::OsPreempted), 79 * MS);
        let (kept, returned) = (readings.keep(ledger), readings.keep(ledger));
        throttle.keep(kept);
        throttle.keep(returned);
        throttle.take(returned);
        throttle.add(&Amounts::all_of(Cause::OsPreempted), MS);
        throttle.set_held(false, 80 * MS, &mut ledger, &mut readings);
        let wait = ledger.since(&readings.take(kept).unwrap()).to_ns(MS);
        assert_eq!(wait[Cause::CgroupThrottled as usize], MS);
        assert_eq!(readings.take(returned), Some(Amounts::default()));
    }
}
