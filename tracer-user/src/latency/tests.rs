use super::*;
use crate::stream::{HistogramDelta, Loss, Origin, SlowWait};
use proptest::prelude::*;

const SCHEMES: [BucketScheme; 3] = [BucketScheme::Go119, BucketScheme::Go121, BucketScheme::Kernel];

fn delta_of(scheme: BucketScheme, key: HistogramKey, waits: &[u64]) -> Observation {
    let mut counts: BTreeMap<u16, u64> = BTreeMap::new();
    for ns in waits {
        *counts.entry(scheme.index_of(*ns)).or_default() += 1;
    }
    let known = scheme == BucketScheme::Kernel;
    let extremes = waits.iter().min().copied().zip(waits.iter().max().copied());
    let delta = HistogramDelta {
        key,
        scheme,
        counts: counts.into_iter().collect(),
        sum_ns: known.then(|| waits.iter().sum()),
        extremes_ns: extremes.filter(|_| known),
        excluded_zero: 1,
    };
    Observation {
        at_ns: 0,
        kind: Kind::HistogramDelta(delta),
    }
}

fn slow(at_ns: u64, latency_ns: u64) -> Observation {
    let wait = SlowWait {
        latency_ns,
        goid: Some(at_ns),
        gopc: None,
        origin: None,
        tid: 1,
        p: None,
    };
    Observation {
        at_ns,
        kind: Kind::Event(Event::SlowWait(wait)),
    }
}

#[test]
fn a_quantile_is_the_upper_bound_of_its_buckets() {
    let mut latency = Latency::new(BucketScheme::Go121);
    // 90 waits in 1024..=1279 ns, 9 in 2^20..=1.25×2^20-1, one in 2^25...
    let waits: Vec<u64> = [(90, 1100), (9, 1 << 20), (1, 1 << 25)]
        .into_iter()
        .flat_map(|(n, ns)| std::iter::repeat_n(ns, n))
        .collect();
    latency.observe(&delta_of(BucketScheme::Go121, HistogramKey::All, &waits));
    let total = latency.total();
    assert_eq!(total.count(), 100);
    assert_eq!(total.quantile_ns(500), Some(1279));
    assert_eq!(total.quantile_ns(900), Some(1279));
    assert_eq!(total.quantile_ns(901), Some((5 << 18) - 1));
    assert_eq!(total.quantile_ns(990), Some((5 << 18) - 1));
    assert_eq!(total.quantile_ns(999), Some((5 << 23) - 1));
    assert_eq!(total.highest_ns(), total.quantile_ns(1000));
    assert_eq!(total.count_above(100_000), 10);
    assert_eq!(
        (total.sum_ns(), total.extremes_ns(), total.excluded_zero()),
        (None, None, 1)
    );
}

#[test]
fn an_empty_histogram_has_no_quantiles() {
    let total = Latency::new(BucketScheme::Kernel).total();
    assert_eq!(
        (total.count(), total.quantile_ns(500), total.highest_ns()),
        (0, None, None)
    );
}

#[test]
fn deltas_of_another_scheme_are_passed_over() {
    let mut latency = Latency::new(BucketScheme::Kernel);
    latency.observe(&delta_of(BucketScheme::Go121, HistogramKey::All, &[5, 6]));
    latency.observe(&delta_of(
        BucketScheme::Kernel,
        HistogramKey::Origin(Origin::Created),
        &[7],
    ));
    assert_eq!(latency.total().count(), 1);
    assert_eq!(latency.total().sum_ns(), Some(7));
}

#[test]
fn yields_are_no_latency() {
    let mut latency = Latency::new(BucketScheme::Kernel);
    for (origin, waits) in [
        (Origin::Yielded, &[1_000; 98][..]),
        (Origin::Unblocked, &[70_000][..]),
        (Origin::Preempted, &[9_000_000][..]),
    ] {
        latency.observe(&delta_of(
            BucketScheme::Kernel,
            HistogramKey::Origin(origin),
            waits,
        ));
    }
    let (total, waits) = (latency.total(), latency.without_yields());
    assert_eq!((total.count(), waits.count()), (100, 2));
    assert!(total.quantile_ns(500) < Some(1_100) && waits.quantile_ns(500) > Some(69_999));
    assert_eq!(waits.sum_ns(), Some(9_070_000));
    // What has no origin is not taken for a yield.
    let mut sampled = Latency::new(BucketScheme::Kernel);
    sampled.observe(&delta_of(
        BucketScheme::Kernel,
        HistogramKey::CreationSite(0x1000),
        &[5],
    ));
    assert_eq!(sampled.without_yields(), sampled.total());
}

