//! How a moment is shared out over the causes: the definitions of [`Cause`], of what a sample shows.
//!
//! Two causes are not among them. A goroutine that gave way of its own will is in the same queue as one that was
//! preempted; and one that may only run on one thread is in no queue while it waits for that.

use super::state::{Holder, State};
use super::threads::{Account, Doing};
use crate::model::sched::Cause;
use crate::stream::transition::status;

/// The share of each cause in a moment; together they are 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shares([f64; Cause::COUNT]);

impl Shares {
    /// All of it belongs to one cause.
    pub(super) fn whole(cause: Cause) -> Self {
        let mut shares = Self([0.0; Cause::COUNT]);
        shares.add(cause, 1.0);
        shares
    }

    /// What holds for the whole program, or because a P is idle; `None` if the moment is shared out over the Ps.
    pub(super) fn of_program(state: &State) -> Option<Self> {
        if state.stopping {
            return Some(Self::whole(Cause::Stw));
        }
        let idle = u32::try_from(state.idle()).unwrap_or(u32::MAX);
        if idle > state.listed_idle {
            // It was taken from the list for an M that is being woken or made, and that has not taken it yet.
            return Some(Self::whole(Cause::ThreadWakeup));
        }
        if state.spinning > 0 {
            return Some(Self::whole(Cause::Spinning));
        }
        (idle > 0).then(|| Self::whole(Cause::NoThreadWoken))
    }

    /// What the Ps do, none of which is idle. `holders` are the Ms of some of those that are held, and what the kernel
    /// says of their threads: they stand for all of those. `usual` is the last that [`Self::usual`] was.
    pub(super) fn of_ps(state: &State, holders: &[(Holder, Option<Account>)], usual: Option<f64>) -> Self {
        let (held, in_syscall) = (state.held().count() as f64, state.in_syscall() as f64);
        let known = held + in_syscall;
        if known <= 0.0 {
            return Self::whole(Cause::Unknown);
        }
        let mut shares = Self([0.0; Cause::COUNT]);
        shares.add(Cause::PInSyscall, in_syscall / known);
        let each = held / known / holders.len().max(1) as f64;
        if holders.is_empty() {
            shares.add(Cause::Unknown, each);
        }
        for (holder, account) in holders {
            shares.add_holder(holder, account.as_ref(), usual, each);
        }
        shares
    }

    /// The share of the time in which threads waited for a CPU, on average; `None` if that is known of none of them. One
    /// that was not read a moment ago is taken to have waited as long as the others.
    pub(super) fn usual(holders: &[(Holder, Option<Account>)]) -> Option<f64> {
        let fresh = holders.iter().filter_map(|(_, account)| account.as_ref()?.waited);
        let (sum, many) = fresh.fold((0.0, 0u32), |(sum, many), waited| (sum + waited, many + 1));
        (many > 0).then(|| sum / f64::from(many))
    }

    fn add_holder(&mut self, holder: &Holder, account: Option<&Account>, usual: Option<f64>, share: f64) {
        if holder.goroutine == Some(status::SYSCALL) {
            return self.add(Cause::PInSyscall, share);
        }
        let waited = match account {
            None => None,
            Some(Account {
                doing: Doing::Asleep, ..
            }) => return self.add(Cause::ThreadBlocked, share),
            Some(Account {
                doing: Doing::Halted, ..
            }) => return self.add(Cause::Unknown, share),
            Some(Account { waited, .. }) => waited.or(usual),
        };
        let Some(waited) = waited else {
            // Whether it had a CPU is not known.
            return self.add(Cause::Unknown, share);
        };
        let on_cpu = match holder.goroutine {
            None => Cause::Scheduler,
            // One that waits and runs all the same helps the collector, on the system stack.
            Some(status::WAITING) => Cause::Gc,
            Some(_) if holder.marks => Cause::Gc,
            Some(_) => Cause::PBusy,
        };
        self.add(Cause::OsPreempted, share * waited);
        self.add(on_cpu, share * (1.0 - waited));
    }

