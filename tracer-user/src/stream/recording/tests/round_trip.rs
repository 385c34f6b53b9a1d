//! What is written is read back, in few bytes.

use std::io::Write as _;

use proptest::{collection::vec, prelude::*};

use super::{super::*, made::entry, pieces, read, small, write};
use crate::stream::{
    Kind, LossCause,
    transition::{GoroutineSeen, SchedSnapshot, Transition},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(entries in vec(entry(), 0..20)) {
        let (back, ended) = read(&write(&entries, true)).unwrap();
        prop_assert_eq!(pieces(&back), pieces(&entries));
        prop_assert_eq!(ended, Ended::Whole);
        let (back, ended) = read(&write(&entries, false)).unwrap();
        prop_assert_eq!(pieces(&back), pieces(&entries));
        prop_assert_ne!(ended, Ended::Whole);
    }
}

#[test]
fn what_is_too_large_for_one_record_comes_in_parts() {
    let transitions: Vec<Transition> = (0..20_001u64)
        .map(|n| Transition {
            at_ns: 5_000 + n * 700,
            subject: 0xc000_0000 + (n % 300) * 448,
            detail: n % 7,
            tid: (n % 5) as u32,
            what: 1,
            status: 0x12,
            reason: (n % 3) as u8,
            flags: 0,
        })
        .collect();
    let goroutines = (0..100_000u64).map(|n| GoroutineSeen {
        g: 0xc000_0000 + n * 448,
        goid: n,
        status: 4,
        reason: 9,
        gopc: 0x401000,
        ..GoroutineSeen::default()
    });
    let snapshot = SchedSnapshot {
        begin_ns: 4_000,
        end_ns: 4_900,
        goroutines: goroutines.collect(),
        ..SchedSnapshot::default()
    };
    let at_ns = u64::MAX;
    let seen = vec![
        Observation {
            at_ns: 4_900,
            kind: Kind::Scheduler(Box::new(snapshot)),
        },
        Observation {
            at_ns,
            kind: Kind::Transitions(transitions.clone()),
        },
    ];
    let (back, ended) = read(&write(&[Entry::Observations(seen.clone())], true)).unwrap();
    assert_eq!(ended, Ended::Whole);
    let back: Vec<Observation> = back
        .into_iter()
        .flat_map(|entry| match entry {
            Entry::Observations(seen) => seen,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(back.first(), seen.first());
    let parts: Vec<Transition> = back
        .iter()
        .filter_map(|observation| match &observation.kind {
            Kind::Transitions(part) => Some(part.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(parts, transitions);
    assert_eq!(
        back.last().unwrap().at_ns,
        at_ns,
        "the last has the time of the whole"
    );
}

#[test]
fn a_file_that_is_read_in_bits_is_the_same() {
    struct Dribble<'a>(&'a [u8]);
    impl std::io::Read for Dribble<'_> {
        fn read(&mut self, mut buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = self.0.len().min(3).min(buffer.len());
            let (now, later) = self.0.split_at(length);
            self.0 = later;
            buffer.write_all(now)?;
            Ok(now.len())
        }
    }
    let file = write(&small(), true);
    let mut reader = Reader::new(Dribble(&file), "pipe").unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        entries.push(entry);
    }
    assert_eq!(pieces(&entries), pieces(&small()));
}

/// Transitions like those of a server: few threads, thousands of goroutines, each at its own time.
#[test]
fn a_transition_takes_at_most_eight_bytes() {
    let mut seed = 1u64;
    let mut random = move |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut at_ns = 7_534_615_756_199;
    let statuses = [0x41, 0x12, 0x24, 0x21];
    let seen: Vec<Observation> = (0..40)
        .map(|_| {
            let batch = (0..10_000).map(|_| {
                at_ns += random(2_000);
                let status = statuses[random(4) as usize];
                Transition {
                    at_ns,
                    subject: 0xc000_0000_0000 + random(5_000) * 448,
                    detail: 0,
                    tid: 4_000 + random(8) as u32,
                    what: 1,
                    status,
                    reason: if status == 0x24 { random(6) as u8 } else { 0 },
                    flags: 0,
                }
            });
            let batch = batch.collect();
            Observation {
                at_ns,
                kind: Kind::Transitions(batch),
            }
        })
        .collect();
    let file = write(&[Entry::Observations(seen)], true);
    let each = file.len() as f64 / 400_000.0;
    assert!(each <= 8.0, "{each} bytes");
}

#[test]
fn every_cause_of_a_loss_has_its_own_name() {
    for cause in LossCause::ALL {
        assert_eq!(LossCause::named(cause.name()), Some(cause));
    }
    assert_eq!(LossCause::named("a later cause"), None);
}

#[test]
fn every_cause_of_a_loss_is_in_all() {
    // The compiler cannot count variants, so the source is read.
    let (_, from) = include_str!("../../mod.rs")
        .split_once("pub enum LossCause {")
        .expect("the enum");
    let (variants, _) = from.split_once("\n}").expect("its end");
    let variants: Vec<&str> = variants
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//") && !line.starts_with('#'))
        .map(|line| line.trim_end_matches(','))
        .collect();
    let all: Vec<String> = LossCause::ALL.iter().map(|cause| format!("{cause:?}")).collect();
    assert_eq!(all, variants);
}
