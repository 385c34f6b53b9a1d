//! The source on memory of this very process, laid out as the runtime's histogram is. Against real Go
//! programs it is tested in the package of end-to-end tests.

mod goroutines;

use super::*;
use crate::error::Error;
use crate::process::memory::ProcessMemory;
use crate::stream::{HistogramDelta, HistogramKey};

/// `runtime.timeHistogram` of Go 1.21+: 160 buckets, `underflow`, `overflow`.
struct Counters(Box<[u64; 162]>);

impl Counters {
    fn new() -> Self {
        Self(Box::new([7; 162]))
    }

    fn source(&self, go_minor: u32) -> PassiveSource<ProcessMemory> {
        let bias = 0x1000;
        let time_to_run = Some((self.0.as_ptr() as u64).wrapping_sub(bias));
        let globals = Globals {
            time_to_run,
            ..Globals::default()
        };
        PassiveSource::new(
            ProcessMemory::new(std::process::id()),
            &globals,
            bias,
            None,
            go_minor,
        )
    }

    /// Adds to one counter. Through a pointer that the compiler must believe to be read: the reader is the
    /// kernel.
    fn add(&mut self, index: usize, n: u64) {
        std::hint::black_box(&mut self.0)[index] += n;
    }
}

/// The delta and the losses of an observation.
fn waits(source: &mut PassiveSource<ProcessMemory>) -> Result<(HistogramDelta, Vec<Loss>), ObserveError> {
    let mut delta = None;
    let mut losses = Vec::new();
    for observation in source.observe_waits(5)? {
        assert_eq!(observation.at_ns, 5);
        match observation.kind {
            Kind::HistogramDelta(d) => delta = Some(d),
            Kind::Loss(loss) => losses.push(loss),
            other => panic!("{other:?}"),
        }
    }
    Ok((delta.expect("a delta"), losses))
}

#[test]
fn only_what_was_added_since_the_last_reading_is_yielded() {
    let mut counters = Counters::new();
    let mut source = counters.source(27);
    assert_eq!(source.scheme(), Some(BucketScheme::Go121));
    assert_eq!(
        source.observe_waits(1).unwrap(),
        [],
        "the first reading is what the next counts from"
    );
    for (index, n) in [(0, 3), (5, 1), (159, 2)] {
        counters.add(index, n);
    }
    let (delta, losses) = waits(&mut source).unwrap();
    assert_eq!(delta.key, HistogramKey::All);
    assert_eq!(delta.counts, [(0, 3), (5, 1), (159, 2)]);
    assert_eq!(
        (delta.sum_ns, delta.extremes_ns, delta.excluded_zero),
        (None, None, 0)
    );
    assert_eq!(losses, []);
    counters.add(5, 10);
    assert_eq!(waits(&mut source).unwrap().0.counts, [(5, 10)]);
    assert_eq!(waits(&mut source).unwrap().0.counts, []);
}

#[test]
fn overflow_is_a_bucket_and_underflow_is_a_loss() {
    let mut counters = Counters::new();
    let mut source = counters.source(27);
    source.observe_waits(1).unwrap();
    counters.add(160, 4);
    counters.add(161, 6);
    let (delta, losses) = waits(&mut source).unwrap();
    assert_eq!(delta.counts, [(160, 6)]);
    assert_eq!(
        losses,
        [Loss {
            cause: LossCause::Negative,
            count: 4
        }]
    );
}

#[test]
fn up_to_go_1_25_the_lowest_bucket_is_left_out_and_counted() {
    for (minor, counts, excluded) in [(25, vec![(1, 1)], 9), (26, vec![(0, 9), (1, 1)], 0)] {
        let mut counters = Counters::new();
        let mut source = counters.source(minor);
        source.observe_waits(1).unwrap();
        counters.add(0, 9);
        counters.add(1, 1);
        let (delta, _) = waits(&mut source).unwrap();
        assert_eq!(
            (delta.counts, delta.excluded_zero),
            (counts, excluded),
            "Go 1.{minor}"
        );
    }
}

#[test]
fn counters_that_go_back_are_another_program() {
    let mut counters = Counters::new();
    let mut source = counters.source(27);
    source.observe_waits(1).unwrap();
    std::hint::black_box(&mut counters.0)[17] = 6;
    let error = source.observe(2).unwrap_err();
    assert_eq!(
        error,
        ObserveError::Replaced {
            address: counters.0.as_ptr() as u64
        }
    );
    assert!(error.to_string().contains("exec"), "{error}");
    assert_eq!(Error::from(error).failure, crate::error::Failure::NotTraceable);
}

#[test]
fn without_a_layout_only_seen_versions_have_a_shape() {
    let counters = Counters::new();
    for minor in [18, 20, 28] {
        let mut source = counters.source(minor);
        assert_eq!(source.scheme(), None, "Go 1.{minor}");
        assert!(source.observe_waits(1).unwrap().is_empty());
    }
    assert_eq!(counters.source(19).scheme(), Some(BucketScheme::Go119));
}

