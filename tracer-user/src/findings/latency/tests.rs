use super::*;
use crate::escape::Untrusted;
use crate::process::Halt;
use crate::stream::ongoing::{OngoingSeen, RunnableGoroutine, StillRunnable, StillStopped};
use crate::stream::{BucketScheme, HistogramDelta, Kind, Observation, Snapshot};

/// End of each window, which begins at 0.
const END_NS: u64 = 10_000_000_000;

struct Named;

impl Symbolizer for Named {
    fn function_at(&self, gopc: u64) -> Option<Untrusted> {
        (gopc == 0x1000).then(|| "main.fan".into())
    }
}

fn observation(key: HistogramKey, waits: &[(u64, u64)]) -> Observation {
    let scheme = BucketScheme::Kernel;
    let counts = waits
        .iter()
        .map(|(ns, count)| (scheme.index_of(*ns), *count))
        .collect();
    let sum_ns = Some(waits.iter().map(|(ns, count)| ns * count).sum());
    let delta = HistogramDelta {
        key,
        scheme,
        counts,
        sum_ns,
        extremes_ns: None,
        excluded_zero: 0,
    };
    Observation {
        at_ns: 0,
        kind: Kind::HistogramDelta(delta),
    }
}

fn found(observations: &[Observation], gomaxprocs: Option<u32>, limit: Option<f64>) -> Vec<Finding> {
    found_of(observations, gomaxprocs, limit, &[])
}

fn found_of(
    observations: &[Observation],
    gomaxprocs: Option<u32>,
    limit: Option<f64>,
    halted: &[Halted],
) -> Vec<Finding> {
    let (mut latency, mut model) = (Latency::new(BucketScheme::Kernel), Model::default());
    for observation in observations {
        latency.observe(observation);
        model.observe(observation);
    }
    let ongoing = model.ongoing(0, END_NS);
    let evidence = Evidence {
        latency: &latency,
        model: &model,
        ongoing: ongoing.as_ref(),
        symbolizer: &Named,
        cgroup_cpu_limit: limit,
        gomaxprocs,
        go_minor: Some(24),
        halted,
        window_ns: 2_000_000_000,
    };
    find(&evidence)
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.id.as_str()).collect()
}

#[test]
fn a_healthy_program_has_no_findings() {
    let waits = [(300, 10_000), (50_000, 100)];
    let observations: Vec<_> = Origin::ALL
        .iter()
        .map(|origin| observation(HistogramKey::Origin(*origin), &waits))
        .collect();
    assert_eq!(found(&observations, Some(4), Some(4.0)), []);
    assert_eq!(found(&[], None, None), []);
}

#[test]
fn new_goroutines_that_wait_are_reported_with_count_and_share() {
    let created = HistogramKey::Origin(Origin::Created);
    let findings = found(&[observation(created, &[(300, 950), (200_000, 50)])], None, None);
    assert_eq!(ids(&findings), ["created-waits"]);
    assert_eq!(findings[0].severity, Severity::Warning);
    assert_eq!(findings[0].evidence, "50 of 1000 waits created->running (5.0%)");
    let findings = found(
        &[observation(created, &[(300, 99_999), (200_000, 1)])],
        None,
        None,
    );
    assert_eq!(findings[0].severity, Severity::Info);
    assert_eq!(
        findings[0].evidence,
        "1 of 100000 waits created->running (under 0.01%)"
    );
    // Of other origins a long wait is not a first run.
    let unblocked = HistogramKey::Origin(Origin::Unblocked);
    assert_eq!(found(&[observation(unblocked, &[(200_000, 50)])], None, None), []);
}

#[test]
fn sampled_waits_are_counted_by_creation_site() {
    let observations = [
        observation(HistogramKey::CreationSite(0x1000), &[(300, 90), (200_000, 10)]),
        observation(HistogramKey::CreationSite(0x2000), &[(300, 99), (200_000, 1)]),
        observation(HistogramKey::CreationSite(0x3000), &[(300, 100)]),
    ];
    let findings = found(&observations, None, None);
    assert_eq!(ids(&findings), ["long-waits-by-creation-site"]);
    assert_eq!(
        findings[0].evidence,
        "11 of 300 sampled waits (3.7%); most by goroutines made in main.fan 10 of 100 (10.0%), \
         0x2000 1 of 100 (1.0%)"
    );
}

