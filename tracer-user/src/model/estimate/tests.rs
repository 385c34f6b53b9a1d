//! Estimates from made-up samples, whose truth is known.

use super::*;

const MS: u64 = 1_000_000;
const BUSY: u8 = Cause::PBusy as u8;
const PREEMPTED: u8 = Cause::OsPreempted as u8;
const STOPPED: u8 = Cause::Stw as u8;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((n ^ n >> 31) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// One sample that stands for 10 ms, with so many runnable goroutines.
fn sample(runnable: u64, cause: u8) -> CauseSamples {
    let ns = runnable * 10 * MS;
    CauseSamples {
        samples: 1,
        torn: 0,
        length_ns: 10 * MS,
        runnable_ns: ns,
        some_ns: if runnable > 0 { 10 * MS } else { 0 },
        largest_ns: ns,
        executed: 5,
        by_cause: (ns > 0).then_some((cause, ns)).into_iter().collect(),
    }
}

fn estimate(observations: impl IntoIterator<Item = CauseSamples>) -> Option<CauseEstimate> {
    let mut sampled = SampledCauses::default();
    observations.into_iter().for_each(|seen| sampled.add(&seen));
    sampled.estimate()
}

/// The share of busy Ps, of preempted threads and of stops in what [`window`] makes.
const TRUTH: [(u8, f64); 3] = [
    (BUSY, (3.0 * 0.9 + 1.4 * 0.2) / 4.4),
    (PREEMPTED, 0.9 * (3.0 * 0.1 + 1.4 * 0.8) / 4.4),
    (STOPPED, 0.1 * (3.0 * 0.1 + 1.4 * 0.8) / 4.4),
];

/// A program that is in one of two states: 3 of 10 times 10 goroutines wait, mostly behind others, else 2, mostly since
/// threads are preempted. A sample finds the state of the one before with a probability of `stays`.
fn window(seed: u64, stays: f64) -> Vec<CauseSamples> {
    let mut random = Random(seed);
    let mut is_loaded = random.next() < 0.3;
    let mut batches = Vec::new();
    for _ in 0..100 {
        let mut batch = CauseSamples::default();
        for _ in 0..5 {
            if random.next() >= stays {
                is_loaded = random.next() < 0.3;
            }
            let (runnable, busy) = if is_loaded { (10, 0.9) } else { (2, 0.2) };
            let drawn = random.next();
            let cause = if drawn < busy {
                BUSY
            } else if drawn < busy + 0.9 * (1.0 - busy) {
                PREEMPTED
            } else {
                STOPPED
            };
            batch.add(&sample(runnable, cause));
        }
        batches.push(batch);
    }
    batches
}

#[test]
fn the_truth_is_in_the_interval_of_at_least_ninety_of_a_hundred_windows() {
    for (stays, widest) in [(0.0, 0.15), (0.5, 0.17), (0.8, 0.25)] {
        let mut inside = TRUTH.map(|_| 0);
        let mut width = 0.0;
        for seed in 0..100 {
            let estimate = estimate(window(seed, stays)).expect("samples");
            let sum: f64 = estimate.by_cause.iter().map(|share| share.share).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{sum}");
            for ((number, truth), inside) in TRUTH.iter().zip(&mut inside) {
                let found = estimate
                    .by_cause
                    .iter()
                    .find(|share| share.cause as u8 == *number);
                let found = found.expect("each was seen");
                *inside += u32::from(found.low <= *truth && *truth <= found.high);
                if *number == BUSY {
                    width += (found.high - found.low) / 100.0;
                }
            }
        }
        assert!(inside.iter().all(|inside| *inside >= 90), "{stays}: {inside:?}");
        // An interval that holds everything would say nothing.
        assert!(width < widest, "{stays}: {width}");
    }
}

#[test]
fn means_and_littles_law_are_of_all_samples() {
    // 2 s in which 4 goroutines wait, and 2 s in which none does.
    let waiting = (0..200).map(|_| sample(4, BUSY));
    let idle = (0..200).map(|_| sample(0, BUSY));
    let found = estimate(waiting.chain(idle)).expect("samples");
    assert_eq!((found.samples, found.torn), (400, 0));
    assert_eq!((found.runnable_mean, found.some), (2.0, 0.5));
    // 8 s of waiting, by 2,000 goroutines.
    assert_eq!(found.executed, Some(2_000));
    assert_eq!(found.mean_wait_ns, Some(4 * MS));
    assert_eq!(found.by_cause.len(), 1);
    assert_eq!(found.by_cause[0].share, 1.0);
}

#[test]
fn a_long_window_keeps_its_sums_and_few_stretches() {
    let mut sampled = SampledCauses::default();
    for n in 0..10_000u64 {
        sampled.add(&sample(n % 7, if n % 3 == 0 { BUSY } else { PREEMPTED }));
        assert!(sampled.batches.len() <= MOST_BATCHES);
    }
    let all = sum(&sampled.batches);
    let runnable: u64 = (0..10_000u64).map(|n| n % 7 * 10 * MS).sum();
    assert_eq!((all.samples, all.runnable_ns), (10_000, runnable));
    // All but the last are of as many observations.
    let full = &sampled.batches[..sampled.batches.len() - 1];
    assert!(full.len() >= BATCHES);
    assert!(full.iter().all(|batch| batch.samples == full[0].samples));
}

#[test]
fn a_program_that_never_waits_has_no_shares() {
    let found = estimate((0..50).map(|_| sample(0, BUSY))).expect("samples");
    assert_eq!((found.runnable_mean, found.some), (0.0, 0.0));
    assert_eq!((found.by_cause, found.mean_wait_ns), (Vec::new(), Some(0)));
}

#[test]
fn one_sample_says_next_to_nothing_and_none_says_nothing() {
    let found = estimate([sample(3, BUSY)]).expect("a sample");
    let [share] = found.by_cause.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((share.share, share.low, share.high), (1.0, 0.0, 1.0));
    assert_eq!(estimate([]), None);
    let torn = CauseSamples {
        torn: 3,
        ..CauseSamples::default()
    };
    assert_eq!(estimate([torn]), None);
}

#[test]
fn a_cause_that_was_seen_in_all_of_few_samples_is_not_certain() {
    // Ten samples that are all alike have no spread at all.
    let found = estimate((0..10).map(|_| sample(5, BUSY))).expect("samples");
    let share = found.by_cause[0];
    assert_eq!((share.share, share.high), (1.0, 1.0));
    assert!((0.6..0.8).contains(&share.low), "{share:?}");
    // One heavy sample among light ones counts as little as two.
    let heavy = (0..100).map(|n| sample(if n == 50 { 10_000 } else { 1 }, BUSY));
    let found = estimate(heavy).expect("samples");
    assert!(found.by_cause[0].low < 0.3, "{found:?}");
}

#[test]
fn a_cause_of_a_later_version_is_not_known() {
    let found = estimate((0..20).map(|n| sample(1, if n < 5 { 200 } else { BUSY }))).expect("samples");
    let shares: Vec<(Cause, f64)> = found
        .by_cause
        .iter()
        .map(|share| (share.cause, share.share))
        .collect();
    assert_eq!(shares, [(Cause::PBusy, 0.75), (Cause::Unknown, 0.25)]);
}

#[test]
fn quantiles_are_those_of_the_textbook() {
    for (degrees, quantile) in [(3, 3.182), (5, 2.571), (9, 2.262), (19, 2.093), (30, 2.042)] {
        let found = student(degrees);
        assert!((found / quantile - 1.0).abs() < 0.01, "{degrees}: {found}");
    }
}
