//! How many Ps are of which class, and what that makes of an instant.

use super::ledger::{Amounts, UNIT};
use crate::model::sched::cause::Cause;
use crate::model::sched::class::Class;
use crate::model::sched::explained::Picture;

/// The causes of classes that have a share each where no P is idle.
const SHARES: [(Class, Cause); 8] = [
    (Class::Busy, Cause::PBusy),
    (Class::Gc, Cause::Gc),
    (Class::OsPreempted, Cause::OsPreempted),
    (Class::InSyscall, Cause::PInSyscall),
    (Class::InSyscallOnCpu, Cause::PInSyscall),
    (Class::Blocked, Cause::ThreadBlocked),
    (Class::Scheduler, Cause::Scheduler),
    (Class::Unknown, Cause::Unknown),
];

/// How many Ps are of each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes([u32; Class::COUNT]);

impl Classes {
    /// Moves a P from one class to another.
    #[inline]
    pub fn change(&mut self, from: Class, to: Class) {
        if let Some(count) = self.0.get_mut(from as usize) {
            *count = count.wrapping_sub(1);
        }
        if let Some(count) = self.0.get_mut(to as usize) {
            *count = count.wrapping_add(1);
        }
    }

    /// The number of Ps of a class.
    #[inline]
    pub fn of(&self, class: Class) -> u32 {
        self.0.get(class as usize).copied().unwrap_or(0)
    }

    /// Whether no P has a thread that is known to be on a CPU, and at least one has a thread that could run, or may.
    pub fn may_be_held_up(&self) -> bool {
        let on_cpu = [
            Class::Spinning,
            Class::Busy,
            Class::Gc,
            Class::Scheduler,
            Class::InSyscallOnCpu,
        ];
        on_cpu.into_iter().all(|class| self.of(class) == 0)
            && self.of(Class::OsPreempted) + self.of(Class::Waking) + self.of(Class::Unknown) > 0
    }

    /// The Ps that count, of `gomaxprocs`: those that were never seen are idle.
    fn unseen(&self, gomaxprocs: u64) -> u64 {
        let seen: u64 = self.0.iter().skip(1).map(|count| u64::from(*count)).sum();
        gomaxprocs.saturating_sub(seen)
    }

    /// The number of Ps that no M has and none was promised.
    pub fn idle(&self, gomaxprocs: u64) -> u64 {
        u64::from(self.of(Class::Idle)) + self.unseen(gomaxprocs)
    }

    /// What keeps a runnable goroutine from running: an amount for each cause, [`UNIT`] in all. `promised` idle Ps were
    /// promised to Ms, of which it is not known which.
    pub fn rates(&self, gomaxprocs: u64, promised: u64) -> Amounts {
        let searching = self.of(Class::Spinning) > 0;
        let idle = self.idle(gomaxprocs) > 0;
        if self.of(Class::Waking) > 0 || idle && promised > 0 {
            return Amounts::all_of(Cause::ThreadWakeup);
        }
        // An M between two goroutines looks for work as well.
        if searching || idle && self.of(Class::Scheduler) > 0 {
            return Amounts::all_of(Cause::Spinning);
        }
        if idle {
            return Amounts::all_of(Cause::NoThreadWoken);
        }
        let ps: u64 = SHARES.iter().map(|(class, _)| u64::from(self.of(*class))).sum();
        let Some(each) = UNIT.checked_div(ps) else {
            return Amounts::all_of(Cause::Unknown);
        };
        let mut rates = Amounts::default();
        let mut most = (0, Cause::Unknown);
        for (class, cause) in SHARES {
            let count = u64::from(self.of(class));
            rates.add(cause, count * each);
            if count > most.0 {
                most = (count, cause);
            }
        }
        // What cannot be shared out evenly: less than one part in 100 up to 512 Ps.
        rates.add(most.1, UNIT - ps * each);
        rates
    }