    /// Gives this share of the moment to the quota of the cgroup. A thread that is throttled waits for a CPU like one
    /// that is preempted, so that it comes from there first.
    pub(super) fn throttled(mut self, share: f64) -> Self {
        let preempted = self.of(Cause::OsPreempted);
        let from_preempted = preempted.min(share);
        let rest = 1.0 - preempted;
        let kept = match rest > 0.0 {
            true => 1.0 - ((share - from_preempted) / rest).min(1.0),
            false => 0.0,
        };
        for (cause, own) in Cause::ALL.into_iter().zip(&mut self.0) {
            *own = match cause {
                Cause::OsPreempted => *own - from_preempted,
                _ => *own * kept,
            };
        }
        self.add(Cause::CgroupThrottled, share);
        self
    }

    fn add(&mut self, cause: Cause, share: f64) {
        if let Some(sum) = self.0.get_mut(cause as usize) {
            *sum += share;
        }
    }

    /// The share of a cause.
    pub(super) fn of(&self, cause: Cause) -> f64 {
        self.0.get(cause as usize).copied().unwrap_or(0.0)
    }

    /// Each cause with its share.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Cause, f64)> {
        Cause::ALL.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::P;
    use super::*;

    /// A state of Ps with these statuses; those that run have an M.
    fn state(statuses: &[u32], listed_idle: u32, spinning: u32) -> State {
        let ps = (1..).zip(statuses).map(|(n, status)| P {
            p: n,
            status: *status,
            m: if *status == 1 { n } else { 0 },
            ..P::default()
        });
        State {
            runnable: 5,
            stopping: false,
            listed_idle,
            spinning,
            ps: ps.collect(),
        }
    }

    fn holder(goroutine: Option<u8>, marks: bool) -> Holder {
        Holder {
            thread: 1,
            goroutine,
            marks,
        }
    }

    fn account(doing: Doing, waited: Option<f64>) -> Option<Account> {
        Some(Account { doing, waited })
    }

    fn seen(shares: &Shares) -> Vec<(Cause, f64)> {
        let sum: f64 = shares.iter().map(|(_, share)| share).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{shares:?}");
        shares.iter().filter(|(_, share)| *share > 0.0).collect()
    }

    #[test]
    fn a_stop_comes_before_all_and_an_idle_p_before_busy_ones() {
        let stopped = State {
            stopping: true,
            ..state(&[0, 1], 1, 1)
        };
        for (state, cause) in [
            (stopped, Some(Cause::Stw)),
            // Two are idle, one is in the list: the other was promised.
            (state(&[0, 0, 1], 1, 1), Some(Cause::ThreadWakeup)),
            (state(&[0], 0, 0), Some(Cause::ThreadWakeup)),
            (state(&[0, 1, 1], 1, 1), Some(Cause::Spinning)),
            // The one that looks for work has the last P.
            (state(&[1, 1], 0, 1), Some(Cause::Spinning)),
            (state(&[0, 1], 1, 0), Some(Cause::NoThreadWoken)),
            (state(&[1, 1], 0, 0), None),
            (state(&[1, 2], 0, 0), None),
        ] {
            let found = Shares::of_program(&state);
            assert_eq!(found, cause.map(Shares::whole), "{state:?}");
        }
    }

    #[test]
    fn each_p_counts_as_one_part_for_what_it_does() {
        let able = |waited| account(Doing::Able, Some(waited));
        let holders = [
            (holder(Some(status::RUNNING), false), able(0.25)),
            (holder(Some(status::RUNNING), true), able(0.0)),
            (holder(None, false), able(0.0)),
        ];
        let shares = Shares::of_ps(&state(&[1, 1, 1, 2], 0, 0), &holders, None);
        assert_eq!(
            seen(&shares),
            [
                (Cause::PBusy, 0.1875),
                (Cause::Gc, 0.25),
                (Cause::OsPreempted, 0.0625),
                (Cause::PInSyscall, 0.25),
                (Cause::Scheduler, 0.25),
            ]
        );
    }

