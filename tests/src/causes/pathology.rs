//! The pathologies: for each cause how the workload `cause` is run so that nearly all waiting is due to it, and how its
//! twin is run.

use std::time::Duration;

use anyhow::{Context, Result};
use tracer_user::model::sched::Cause;

use crate::surroundings::{Cpus, Quota};

/// One way of running the workload `cause`, with what surrounds it.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// The cause that its first argument names.
    pub mode: Cause,
    /// Whether its second argument asks for the twin.
    pub asks_for_twin: bool,
    /// `GOMAXPROCS`.
    pub gomaxprocs: u32,
    /// `GODEBUG`.
    pub godebug: Option<&'static str>,
    /// The CPUs that it may use.
    pub cpus: Cpus,
    /// Whether its threads have the policy SCHED_BATCH: one that is woken preempts nobody.
    pub batch: bool,
    /// Processes that compute on the last CPU, by their niceness.
    pub hogs: &'static [i32],
    /// The CPU quota of its control group.
    pub quota: Option<Quota>,
}

impl Way {
    /// One P, any CPU, and nothing around it.
    pub const fn alone(mode: Cause) -> Self {
        Self {
            mode,
            asks_for_twin: false,
            gomaxprocs: 1,
            godebug: None,
            cpus: Cpus::Any,
            batch: false,
            hogs: &[],
            quota: None,
        }
    }
}

/// A cause with the workload that shows it and the twin that does not.
#[derive(Clone, Copy, Debug)]
pub struct Pathology {
    /// The cause.
    pub cause: Cause,
    /// How nearly all waiting is due to it.
    pub workload: Way,
    /// The same without the pathology.
    pub twin: Way,
}

impl Pathology {
    /// All pathologies, in the order of the causes. The causes that are missing hold for moments only.
    pub const ALL: [Self; 10] = [
        Self::asked(Way::alone(Cause::Yielded)),
        Self::asked(Way {
            gomaxprocs: 2,
            godebug: Some("asyncpreemptoff=1"),
            ..Way::alone(Cause::Stw)
        }),
        Self::without(
            Way {
                // One CPU, so that the group is throttled on it alone. While it runs, its waits are due to a busy P, and so
                // the quota must be much less than a fifth.
                cpus: Cpus::Last,
                quota: Some(Quota {
                    time: Duration::from_millis(10),
                    period: Duration::from_millis(200),
                }),
                ..Way::alone(Cause::CgroupThrottled)
            },
            Way {
                cpus: Cpus::Last,
                ..Way::alone(Cause::CgroupThrottled)
            },
        ),
        Self::asked(Way {
            cpus: Cpus::First,
            hogs: &[-20],
            ..Way::alone(Cause::LockedThread)
        }),
        Self::without(
            Way {
                gomaxprocs: 2,
                cpus: Cpus::Last,
                batch: true,
                ..Way::alone(Cause::ThreadWakeup)
            },
            Way {
                cpus: Cpus::Last,
                batch: true,
                ..Way::alone(Cause::ThreadWakeup)
            },
        ),
        Self::without(
            Way::alone(Cause::PBusy),
            Way {
                asks_for_twin: true,
                gomaxprocs: 2,
                ..Way::alone(Cause::PBusy)
            },
        ),
        Self::asked(Way {
            gomaxprocs: 2,
            godebug: Some("gcstoptheworld=1"),
            ..Way::alone(Cause::Gc)
        }),
        Self::without(
            Way {
                cpus: Cpus::Last,
                hogs: &[-20, -20],
                ..Way::alone(Cause::OsPreempted)
            },
            Way {
                cpus: Cpus::Last,
                ..Way::alone(Cause::OsPreempted)
            },
        ),
        Self::asked(Way::alone(Cause::PInSyscall)),
        Self::asked(Way::alone(Cause::ThreadBlocked)),
    ];

    /// A workload whose twin is asked for by an argument.
    const fn asked(workload: Way) -> Self {
        let twin = Way {
            asks_for_twin: true,
            ..workload
        };
        Self::without(workload, twin)
    }

    /// A workload whose twin has something else around it.
    const fn without(workload: Way, twin: Way) -> Self {
        Self {
            cause: workload.mode,
            workload,
            twin,
        }
    }

    /// The pathology of a cause.
    ///
    /// # Errors
    /// There is none of this cause.
    pub fn of(cause: Cause) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|pathology| pathology.cause == cause);
        found.with_context(|| format!("no workload is dominated by {}", cause.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_that_can_be_forced_has_one_pathology() {
        let moments = [
            Cause::Spinning,
            Cause::NoThreadWoken,
            Cause::Scheduler,
            Cause::Unknown,
        ];
        for cause in Cause::ALL {
            let count = Pathology::ALL
                .iter()
                .filter(|pathology| pathology.cause == cause)
                .count();
            assert_eq!(count, usize::from(!moments.contains(&cause)), "{}", cause.name());
        }
    }

    #[test]
    fn a_twin_runs_the_same_program_and_differs() {
        for Pathology { workload, twin, .. } in Pathology::ALL {
            assert_eq!(workload.mode, twin.mode);
            assert!(!workload.asks_for_twin);
            assert_ne!(format!("{workload:?}"), format!("{twin:?}"));
        }
    }
}