#[test]
fn gauges_where_nothing_is_mapped_are_left_out() {
    let gomaxprocs = std::hint::black_box(Box::new(12u32));
    let address = std::ptr::from_ref(&*gomaxprocs) as u64;
    let globals = Globals {
        gomaxprocs: Some(address),
        sched: Some(16),
        ..Globals::default()
    };
    let mut source = PassiveSource::new(ProcessMemory::new(std::process::id()), &globals, 0, None, 27);
    assert_eq!(source.snapshot(1).unwrap().gomaxprocs, Some(12));
    let globals = Globals {
        gomaxprocs: Some(16),
        allgs: Some(u64::MAX),
        ..Globals::default()
    };
    let mut source = PassiveSource::new(ProcessMemory::new(std::process::id()), &globals, 0, None, 27);
    assert_eq!(source.snapshot(1).unwrap(), Snapshot::default());
}

#[test]
fn the_last_poll_is_a_time_of_the_targets_clock() {
    let layout = layout();
    let mut words = vec![0u64; layout.sched.size as usize / 8 + 1];
    words[layout.sched.lastpoll as usize / 8] = 3_000;
    let words = std::hint::black_box(words);
    let globals = Globals {
        sched: Some(words.as_ptr() as u64),
        ..Globals::default()
    };
    for (clock, since) in [
        (Some(ClockOffset::NONE), Some(2_000)),
        (Some(ClockOffset::from_ns(-1_500)), Some(500)),
        (Some(ClockOffset::from_ns(2_500)), Some(4_500)),
        // Ahead of us: it was read before the poll.
        (Some(ClockOffset::from_ns(-2_500)), Some(0)),
        (None, None),
    ] {
        let memory = ProcessMemory::new(std::process::id());
        let source = PassiveSource::new(memory, &globals, 0, Some(layout.clone()), 27);
        let snapshot = source.with_clock(clock).snapshot(5_000).unwrap();
        assert_eq!(snapshot.since_last_poll_ns, since, "{clock:?}");
    }
    drop(words);
}

#[test]
fn a_process_that_is_gone_is_an_error() {
    let globals = Globals {
        gomaxprocs: Some(16),
        time_to_run: Some(16),
        ..Globals::default()
    };
    let pid = i32::MAX as u32;
    let mut source = PassiveSource::new(ProcessMemory::new(pid), &globals, 0, None, 27);
    assert_eq!(
        source.observe(1),
        Err(ObserveError::Read(ReadError::Gone { pid }))
    );
    assert_eq!(source.snapshot(1), Err(ReadError::Gone { pid }));
}

/// The layout of a release that is in the table.
fn layout() -> Layout {
    let version = crate::binary::GoVersion {
        raw: "go1.27.3".to_owned(),
        minor: 27,
        patch: 3,
        vendor_or_prerelease: None,
        experiments: Vec::new(),
    };
    let found = crate::binary::layout::find(&version, crate::binary::Arch::Amd64, &[]);
    found.expect("Go 1.27.3 is in the table").0
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever lies where the runtime's variables should be, reading it ends, and invents no more Ps and
    /// goroutines than there could be.
    #[test]
    fn any_bytes_may_lie_where_the_variables_should_be(
        words in proptest::collection::vec(proptest::prelude::any::<u64>(), 1024),
        lengths in (0u64..200, 0u64..10_000),
        points_to_itself: bool,
    ) {
        let mut words = words;
        let here = words.as_ptr() as u64;
        // Slices of plausible length, whose elements are whatever lies here.
        words[..6].copy_from_slice(&[here, lengths.0, lengths.0, here, lengths.1, lengths.1]);
        if points_to_itself {
            words[6..].fill(here);
        }
        let words = std::hint::black_box(words);
        let globals = Globals {
            sched: Some(here),
            time_to_run: None,
            allp: Some(here),
            allgs: Some(here + 24),
            allm: Some(here),
            gomaxprocs: Some(here + 8),
        };
        let memory = ProcessMemory::new(std::process::id());
        let mut source = PassiveSource::new(memory, &globals, 0, Some(layout()), 27);
        let snapshot = source.snapshot(1).unwrap();
        proptest::prop_assert!(snapshot.local_runqs.len() as u64 <= lengths.0);
        proptest::prop_assert!(snapshot.local_runqs.iter().all(|n| *n <= 257));
        let live: u64 = snapshot.goroutines_by_state.iter().map(|(_, n)| n).sum();
        proptest::prop_assert!(live <= lengths.1 + 64, "{} of {}", live, lengths.1);
        let _ = source.observe(2);
        if let Ok(Some(reading)) = source.runnable(|| 3) {
            proptest::prop_assert!(reading.goroutines.len() as u64 <= reading.read && reading.read <= reading.all);
        }
        if let Ok(Some(switches)) = source.switches() {
            proptest::prop_assert_eq!(switches.len() as u64, lengths.0);
        }
        let _ = source.world();
        drop(words);
    }
}