    #[test]
    fn a_thread_that_sleeps_or_is_in_a_system_call_does_not_wait_for_a_cpu() {
        let two = state(&[1, 1], 0, 0);
        for (goroutine, doing, cause) in [
            (Some(status::SYSCALL), Doing::Asleep, Cause::PInSyscall),
            (Some(status::SYSCALL), Doing::Able, Cause::PInSyscall),
            (Some(status::RUNNING), Doing::Asleep, Cause::ThreadBlocked),
            (None, Doing::Asleep, Cause::ThreadBlocked),
            (Some(status::RUNNING), Doing::Halted, Cause::Unknown),
            (Some(status::WAITING), Doing::Able, Cause::Gc),
        ] {
            let holders = [(holder(goroutine, false), account(doing, Some(0.0)))];
            let shares = Shares::of_ps(&two, &holders, None);
            assert_eq!(seen(&shares), [(cause, 1.0)]);
        }
    }

    #[test]
    fn those_that_were_looked_at_stand_for_all_and_what_is_not_known_is_said() {
        let many = state(&[1; 8], 0, 0);
        // One thread was not read before: it is taken to have waited as the other one did.
        let running = holder(Some(status::RUNNING), false);
        let holders = [
            (running, account(Doing::Able, Some(0.5))),
            (running, account(Doing::Able, None)),
        ];
        let usual = Shares::usual(&holders);
        assert_eq!(usual, Some(0.5));
        let shares = Shares::of_ps(&many, &holders, usual);
        assert_eq!(seen(&shares), [(Cause::PBusy, 0.5), (Cause::OsPreempted, 0.5)]);
        // That was so a while ago.
        let new = [(running, account(Doing::Able, None))];
        assert_eq!(Shares::usual(&new), None);
        let shares = Shares::of_ps(&many, &new, usual);
        assert_eq!(seen(&shares), [(Cause::PBusy, 0.5), (Cause::OsPreempted, 0.5)]);
        // It is not known of any, the kernel says nothing of the one, and there is none.
        let unknown: [&[(Holder, Option<Account>)]; 3] = [&new, &[(running, None)], &[]];
        for holders in unknown {
            let shares = Shares::of_ps(&many, holders, None);
            assert_eq!(seen(&shares), [(Cause::Unknown, 1.0)]);
        }
        // What others have waited says nothing of one that cannot be read.
        let shares = Shares::of_ps(&many, &[(running, None)], usual);
        assert_eq!(seen(&shares), [(Cause::Unknown, 1.0)]);
        let none = Shares::of_ps(&state(&[3, 4], 0, 0), &[], None);
        assert_eq!(seen(&none), [(Cause::Unknown, 1.0)]);
    }

    #[test]
    fn what_is_throttled_comes_from_preempted_threads_first() {
        let running = holder(Some(status::RUNNING), false);
        let half = [(running, account(Doing::Able, Some(0.5)))];
        let shares = Shares::of_ps(&state(&[1], 0, 0), &half, None);
        for (share, expected) in [
            (0.0, [0.0, 0.5, 0.5]),
            (0.25, [0.25, 0.5, 0.25]),
            (0.75, [0.75, 0.25, 0.0]),
            (1.0, [1.0, 0.0, 0.0]),
        ] {
            let throttled = shares.throttled(share);
            seen(&throttled);
            let found = [Cause::CgroupThrottled, Cause::PBusy, Cause::OsPreempted];
            assert_eq!(found.map(|cause| throttled.of(cause)), expected);
        }
        let idle = Shares::whole(Cause::ThreadWakeup).throttled(1.0);
        assert_eq!(seen(&idle), [(Cause::CgroupThrottled, 1.0)]);
    }
}
