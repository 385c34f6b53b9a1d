//! Rules about gauges, and about a target that does not run.

use super::*;

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

#[test]
fn a_sysmon_that_does_not_come_round_is_reported() {
    let polled = |at_ns, sysmon_waiting, since_last_poll_ns| {
        reading(
            at_ns,
            Snapshot {
                idle_ps: Some(0),
                sysmon_waiting,
                since_last_poll_ns: Some(since_last_poll_ns),
                ..Snapshot::default()
            },
        )
    };
    let made = |sysmon_waiting, since_ns| {
        Made::of(Mode::Passive).seeing(&[
            polled(SECOND, sysmon_waiting, 2 * MS),
            polled(2 * SECOND, sysmon_waiting, since_ns),
        ])
    };
    let finding = made(Some(false), 84 * MS).fires("sysmon-late");
    assert_eq!(finding.severity, Severity::Info, "a single one");
    let again = made(Some(false), 84 * MS).seeing(&[
        polled(3 * SECOND, Some(false), 40 * MS),
        // It sleeps since nothing runs, which is not late.
        polled(4 * SECOND, Some(true), 300 * MS),
    ]);
    let twice = again.fires("sysmon-late");
    assert_eq!(twice.severity, Severity::Warning);
    assert!(twice.title.raw().ends_with("84.0 ms"), "{twice:?}");
    assert_eq!(twice.at_ns, Some(2 * SECOND));
    assert!(
        finding.evidence.raw().starts_with(
            "in 1 of 2 readings without an idle P nobody had polled the network for 30.0 ms or more, up to 84.0 ms"
        ),
        "{finding:?}"
    );
    assert_eq!(finding.at_ns, Some(2 * SECOND));
    // Twice its longest sleep.
    made(Some(false), 21 * MS).is_silent("sysmon-late");
    // It sleeps since nothing runs, or that is not known.
    made(Some(true), 84 * MS).is_silent("sysmon-late");
    made(None, 84 * MS).is_silent("sysmon-late");
    let halted = [Halted {
        state: Halt::Frozen,
        at_begin: false,
        times: 1,
        at_least_ns: SECOND,
    }];
    let frozen = Made {
        halted: &halted,
        ..made(Some(false), 84 * MS)
    };
    frozen.is_silent("sysmon-late");
}