#[test]
fn preemption_dominates_where_it_makes_most_of_the_waiting() {
    let observations = [
        observation(HistogramKey::Origin(Origin::Preempted), &[(16_000_000, 40)]),
        observation(HistogramKey::Origin(Origin::Unblocked), &[(300, 100_000)]),
    ];
    assert_eq!(ids(&found(&observations, None, None)), ["preemption-dominates"]);
    // However much is yielded, that is no waiting.
    let yields = observation(HistogramKey::Origin(Origin::Yielded), &[(1_000, 50_000_000)]);
    let sweeping = [observations.to_vec(), vec![yields]].concat();
    let findings = found(&sweeping, None, None);
    assert_eq!(ids(&findings), ["preemption-dominates"]);
    assert_eq!(
        findings[0].evidence,
        "40 waits after preemption took 640.0 ms of 670.0 ms of all waiting (95.5%), voluntary yields left out"
    );
    let few = [observation(
        HistogramKey::Origin(Origin::Preempted),
        &[(500_000, 1)],
    )];
    assert_eq!(found(&few, None, None), []);
}

#[test]
fn more_ps_than_the_cgroup_may_use_are_reported() {
    assert_eq!(
        ids(&found(&[], Some(8), Some(1.5))),
        ["gomaxprocs-above-cgroup-limit"]
    );
    assert_eq!(found(&[], Some(2), Some(1.5)), []);
    assert_eq!(found(&[], Some(1), Some(0.25)), []);
    assert_eq!(found(&[], Some(8), None), []);
}

#[test]
fn more_ps_are_not_advised_to_a_program_that_has_more_than_its_limit() {
    let observations = [observation(
        HistogramKey::Origin(Origin::Preempted),
        &[(16_000_000, 40)],
    )];
    let advice = |gomaxprocs, limit| found(&observations, gomaxprocs, limit)[0].advice.clone();
    assert!(advice(Some(2), Some(2.0)).contains("raise the CPU limit"));
    assert!(advice(Some(2), None).contains("raise GOMAXPROCS above 2"));
}

/// A reading at this time, with so many idle Ps, and so long after the last poll.
fn polled(at_ns: u64, idle_ps: u32, since_last_poll_ns: u64) -> Observation {
    Observation {
        at_ns,
        kind: Kind::Snapshot(Box::new(Snapshot {
            idle_ps: Some(idle_ps),
            since_last_poll_ns: Some(since_last_poll_ns),
            ..Snapshot::default()
        })),
    }
}

#[test]
fn a_late_poll_is_reported_where_every_p_is_busy() {
    let ms = 1_000_000;
    let second = 1_000 * ms;
    let readings = [
        polled(10 * second, 0, 2 * ms),
        polled(11 * second, 0, 14 * ms),
        polled(12 * second, 1, 90 * ms),
    ];
    let findings = found(&readings, None, None);
    assert_eq!(ids(&findings), ["late-poll"]);
    assert_eq!(findings[0].severity, Severity::Info);
    assert!(
        findings[0].evidence.raw().starts_with("in 1 of 2 readings"),
        "{:?}",
        findings[0]
    );
    assert!(findings[0].title.raw().contains("14.0 ms"));
    let first = || polled(10 * second, 0, 2 * ms);
    for quiet in [
        polled(11 * second, 1, 50 * ms),
        polled(11 * second, 0, 9 * ms),
        polled(20 * second, 0, 5 * second),
    ] {
        assert_eq!(found(&[first(), quiet], None, None), []);
    }
    // The program never polls: this is the time since its begin.
    let begin = [
        polled(10 * second, 0, 50 * ms),
        polled(10 * second + 100 * ms, 0, 150 * ms),
    ];
    assert_eq!(found(&begin, None, None), []);
}

#[test]
fn a_target_that_does_not_run_is_reported() {
    let halted = |state| Halted {
        state,
        at_begin: true,
        times: 2,
        at_least_ns: 1_500_000_000,
    };
    for (state, name, advice) in [
        (Halt::Stopped, "stopped", "kill -CONT"),
        (Halt::Traced, "traced", "TracerPid"),
        (Halt::Frozen, "frozen", "thaw"),
    ] {
        // Its poll is late since it does not run.
        let polls = [polled(1 << 40, 0, 1_000_000), polled(1 << 41, 0, 50_000_000)];
        let findings = found_of(&polls, None, None, &[halted(state)]);
        assert_eq!(ids(&findings), ["target-halted"]);
        assert_eq!(findings[0].severity, Severity::Warning);
        assert_eq!(
            findings[0].evidence,
            format!("it was {name} when the capture began, and for at least 1500.0 ms of 2000.0 ms, 2 times")
        );
        assert!(findings[0].advice.contains(advice), "{:?}", findings[0]);
    }
}

