//! Rules about why goroutines waited: from every wait, and from samples.

use super::*;
use crate::{model::sched::Culprit, process::limits::CpuQuota};

/// The rules that look at the share of one cause.
const RULES: [(&str, Cause); 5] = [
    ("cgroup-throttled", Cause::CgroupThrottled),
    ("noisy-neighbour", Cause::OsPreempted),
    ("ps-saturated", Cause::PBusy),
    ("gc-takes-ps", Cause::Gc),
    ("idle-p-with-queue", Cause::NoThreadWoken),
];

fn full(causes: &[(Cause, u64)]) -> Made<'static> {
    Made::full(|report| report.causes = caused(causes))
}

/// An estimate in which one cause has this share, within this interval, of two goroutines that wait at a time.
fn sampled(cause: Cause, share: f64, low: f64, high: f64) -> Made<'static> {
    Made {
        estimate: Some(CauseEstimate {
            samples: 1_000,
            torn: 3,
            runnable_mean: 2.0,
            some: 0.9,
            by_cause: vec![CauseShare {
                cause,
                share,
                low,
                high,
            }],
            mean_wait_ns: None,
            executed: None,
        }),
        ..Made::of(Mode::Passive)
    }
}

#[test]
fn a_cause_that_most_of_the_waiting_has_is_a_finding_and_its_twin_is_not() {
    for (id, cause) in RULES {
        let waits = [(cause, 3 * SECOND), (Cause::ThreadWakeup, SECOND)];
        let finding = full(&waits).fires(id);
        assert_eq!(finding.severity, Severity::Warning, "{id}");
        let evidence = finding.evidence.raw();
        assert!(
            evidence.starts_with("3.0 s of 4.0 s of all waiting to run (75.0%), 1.50 goroutines at a time"),
            "{id}: {evidence}"
        );
        // Something else is waited for.
        full(&[(cause, SECOND / 100), (Cause::ThreadWakeup, SECOND)]).is_silent(id);
        // Hardly anything is waited for.
        full(&[(cause, 5 * MS)]).is_silent(id);
    }
}

#[test]
fn voluntary_yields_are_no_part_of_the_waiting() {
    for (id, cause) in RULES {
        full(&[(cause, 3 * SECOND), (Cause::Yielded, 500 * SECOND)]).fires(id);
    }
}

#[test]
fn a_mode_that_sees_no_causes_names_the_one_that_does() {
    for (id, _) in RULES {
        let undecided = Made::of(Mode::Exact).is_undecided(id);
        assert_eq!(undecided.mode, Mode::Full);
        assert!(undecided.what.raw().starts_with("whether"), "{undecided:?}");
    }
}

#[test]
fn samples_decide_unless_their_interval_holds_the_bound() {
    for (id, cause) in RULES {
        let finding = sampled(cause, 0.8, 0.7, 0.9).fires(id);
        let evidence = finding.evidence.raw();
        assert!(
            evidence.starts_with(
                "about 80.0% of all waiting to run (70.0% to 90.0%, from 1000 samples), 1.60 goroutines at a time"
            ),
            "{id}: {evidence}"
        );
        sampled(cause, 0.01, 0.0, 0.02).is_silent(id);
        let undecided = sampled(cause, 0.3, 0.01, 0.9).is_undecided(id);
        assert_eq!(undecided.mode, Mode::Full);
        assert!(undecided.what.raw().contains("1.0% to 90.0%"), "{undecided:?}");
        // A cause that no sample saw has no share.
        sampled(Cause::Scheduler, 0.8, 0.7, 0.9).is_silent_or_hidden(id);
    }
}

impl Made<'_> {
    /// Checks that a rule is silent; that about the collector cannot know where the collector was not seen to rest.
    fn is_silent_or_hidden(&self, id: &str) {
        match id {
            "gc-takes-ps" => drop(self.is_undecided(id)),
            _ => self.is_silent(id),
        }
    }
}

#[test]
fn workers_that_no_sample_shows_are_not_taken_for_none() {
    let made = |pauses| {
        let mut made = sampled(Cause::PBusy, 0.8, 0.7, 0.9);
        made.observations.extend(paused(pauses, 1_000));
        made
    };
    made(3).is_undecided("gc-takes-ps");
    made(0).is_silent("gc-takes-ps");
}

#[test]
fn a_number_at_a_time_is_as_uncertain_as_its_share() {
    let made = |runnable_mean| {
        let mut made = sampled(Cause::PBusy, 0.6, 0.55, 0.7);
        made.estimate.as_mut().unwrap().runnable_mean = runnable_mean;
        made
    };
    // Half a goroutine at a time is the bound.
    made(0.6).is_silent("ps-saturated");
    for within in [0.8, 0.88] {
        made(within).is_undecided("ps-saturated");
    }
    made(2.0).fires("ps-saturated");
}