    /// What the Ps do, with so many runnable goroutines.
    pub fn picture(&self, runnable: u64, gomaxprocs: u64) -> Picture {
        let unseen = u32::try_from(self.unseen(gomaxprocs)).unwrap_or(u32::MAX);
        let idle = [Class::Idle, Class::Waking, Class::Spinning].map(|class| self.of(class));
        Picture {
            runnable,
            busy: self.of(Class::Busy),
            gc: self.of(Class::Gc),
            os_preempted: self.of(Class::OsPreempted),
            in_syscall: self.of(Class::InSyscall) + self.of(Class::InSyscallOnCpu),
            blocked: self.of(Class::Blocked),
            scheduler: self.of(Class::Scheduler),
            unknown: self.of(Class::Unknown),
            idle: idle.into_iter().fold(unseen, u32::saturating_add),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(of: &[(Class, u32)]) -> Classes {
        let mut classes = Classes::default();
        for (class, count) in of {
            (0..*count).for_each(|_| classes.change(Class::Gone, *class));
        }
        classes
    }

    fn share(rates: Amounts, cause: Cause) -> u64 {
        rates.to_ns(0);
        let mut thousand = Amounts::default();
        thousand.add_times(&rates, 1_000);
        thousand.to_ns(1_000)[cause as usize]
    }

    #[test]
    fn an_idle_p_takes_the_whole_instant() {
        let busy = classes(&[(Class::Busy, 3), (Class::Idle, 1)]);
        assert_eq!(busy.rates(4, 0), Amounts::all_of(Cause::NoThreadWoken));
        // One that was never seen is idle, too.
        let unseen = classes(&[(Class::Busy, 3)]);
        assert_eq!(unseen.rates(4, 0), Amounts::all_of(Cause::NoThreadWoken));
        let waking = classes(&[(Class::Busy, 2), (Class::Idle, 1), (Class::Waking, 1)]);
        assert_eq!(waking.rates(4, 0), Amounts::all_of(Cause::ThreadWakeup));
        let spinning = classes(&[(Class::Busy, 2), (Class::Idle, 1), (Class::Spinning, 1)]);
        assert_eq!(spinning.rates(4, 0), Amounts::all_of(Cause::Spinning));
        let searching = classes(&[(Class::Busy, 2), (Class::Idle, 1), (Class::Scheduler, 1)]);
        assert_eq!(searching.rates(4, 0), Amounts::all_of(Cause::Spinning));
    }

    #[test]
    fn without_an_idle_p_each_p_has_its_share() {
        let mixed = classes(&[
            (Class::Busy, 3),
            (Class::Gc, 2),
            (Class::OsPreempted, 1),
            (Class::InSyscall, 1),
            (Class::Scheduler, 1),
        ]);
        let rates = mixed.rates(8, 0);
        let shares = [
            (Cause::PBusy, 375),
            (Cause::Gc, 250),
            (Cause::OsPreempted, 125),
            (Cause::PInSyscall, 125),
            (Cause::Scheduler, 125),
        ];
        for (cause, expected) in shares {
            assert_eq!(share(rates, cause), expected, "{}", cause.name());
        }
    }

    #[test]
    fn a_p_whose_thread_is_not_known_has_a_share_that_is_not_known() {
        let rates = classes(&[(Class::Busy, 3), (Class::Unknown, 1)]).rates(4, 0);
        assert_eq!(share(rates, Cause::PBusy), 750);
        assert_eq!(share(rates, Cause::Unknown), 250);
        // It may have no CPU, as it may have one.
        let maybe = classes(&[(Class::OsPreempted, 1), (Class::Unknown, 1)]);
        let runs = classes(&[(Class::OsPreempted, 1), (Class::Busy, 1)]);
        assert!(maybe.may_be_held_up() && !runs.may_be_held_up());
        let picture = maybe.picture(1, 2);
        assert_eq!((picture.os_preempted, picture.unknown, picture.idle), (1, 1, 0));
    }

    #[test]
    fn shares_add_up_for_every_number_of_ps() {
        for ps in 1..=600 {
            let some = classes(&[(Class::Busy, ps), (Class::Gc, ps / 3)]);
            let mut sum = Amounts::default();
            sum.add_times(&some.rates(u64::from(ps + ps / 3), 0), 1);
            assert_eq!(sum.to_ns(1).iter().sum::<u64>(), 1);
            let whole: u64 = share(some.rates(0, 0), Cause::PBusy) + share(some.rates(0, 0), Cause::Gc);
            assert_eq!(whole, 1_000, "{ps} Ps");
        }
    }

    #[test]
    fn without_ps_nothing_is_known() {
        assert_eq!(Classes::default().rates(0, 0), Amounts::all_of(Cause::Unknown));
    }
}
