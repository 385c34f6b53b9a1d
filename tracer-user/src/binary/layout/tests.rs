use super::*;

fn version(raw: &str, minor: u32, patch: u32) -> GoVersion {
    GoVersion {
        raw: raw.into(),
        minor,
        patch,
        vendor_or_prerelease: None,
        experiments: vec![],
    }
}

fn with(experiments: &[&str], mut version: GoVersion) -> GoVersion {
    version.experiments = experiments.iter().map(ToString::to_string).collect();
    version
}

#[test]
fn exact_releases_are_in_the_table() {
    for (minor, patch) in [
        (19, 8),
        (21, 13),
        (22, 10),
        (23, 9),
        (24, 11),
        (25, 5),
        (26, 6),
        (27, 3),
    ] {
        for arch in [Arch::Amd64, Arch::Arm64] {
            let (layout, source) = find(&version("x", minor, patch), arch, &[]).unwrap();
            assert_eq!(source, LayoutSource::Table);
            assert_eq!(
                layout.time_histogram_scheme(),
                time_histogram_scheme(&version("x", minor, patch))
            );
            assert!(layout.time_histogram_scheme().is_some());
        }
    }
    // By hand from runtime2.go of Go 1.27.3.
    let (layout, _) = find(&version("go1.27.3", 27, 3), Arch::Amd64, &[]).unwrap();
    assert_eq!((layout.g.m, layout.g.atomicstatus, layout.g.goid), (48, 144, 152));
    assert_eq!(layout.sched.stw_total_time_gc, Some(4264));
    assert_eq!(
        (
            layout.sched.gfree_stack,
            layout.sched.gfree_no_stack,
            layout.sched.gfree
        ),
        (Some(200), Some(216), None)
    );
    assert_eq!(layout.p.gfree, Some(2472));
}

/// The runtime's `gcount` subtracts the lengths of the free lists, in each version from other fields.
#[test]
fn the_lengths_of_the_free_lists_are_known_in_every_release() {
    for (minor, patch) in [
        (19, 8),
        (21, 13),
        (22, 10),
        (23, 9),
        (24, 11),
        (25, 5),
        (26, 6),
        (27, 3),
    ] {
        for arch in [Arch::Amd64, Arch::Arm64] {
            let (layout, _) = find(&version("x", minor, patch), arch, &[]).unwrap();
            let sched = &layout.sched;
            assert!(layout.p.gfree.is_some(), "Go 1.{minor}");
            assert_eq!(sched.gfree.is_some(), minor < 25, "Go 1.{minor}");
            let lists = (sched.gfree_stack.is_some(), sched.gfree_no_stack.is_some());
            assert_eq!(lists, (minor >= 25, minor >= 25), "Go 1.{minor}");
        }
    }
}

#[test]
fn a_release_between_two_equal_ones_is_as_good_as_in_the_table() {
    let (layout, source) = find(&version("go1.23.5", 23, 5), Arch::Amd64, &[]).unwrap();
    assert_eq!(source, LayoutSource::Bracketed { below: 4, above: 9 });
    assert_eq!(
        layout,
        find(&version("go1.23.9", 23, 9), Arch::Amd64, &[]).unwrap().0
    );
}

#[test]
fn a_patch_release_may_move_fields_so_between_unequal_ones_nothing_is_said() {
    let m = |patch| find(&version("x", 24, patch), Arch::Amd64, &[]).unwrap().0.m;
    assert_eq!(m(11).alllink, m(3).alllink + 24);
    let why = find(&version("go1.24.5", 24, 5), Arch::Amd64, &[])
        .unwrap_err()
        .to_string();
    assert_eq!(
        why,
        "go1.24.5 is not in the table, which of go1.24 has 1.24.3, 1.24.11"
    );
}

