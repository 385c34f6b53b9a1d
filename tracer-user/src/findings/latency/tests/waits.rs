//! Rules about histograms of waits.

use super::*;

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
    assert_eq!(ids(&findings), ["preemption-dominates", "mostly-yields"]);
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
