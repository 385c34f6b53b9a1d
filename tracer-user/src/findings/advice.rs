//! What can be changed about a target, as findings advise it.

use super::figures::cpus;
use crate::model::sched::Cause;

/// What to do to give a target more CPU, as a clause: more Ps only help where they may run.
pub(super) fn more_cpu(gomaxprocs: Option<u32>, limit: Option<f64>) -> String {
    match (gomaxprocs, limit) {
        (Some(gomaxprocs), Some(limit)) if f64::from(gomaxprocs) >= limit => {
            format!(
                "raise the CPU limit of its cgroup, which is {} (more Ps than that would only be throttled)",
                cpus(limit)
            )
        }
        (Some(gomaxprocs), Some(limit)) => {
            format!(
                "raise GOMAXPROCS above {gomaxprocs}: its cgroup may use {}",
                cpus(limit)
            )
        }
        (Some(gomaxprocs), None) => {
            format!("raise GOMAXPROCS above {gomaxprocs}, if the machine has more CPUs")
        }
        (None, _) => "raise GOMAXPROCS, if there are CPUs for it".to_owned(),
    }
}

/// What to do about waits that have mostly this cause, as a sentence.
pub(super) fn against(cause: Cause, gomaxprocs: Option<u32>, limit: Option<f64>) -> String {
    let advice = match cause {
        Cause::PBusy => {
            return format!(
                "Mostly all Ps were busy: split work that takes long; or {}.",
                more_cpu(gomaxprocs, limit)
            );
        }
        Cause::Gc => {
            "Mostly the Ps did the collector's work: allocate less, or raise GOGC or GOMEMLIMIT, so that it runs less often."
        }
        Cause::CgroupThrottled => {
            "Mostly the CPU quota of the cgroup was used up: raise it, or use less CPU time in each of its periods."
        }
        Cause::OsPreempted => {
            "Mostly the kernel ran something else: look for other load on these CPUs, and for more Ps than CPUs."
        }
        Cause::Stw => "Mostly the world was stopped: look at what stops it, and at who delays that.",
        Cause::PInSyscall => {
            "Mostly Ps were held by threads in system calls: use the network poller in place of calls that block, and fewer \
             short calls of C."
        }
        Cause::ThreadBlocked => {
            "Mostly threads slept while they held Ps: look at major page faults, and at the memory limit of its cgroup."
        }
        Cause::LockedThread => {
            "Mostly they waited for the thread that they are locked to: lock only goroutines that need it."
        }
        Cause::ThreadWakeup => {
            "Mostly a thread for an idle P had been woken and had no CPU yet: look for other load on these CPUs."
        }
        Cause::Yielded | Cause::Spinning | Cause::NoThreadWoken | Cause::Scheduler | Cause::Unknown => {
            "What kept them from running is named with each of them."
        }
    };
    advice.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_sentence_of_advice() {
        for cause in Cause::ALL {
            let advice = against(cause, Some(2), None);
            assert!(advice.ends_with('.') && advice.len() > 20, "{cause:?}: {advice}");
        }
        assert!(against(Cause::PBusy, Some(2), Some(2.0)).contains("raise the CPU limit"));
    }

    #[test]
    fn more_ps_are_not_advised_where_they_would_be_throttled() {
        let limited = more_cpu(Some(4), Some(2.0));
        assert!(
            limited.contains("2.00 CPUs") && limited.starts_with("raise the CPU limit"),
            "{limited}"
        );
        assert!(more_cpu(Some(1), Some(2.0)).contains("GOMAXPROCS above 1"));
        assert!(more_cpu(Some(2), None).contains("if the machine has more"));
        assert!(more_cpu(None, None).contains("GOMAXPROCS"));
    }
}