#[test]
fn what_is_no_known_release_is_not_in_the_table() {
    let cases = [
        (
            version("go1.28.0", 28, 0),
            "go1.28.0 is newer than the table, which ends with go1.27",
        ),
        (version("go1.20.14", 20, 14), "the table has no release of go1.20"),
        (
            with(&["rangefuncs"], version("go1.25.5 X:rangefuncs", 25, 5)),
            "experiment rangefuncs has not been examined",
        ),
    ];
    for (version, expected) in cases {
        let why = find(&version, Arch::Amd64, &[]).unwrap_err().to_string();
        assert!(why.contains(expected), "{why}");
    }
    for suffix in ["rc1", "-custom", "+fips", "devel"] {
        let mut v = version("go1.25.5", 25, 5);
        v.vendor_or_prerelease = Some(suffix.into());
        assert!(
            find(&v, Arch::Amd64, &[])
                .unwrap_err()
                .to_string()
                .contains(suffix)
        );
    }
    let newer_patch = find(&version("go1.27.4", 27, 4), Arch::Arm64, &[]).unwrap_err();
    assert!(
        newer_patch.to_string().contains("is not in the table"),
        "{newer_patch}"
    );
}

#[test]
fn experiments_that_move_something_have_their_own_layout_and_others_none() {
    let p = |e: &[&str], minor, patch| {
        find(&with(e, version("x", minor, patch)), Arch::Amd64, &[])
            .unwrap()
            .0
            .p
    };
    assert_ne!(p(&["greenteagc"], 25, 5).preempt, p(&[], 25, 5).preempt);
    assert_ne!(p(&["nogreenteagc"], 27, 3).preempt, p(&[], 27, 3).preempt);
    assert_eq!(p(&["jsonv2", "greenteagc"], 25, 5), p(&["greenteagc"], 25, 5));
    assert_eq!(p(&["jsonv2"], 25, 5), p(&[], 25, 5));
}

/// The releases whose layouts are candidates for a version, by group.
fn candidates_of(raw: &str) -> Vec<Vec<LayoutSource>> {
    let version = GoVersion::parse(raw).unwrap();
    neighbours(&version, Arch::Amd64, &[])
        .into_iter()
        .map(|group| group.into_iter().map(|(_, source)| source).collect())
        .collect()
}

fn unproven(minor: u32, patch: u32) -> LayoutSource {
    LayoutSource::Unproven { minor, patch }
}

#[test]
fn a_vendors_version_may_have_the_layout_of_the_release_of_its_number() {
    for raw in [
        "go1.23.1-bigcorp",
        "go1.23.1 (Red Hat 1.23.1-1.el9)",
        "devel go1.23.1-fips",
    ] {
        let found = candidates_of(raw);
        assert_eq!(found.first(), Some(&vec![unproven(23, 1)]), "{raw}");
    }
    // The number is not in the table, or only the minor version is known.
    assert_eq!(
        candidates_of("go1.22.9 (Red Hat 1.22.9-1.el9)").first(),
        Some(&vec![unproven(22, 10)])
    );
    assert_eq!(
        candidates_of("go1.24rc1").first(),
        Some(&vec![unproven(24, 3), unproven(24, 11)])
    );
    // A prerelease may still be like the minor version before it, a fork like the one after it.
    let minors: Vec<u32> = candidates_of("go1.24rc1")
        .into_iter()
        .flatten()
        .filter_map(|source| match source {
            LayoutSource::Unproven { minor, .. } => Some(minor),
            _ => None,
        })
        .collect();
    assert_eq!(minors, [24, 24, 23, 25]);
}

#[test]
fn a_minor_version_that_the_table_lacks_may_have_the_layout_of_the_nearest_one() {
    for raw in [
        "go1.28.1",
        "devel go1.28-abcdef Mon Nov 3",
        "go1.99",
        "go1.4294967295",
    ] {
        assert_eq!(candidates_of(raw), [[unproven(27, 3)]], "{raw}");
    }
    // Below, then above.
    assert_eq!(
        candidates_of("go1.20.14"),
        [[unproven(19, 8)], [unproven(21, 13)]]
    );
    assert_eq!(candidates_of("go1.1"), [[unproven(19, 8)]]);
}

#[test]
fn a_release_of_a_known_minor_version_is_only_compared_with_that() {
    assert_eq!(
        candidates_of("go1.24.5"),
        [[
            LayoutSource::Confirmed { like: 3 },
            LayoutSource::Confirmed { like: 11 }
        ]]
    );
    // It is what nobody has examined that makes it unproven.
    assert_eq!(
        candidates_of("go1.22.10 X:strictfipsruntime"),
        [[unproven(22, 10)]]
    );
    assert_eq!(
        candidates_of("go1.22.9 X:strictfipsruntime"),
        [[unproven(22, 10)]]
    );
}