#[test]
fn a_wait_that_began_before_the_capture_makes_nothing_incomplete() {
    let mut latency = Latency::new(BucketScheme::Kernel);
    for (cause, count) in [
        (LossCause::Unpaired, 5),
        (LossCause::StampsFull, 3),
        (LossCause::StampsFull, 4),
    ] {
        latency.observe(&Observation {
            at_ns: 0,
            kind: Kind::Loss(Loss { cause, count }),
        });
    }
    latency.observe(&Observation {
        at_ns: 0,
        kind: Kind::Hits(9),
    });
    assert_eq!(latency.lost(), 7);
    assert_eq!(latency.losses()[&LossCause::Unpaired], 5);
    assert_eq!(latency.hits(), 9);
}

#[test]
fn the_longest_hundred_slow_waits_are_kept_and_all_are_counted() {
    let mut latency = Latency::new(BucketScheme::Kernel);
    for n in 0..1000u64 {
        // A permutation of 0..1000.
        latency.observe(&slow(n, (n * 7) % 1000 * 1_000_000));
    }
    let longest = latency.slow().longest();
    assert_eq!(latency.slow().count(), 1000);
    assert!(
        longest
            .iter()
            .map(|s| s.wait.latency_ns / 1_000_000)
            .eq((900..1000).rev())
    );
    let median = latency.slow().quantile_ns(500).unwrap();
    assert!((499_000_000..=500_999_999).contains(&median), "{median}");
}

proptest! {
    #[test]
    fn the_parts_merge_to_the_whole(
        which in 0usize..3,
        parts in prop::collection::vec(prop::collection::vec(0u64..1 << 50, 0..40), 0..8),
    ) {
        let scheme = SCHEMES[which];
        let (mut fed, mut merged) = (Latency::new(scheme), Latency::new(scheme));
        for (n, waits) in parts.iter().enumerate() {
            let key = [HistogramKey::All, HistogramKey::Origin(Origin::Netpoll)][n % 2];
            let observations = [delta_of(scheme, key, waits), slow(n as u64, waits.iter().sum())];
            let mut part = Latency::new(scheme);
            for observation in &observations {
                fed.observe(observation);
                part.observe(observation);
            }
            merged.merge(&part);
        }
        let all: Vec<u64> = parts.concat();
        let mut whole = Latency::new(scheme);
        whole.observe(&delta_of(scheme, HistogramKey::All, &all));
        let (fed, merged_total, whole) = (fed.total(), merged.total(), whole.total());
        prop_assert_eq!(&fed, &merged_total);
        prop_assert_eq!(fed.count(), all.len() as u64);
        prop_assert!(fed.counts().eq(whole.counts()));
        if !all.is_empty() {
            prop_assert_eq!(fed.sum_ns(), whole.sum_ns());
            prop_assert_eq!(fed.extremes_ns(), whole.extremes_ns());
        }
        prop_assert_eq!(merged.slow().count(), parts.len() as u64);
    }

    #[test]
    fn quantiles_are_ordered_and_within_their_buckets(
        which in 0usize..3,
        mut waits in prop::collection::vec(0u64..1 << 50, 1..200),
    ) {
        let scheme = SCHEMES[which];
        let mut latency = Latency::new(scheme);
        latency.observe(&delta_of(scheme, HistogramKey::All, &waits));
        let total = latency.total();
        waits.sort_unstable();
        let mut before = 0;
        for per_mille in 0..=1000u32 {
            let quantile = total.quantile_ns(per_mille).unwrap();
            let rank = (waits.len() * per_mille as usize).div_ceil(1000).max(1);
            let exact = waits[rank - 1];
            prop_assert!(quantile >= before);
            prop_assert_eq!(quantile, scheme.upper_ns(scheme.index_of(exact)));
            before = quantile;
        }
        let above = waits.iter().filter(|ns| **ns > 100_000).count() as u64;
        let surely = total.count_above(100_000);
        let in_border_bucket = waits.iter().filter(|ns| scheme.index_of(**ns) == scheme.index_of(100_000)).count();
        prop_assert!(surely <= above && above <= surely + in_border_bucket as u64);
    }
}