#[test]
fn a_world_that_stands_still_is_reported() {
    let snapshot = |at_ns, pauses, time| {
        let snapshot = Snapshot {
            stw_pauses: Some((pauses, 0)),
            stw_total_ns: Some((time, 0)),
            ..Snapshot::default()
        };
        Observation {
            at_ns,
            kind: Kind::Snapshot(Box::new(snapshot)),
        }
    };
    let second = 1_000_000_000;
    let findings = found(
        &[
            snapshot(0, 10, second),
            snapshot(second, 30, second + second / 20),
        ],
        None,
        None,
    );
    assert_eq!(ids(&findings), ["stop-the-world"]);
    assert!(
        findings[0].advice.contains("GOGC") && !findings[0].advice.contains("ReadMemStats"),
        "{:?}",
        findings[0]
    );
    assert!(
        findings[0]
            .evidence
            .raw()
            .starts_with("20 pauses of the GC took about 50.0 ms"),
        "{:?}",
        findings[0]
    );
    assert_eq!(
        found(
            &[snapshot(0, 10, second), snapshot(second, 11, second + 1000)],
            None,
            None
        ),
        []
    );
    assert_eq!(found(&[snapshot(second, 10, second)], None, None), []);
}

fn ongoing(since_ns: &[Option<u64>], stop: Option<StillStopped>) -> Observation {
    let goroutines = (1..).zip(since_ns).map(|(goid, since_ns)| RunnableGoroutine {
        goid,
        gopc: 0x1000,
        since_ns: *since_ns,
        ..RunnableGoroutine::default()
    });
    let count = since_ns.len() as u64;
    let runnable = StillRunnable {
        read: count,
        all: count,
        count,
        goroutines: goroutines.collect(),
    };
    Observation {
        at_ns: END_NS,
        kind: Kind::Ongoing(OngoingSeen {
            runnable: Some(runnable),
            stop,
        }),
    }
}

#[test]
fn goroutines_that_have_not_run_for_a_second_are_starved() {
    let second = 1_000_000_000;
    let starved = ongoing(
        &[Some(second), Some(4 * second), None, Some(END_NS - 5_000)],
        None,
    );
    let findings = found(&[starved], None, None);
    assert_eq!(ids(&findings), ["starved-goroutines"]);
    assert_eq!(findings[0].severity, Severity::Warning);
    assert_eq!(
        findings[0].title,
        "2 goroutines could run and have not run for at least 6.0 s"
    );
    assert_eq!(
        findings[0].evidence,
        "still waiting to run at the end, in no histogram: goroutine 1 of main.fan for at least 9.0 s, goroutine 2 of \
         main.fan for at least 6.0 s (of one other it is not known since when)"
    );
    // Waits that are not over are nothing unusual.
    let short = ongoing(&[Some(END_NS - second / 2), None], None);
    assert_eq!(found(&[short], None, None), []);
}

#[test]
fn what_waits_in_a_target_that_does_not_run_is_not_the_fault_of_its_goroutines() {
    let stop = StillStopped {
        since_ns: END_NS - 2_000_000_000,
        not_stopped: 1,
    };
    let halted = Halted {
        state: Halt::Stopped,
        at_begin: false,
        times: 1,
        at_least_ns: 3_000_000_000,
    };
    let findings = found_of(
        &[ongoing(&[Some(END_NS - 2_000_000_000)], Some(stop))],
        None,
        None,
        &[halted],
    );
    assert_eq!(
        ids(&findings),
        ["target-halted", "starved-goroutines", "world-still-stopping"]
    );
    assert!(
        findings[1..]
            .iter()
            .all(|finding| finding.advice == HALTED_MEANWHILE)
    );
}

#[test]
fn a_stop_of_the_world_that_is_not_over_is_reported() {
    let stop = |since_ns, not_stopped| {
        Some(StillStopped {
            since_ns,
            not_stopped,
        })
    };
    let findings = found(&[ongoing(&[], stop(END_NS - 250_000_000, 1))], None, None);
    assert_eq!(ids(&findings), ["world-still-stopping"]);
    assert_eq!(
        findings[0].title,
        "the world has been stopping, or stopped, for at least 250.0 ms"
    );
    assert!(
        findings[0].advice.contains("cannot be preempted"),
        "{:?}",
        findings[0]
    );
    let findings = found(&[ongoing(&[], stop(0, 0))], None, None);
    assert!(
        findings[0].title.raw().ends_with("for at least 10.0 s"),
        "{:?}",
        findings[0]
    );
    // One that only the last reading shows may have just begun.
    assert_eq!(found(&[ongoing(&[], stop(END_NS, 1))], None, None), []);
}
