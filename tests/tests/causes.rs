//! Each cause on a workload in which nearly all waiting is due to it, and on a twin from which only that is missing. Shares
//! are those of all waiting but voluntary yields; that of voluntary yields is of everything.

use std::time::Duration;

use anyhow::{Result, ensure};
use gmpscope_tests::again::{self, Verdict};
use gmpscope_tests::causes::{Pathology, Running};
use gmpscope_tests::machine;
use tracer_user::model::sched::Cause;

/// How long the workload and its twin are captured: of the first 20 ms nothing is known, and that must be little.
const WINDOW: Duration = Duration::from_secs(2);
/// The least share that the cause must have on the workload, and what it must stay below on the twin.
const MOST_OF_IT: f64 = 0.8;
const HARDLY_ANY: f64 = 0.05;
/// What the share of what is not known must stay below.
const UNKNOWN: f64 = 0.02;

/// Captures the workload of a cause and its twin. That the figures fit each other does not depend on the load of the
/// machine; what they are does, and is measured once more if it is wrong.
fn is_found_and_only_there(cause: Cause) -> Result<()> {
    let _one = machine();
    let Pathology { workload, twin, .. } = Pathology::of(cause)?;
    again::once_more(|| {
        let of_workload = Running::capture(&workload, WINDOW)?;
        let of_twin = Running::capture(&twin, WINDOW)?;
        for reading in [&of_workload, &of_twin] {
            let violations = reading.violations();
            ensure!(violations.is_empty(), "{}", violations.join("\n"));
        }
        let is_as_expected = of_workload.share(cause) >= MOST_OF_IT
            && of_twin.share(cause) < HARDLY_ANY
            && of_workload.share(Cause::Unknown) < UNKNOWN
            && of_twin.share(Cause::Unknown) < UNKNOWN;
        Ok(Verdict::unless(!is_as_expected, || {
            format!(
                "{}: the workload waited {}; its twin {}",
                cause.name(),
                of_workload.describe(),
                of_twin.describe()
            )
        }))
    })
}

#[test]
fn goroutines_that_yield() -> Result<()> {
    is_found_and_only_there(Cause::Yielded)
}

#[test]
fn a_world_that_takes_long_to_stop() -> Result<()> {
    is_found_and_only_there(Cause::Stw)
}

#[test]
fn a_quota_that_is_used_up() -> Result<()> {
    is_found_and_only_there(Cause::CgroupThrottled)
}

#[test]
fn a_goroutine_that_is_locked_to_a_thread() -> Result<()> {
    is_found_and_only_there(Cause::LockedThread)
}

#[test]
fn a_thread_that_must_be_woken() -> Result<()> {
    is_found_and_only_there(Cause::ThreadWakeup)
}

#[test]
fn more_goroutines_than_ps() -> Result<()> {
    is_found_and_only_there(Cause::PBusy)
}

#[test]
fn a_collector_that_takes_all_ps() -> Result<()> {
    is_found_and_only_there(Cause::Gc)
}

#[test]
fn other_processes_on_the_same_cpu() -> Result<()> {
    is_found_and_only_there(Cause::OsPreempted)
}

#[test]
fn system_calls_that_keep_the_p() -> Result<()> {
    is_found_and_only_there(Cause::PInSyscall)
}

#[test]
fn page_faults_that_keep_the_p() -> Result<()> {
    is_found_and_only_there(Cause::ThreadBlocked)
}