#[test]
fn a_cause_that_few_samples_did_not_see_can_have_been_there() {
    for (samples, is_known) in [(4, false), (1_000, true)] {
        let mut made = sampled(Cause::Scheduler, 0.8, 0.7, 0.9);
        made.estimate.as_mut().unwrap().samples = samples;
        match is_known {
            true => made.is_silent("cgroup-throttled"),
            false => drop(made.is_undecided("cgroup-throttled")),
        }
    }
}

#[test]
fn samples_of_which_there_are_none_decide_nothing() {
    let mut made = sampled(Cause::PBusy, 0.8, 0.7, 0.9);
    made.estimate.as_mut().unwrap().samples = 0;
    made.is_undecided("ps-saturated");
}

#[test]
fn without_the_kernels_events_of_threads_it_is_not_known_who_had_a_cpu() {
    for id in ["cgroup-throttled", "noisy-neighbour", "not-preemptible"] {
        let made = Made::full(|report| {
            report.world.on_cpu_ns = 0;
            report.causes = caused(&[(Cause::Unknown, SECOND)]);
        });
        let undecided = made.is_undecided(id);
        assert_eq!(undecided.mode, Mode::Full);
        assert!(undecided.what.raw().contains("--no-threads"), "{undecided:?}");
    }
}

fn culprit(gopc: u64, held_ns: u64) -> Culprit {
    Culprit {
        gopc,
        held_ns,
        on_cpu: None,
        longest_ns: MS,
        longest_at_ns: SECOND,
        longest_goid: 7,
    }
}

#[test]
fn those_who_held_the_ps_are_named_with_the_moment_that_shows_it_best() {
    let mut made = full(&[(Cause::PBusy, 3 * SECOND), (Cause::Gc, SECOND)]);
    let causes = &mut made.report.as_mut().unwrap().causes;
    causes.culprits = vec![culprit(0x2000, SECOND), culprit(0x1000, 2 * SECOND)];
    causes.slowest = vec![
        slow_wait(90 * MS, &[(Cause::Gc, 90 * MS)]),
        slow_wait(20 * MS, &[(Cause::PBusy, 15 * MS), (Cause::Gc, 5 * MS)]),
    ];
    let finding = made.fires("ps-saturated");
    assert_eq!(
        finding.title,
        "all Ps were busy while goroutines waited, mostly with goroutines made in main.fan"
    );
    assert!(
        finding
            .evidence
            .raw()
            .ends_with("held by goroutines made in main.fan (66.7%), 0x2000 (33.3%)"),
        "{finding:?}"
    );
    assert_eq!(finding.at_ns, Some(SECOND + 10 * MS));
    // Samples do not say who it was.
    let finding = sampled(Cause::PBusy, 0.8, 0.7, 0.9).fires("ps-saturated");
    assert!(
        finding
            .evidence
            .raw()
            .ends_with("--mode full shows who held the Ps")
    );
    assert_eq!(finding.at_ns, None);
}

#[test]
fn a_quota_is_named_with_its_period() {
    let made = |gomaxprocs, limits| Made {
        gomaxprocs: Some(gomaxprocs),
        cgroup_cpu_limit: Some(0.2),
        limits,
        ..full(&[(Cause::CgroupThrottled, SECOND)])
    };
    let limits = Limits {
        cpu_quota: Some(CpuQuota {
            quota_ns: 20 * MS,
            period_ns: 100 * MS,
        }),
        ..Limits::default()
    };
    let finding = made(4, limits).fires("cgroup-throttled");
    assert!(
        finding
            .evidence
            .raw()
            .ends_with("its cgroup may use 20.0 ms of CPU time in each 100.0 ms (0.20 CPUs)"),
        "{finding:?}"
    );
    assert!(finding.advice.contains("GOMAXPROCS=1 spreads"), "{finding:?}");
    // In an older recording the period is not known.
    let finding = made(1, Limits::default()).fires("cgroup-throttled");
    assert!(
        finding.evidence.raw().ends_with("its cgroup may use 0.20 CPUs"),
        "{finding:?}"
    );
    assert!(!finding.advice.contains("GOMAXPROCS"), "{finding:?}");
}

#[test]
fn a_noisy_neighbour_is_shown_by_what_the_threads_had_of_the_cpus() {
    let mut made = full(&[(Cause::OsPreempted, SECOND)]);
    let world = &mut made.report.as_mut().unwrap().world;
    (world.on_cpu_ns, world.waiting_for_cpu_ns) = (SECOND, SECOND);
    made.gomaxprocs = Some(2);
    let finding = made.fires("noisy-neighbour");
    let threads = "its threads had 0.50 CPUs on average and could have used 1.00: they could run and had none for 1.0 s in \
                   all";
    assert!(finding.evidence.raw().ends_with(threads), "{finding:?}");
    assert!(finding.advice.contains("fewer CPUs than Ps (2)"), "{finding:?}");
}
