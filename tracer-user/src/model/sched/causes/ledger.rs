//! The ledger of causes: for each cause how much of the time it was the one that held, since the beginning.
//!
//! What a wait is due to is the difference of two readings, so that the causes of a wait add up to it by construction, and
//! a wait costs as much as there are causes, however many events it spans. Amounts are integers: a nanosecond is
//! [`UNIT`] of them, so that it can be shared out over Ps.

use crate::model::sched::cause::Cause;

/// Parts of a nanosecond. Readings may wrap: a difference is right for waits of up to 78 hours.
pub const UNIT: u64 = 1 << 16;

/// The causes that the ledger holds: those of the process. The other two belong to a goroutine.
pub const SHARED: [Cause; 12] = [
    Cause::Stw,
    Cause::CgroupThrottled,
    Cause::ThreadWakeup,
    Cause::Spinning,
    Cause::NoThreadWoken,
    Cause::PBusy,
    Cause::Gc,
    Cause::OsPreempted,
    Cause::PInSyscall,
    Cause::ThreadBlocked,
    Cause::Scheduler,
    Cause::Unknown,
];

/// An amount for each cause of [`SHARED`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts([u64; SHARED.len()]);

/// Nanoseconds by cause, by the number of the cause.
pub type ByCause = [u64; Cause::COUNT];

/// The place of a cause in [`SHARED`]; those of a goroutine have none.
const fn place(cause: Cause) -> usize {
    match cause {
        Cause::Stw => 0,
        Cause::CgroupThrottled => 1,
        Cause::ThreadWakeup => 2,
        Cause::Spinning => 3,
        Cause::NoThreadWoken => 4,
        Cause::PBusy => 5,
        Cause::Gc => 6,
        Cause::OsPreempted => 7,
        Cause::PInSyscall => 8,
        Cause::ThreadBlocked => 9,
        Cause::Scheduler => 10,
        Cause::Unknown | Cause::Yielded | Cause::LockedThread => 11,
    }
}

impl Amounts {
    /// Amounts of which the one of this cause is [`UNIT`].
    pub fn all_of(cause: Cause) -> Self {
        let mut amounts = Self::default();
        amounts.add(cause, UNIT);
        amounts
    }

    /// Adds to one cause.
    pub fn add(&mut self, cause: Cause, amount: u64) {
        if let Some(of_cause) = self.0.get_mut(place(cause)) {
            *of_cause = of_cause.wrapping_add(amount);
        }
    }

    /// Whole nanoseconds of one cause.
    pub fn ns_of(&self, cause: Cause) -> u64 {
        self.0.get(place(cause)).map_or(0, |amount| amount / UNIT)
    }

    /// Adds other amounts, as many times.
    #[inline]
    pub fn add_times(&mut self, other: &Self, times: u64) {
        for (amount, other) in self.0.iter_mut().zip(other.0) {
            *amount = amount.wrapping_add(other.wrapping_mul(times));
        }
    }

    /// These amounts without earlier ones.
    #[inline]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = *self;
        for (amount, earlier) in difference.0.iter_mut().zip(earlier.0) {
            *amount = amount.wrapping_sub(earlier);
        }
        difference
    }

    /// Whole nanoseconds by cause, which add up to `total_ns`. Parts of a nanosecond go to the cause with the most, and so
    /// does what the clock of the events and that of the ledger differ by.
    #[inline]
    pub fn to_ns(self, total_ns: u64) -> ByCause {
        let mut by_cause = ByCause::default();
        let (mut sum_ns, mut most) = (0u64, (0, Cause::Unknown));
        for (amount, cause) in self.0.into_iter().zip(SHARED) {
            if amount == 0 {
                continue;
            }
            let ns = amount / UNIT;
            if let Some(of_cause) = by_cause.get_mut(cause as usize) {
                *of_cause = ns;
            }
            sum_ns = sum_ns.wrapping_add(ns);
            if ns >= most.0 {
                most = (ns, cause);
            }
        }
        if sum_ns > total_ns {
            take_from_largest(&mut by_cause, sum_ns - total_ns);
        } else if let Some(of_most) = by_cause.get_mut(most.1 as usize) {
            *of_most += total_ns - sum_ns;
        }
        by_cause
    }
}

/// Takes this much off the largest amounts.
#[cold]
fn take_from_largest(by_cause: &mut ByCause, mut excess_ns: u64) {
    while excess_ns > 0 {
        let Some(largest) = by_cause.iter_mut().max().filter(|largest| **largest > 0) else {
            return;
        };
        let taken = excess_ns.min(*largest);
        *largest -= taken;
        excess_ns -= taken;
    }
}

/// Readings of the ledger that goroutines hold while they are runnable.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    slots: Vec<Amounts>,
    free: Vec<u32>,
}

impl Readings {
    /// Keeps a reading. Returns its number, from 1 on.
    #[inline]
    pub fn keep(&mut self, reading: Amounts) -> u32 {
        if let Some(number) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(number as usize - 1)
        {
            *slot = reading;
            return number;
        }
        self.slots.push(reading);
        self.slots.len() as u32
    }

    /// The reading with this number.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&Amounts> {
        self.slots.get((number as usize).checked_sub(1)?)
    }

    /// Adds to the reading with this number: what it is to be the difference to begins later.
    pub fn add(&mut self, number: u32, amounts: &Amounts) {
        let slot = (number as usize)
            .checked_sub(1)
            .and_then(|at| self.slots.get_mut(at));
        if let Some(reading) = slot {
            reading.add_times(amounts, 1);
        }
    }

    /// Returns the reading with this number (0: none), which may be used for another one from now on.
    #[inline]
    pub fn take(&mut self, number: u32) -> Option<Amounts> {
        let reading = *self.get(number)?;
        self.free.push(number);
        Some(reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_add_up_to_the_wait_whatever_the_shares() {
        let mut amounts = Amounts::default();
        amounts.add(Cause::PBusy, 2 * UNIT / 3);
        amounts.add(Cause::Gc, UNIT / 3);
        for total_ns in [0, 1, 2, 1_000_003] {
            let mut all = Amounts::default();
            all.add_times(&amounts, total_ns);
            let by_cause = all.to_ns(total_ns);
            assert_eq!(by_cause.iter().sum::<u64>(), total_ns);
        }
    }

    #[test]
    fn a_wait_that_is_shorter_by_its_own_clock_loses_from_the_largest() {
        let mut amounts = Amounts::default();
        amounts.add(Cause::PBusy, 90 * UNIT);
        amounts.add(Cause::Gc, 10 * UNIT);
        let by_cause = amounts.to_ns(50);
        assert_eq!(by_cause[Cause::PBusy as usize], 40);
        assert_eq!(by_cause[Cause::Gc as usize], 10);
        assert_eq!(Amounts::default().to_ns(7)[Cause::Unknown as usize], 7);
        assert_eq!(amounts.to_ns(0).iter().sum::<u64>(), 0);
    }

    #[test]
    fn readings_that_were_taken_are_used_again() {
        let mut readings = Readings::default();
        let first = readings.keep(Amounts::all_of(Cause::Stw));
        let second = readings.keep(Amounts::all_of(Cause::Gc));
        assert_eq!((first, second), (1, 2));
        assert_eq!(readings.take(first), Some(Amounts::all_of(Cause::Stw)));
        assert_eq!(readings.keep(Amounts::default()), first);
        assert_eq!(readings.take(0), None);
        assert_eq!(readings.take(3), None);
    }

    #[test]
    fn every_shared_cause_has_its_place() {
        for (number, cause) in SHARED.into_iter().enumerate() {
            assert_eq!(place(cause), number);
        }
    }
}