#[test]
fn experiments_that_are_known_are_taken_into_account_in_a_vendors_version() {
    let first = |raw: &str| {
        let version = GoVersion::parse(raw).unwrap();
        neighbours(&version, Arch::Amd64, &[])
            .swap_remove(0)
            .swap_remove(0)
            .0
    };
    let plain = first("go1.25.5-corp");
    let moved = first("go1.25.5-corp X:greenteagc");
    assert_ne!(plain.p.preempt, moved.p.preempt);
    assert_eq!(moved, first("go1.25.5-corp X:greenteagc,novel"));
}

#[test]
fn an_unproven_layout_says_so() {
    let version = GoVersion::parse("go1.22.9 (Red Hat 1.22.9-1.el9)").unwrap();
    assert_eq!(
        unproven(22, 10).describe(&version),
        "that of go1.22.10, unproven for go1.22.9 (Red Hat 1.22.9-1.el9), live invariants hold"
    );
    let between = GoVersion::parse("go1.24.5").unwrap();
    assert_eq!(
        LayoutSource::Confirmed { like: 11 }.candidate(&between),
        "that of go1.24.11"
    );
    assert_eq!(unproven(22, 10).candidate(&version), "that of go1.22.10");
    assert!(unproven(22, 10).is_unproven() && !LayoutSource::Table.is_unproven());
    assert_eq!(LayoutSource::Table.describe(&version), "table");
}

#[test]
fn the_scheme_of_go_1_20_is_unseen() {
    assert_eq!(time_histogram_scheme(&version("x", 20, 1)), None);
    assert_eq!(time_histogram_scheme(&version("x", 28, 0)), None);
}

#[test]
fn build_tags_that_move_fields_and_experiments_that_nobody_examined_leave_a_release_unknown() {
    let fields: Vec<_> = fields::lines()
        .map(|line| line.name.split_once('.').unwrap())
        .collect();
    let structs = [
        "g",
        "m",
        "p",
        "sched",
        "time_histogram",
        "time_hist",
        "moduledata",
    ];
    let all = structs.map(|name| {
        let fields = fields
            .iter()
            .filter(|(of, _)| *of == name)
            .map(|(_, field)| format!("\"{field}\": 8"));
        format!(
            "\"{name}\": {{\"one\": {{{}}}}}",
            fields.collect::<Vec<_>>().join(", ")
        )
    });
    let names = structs.map(|name| format!("\"{name}\": \"one\"")).join(", ");
    let text = format!(
        "{{\"structs\": {{{}}}, \"releases\": [{{\"go\": [\"1.30.1\", \"1.30.4\"], \"arch\": \"arm64\", \"neutral\": \
         [\"calm\"], \"moving_tags\": [\"debuglog\"], \"layouts\": {{\"\": {{{names}}}, \"mover\": {{{names}}}}}}}]}}",
        all.join(", ")
    );
    let table = Table::parse(&text).unwrap();
    let find = |patch, experiments: &[&str], tags: &[&str]| {
        let experiments: Vec<_> = experiments.iter().map(ToString::to_string).collect();
        table.find(30, patch, Arch::Arm64, &experiments, tags)
    };
    assert!(matches!(find(1, &[], &["netgo"]), Known::Exactly(_)));
    assert!(matches!(find(1, &["calm", "mover"], &[]), Known::Exactly(_)));
    assert!(matches!(find(3, &["calm"], &[]), Known::Between(_, 1, 4)));
    assert_eq!(
        find(1, &[], &["netgo", "debuglog"]),
        Known::MovingTag("debuglog".into())
    );
    assert_eq!(find(2, &[], &["debuglog"]), Known::MovingTag("debuglog".into()));
    assert_eq!(
        find(4, &["calm", "novel"], &[]),
        Known::UnknownExperiment("novel".into())
    );
    assert_eq!(find(0, &[], &[]), Known::NotThere(vec![1, 4]));
    assert_eq!(find(5, &[], &[]), Known::NotThere(vec![1, 4]));
    assert_eq!(table.find(30, 1, Arch::Amd64, &[], &[]), Known::NotThere(vec![]));
}
