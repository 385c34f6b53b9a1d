//! What is written is read back, and files that gmpscope has not written do no harm.

use std::io::Write as _;

use proptest::{collection::vec, prelude::*};

mod made;

use made::entry;

use super::{
    encoder::{self, Encoder},
    *,
};
use crate::stream::{
    BucketScheme, HistogramDelta, HistogramKey, Kind, Loss, LossCause, NoNames, Step, Symbolizer,
    step::StartStep,
    transition::{GoroutineSeen, SchedSnapshot, Transition},
};

fn write(entries: &[Entry], end: bool) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut file = block::head();
    for (index, entry) in entries.iter().enumerate() {
        match entry {
            Entry::Step(json) => encoder.step(json.as_bytes()),
            Entry::Names(names) => {
                encoder.names(names.iter().map(|(address, name)| (*address, name.raw())));
            }
            Entry::Frames(frames) => {
                encoder.frames(
                    frames
                        .iter()
                        .map(|(address, frames)| (*address, frames.as_slice())),
                );
            }
            Entry::Observations(seen) => encoder.observations(seen),
        }
        // As many blocks as a capture makes, and more.
        let blocks = encoder.take(index % 3 == 2);
        blocks.iter().for_each(|raw| file.extend(block::seal(raw)));
    }
    if end {
        encoder.end();
    }
    let blocks = encoder.take(true);
    blocks.iter().for_each(|raw| file.extend(block::seal(raw)));
    assert_eq!(encoder.left_out(), 0);
    file
}

/// Reads everything up to the end or the cut, and returns how it ended.
fn read(file: &[u8]) -> Result<(Vec<Entry>, Ended), crate::error::Error> {
    let mut reader = Reader::new(file, "test.gmps")?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next()? {
        entries.push(entry);
    }
    assert_eq!(reader.unknown(), 0);
    let ended = reader.ended().cloned();
    Ok((
        entries,
        ended.unwrap_or_else(|| panic!("no more, and no end either")),
    ))
}

/// Splits entries into single observations, since how they are grouped does not matter.
fn pieces(entries: &[Entry]) -> Vec<Entry> {
    let one = |entry: &Entry| match entry {
        Entry::Observations(seen) => seen
            .iter()
            .map(|observation| Entry::Observations(vec![observation.clone()]))
            .collect(),
        other => vec![other.clone()],
    };
    entries.iter().flat_map(one).collect()
}

fn small() -> Vec<Entry> {
    let observation = |at_ns, kind| Observation { at_ns, kind };
    vec![
        Entry::Step("{\"first\":1}".into()),
        Entry::Names(vec![
            (0x401000, "main.main".into()),
            (0x401020, "main.serve".into()),
        ]),
        Entry::Observations(vec![
            observation(1_000, Kind::Hits(7)),
            observation(
                1_010,
                Kind::Loss(Loss {
                    cause: LossCause::RingFull,
                    count: 3,
                }),
            ),
        ]),
        Entry::Step("{\"second\":2}".into()),
        Entry::Observations(vec![observation(990, Kind::Hits(1))]),
        Entry::Step("{\"third\":3}".into()),
        Entry::Observations(vec![observation(2_990, Kind::Hits(u64::MAX))]),
    ]
}

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

    #[test]
    fn contents_of_no_writer_are_harmless(raw in vec(any::<u8>(), 1..300), tags in vec(0u8..0x30, 1..20)) {
        // Noise, and well-formed records of noise.
        let mut records = vec![0];
        for (tag, contents) in tags.iter().zip(raw.chunks(12)) {
            records.push(*tag);
            records.push(contents.len() as u8);
            records.extend_from_slice(contents);
        }
        for raw in [&raw, &records] {
            let mut file = block::head();
            file.extend(block::seal(raw));
            let mut reader = Reader::new(file.as_slice(), "noise").unwrap();
            while let Ok(Some(_)) = reader.next() {}
        }
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
fn a_recording_that_is_cut_anywhere_reads_up_to_the_cut() {
    let whole = write(&small(), true);
    let all = pieces(&small());
    let mut most = 0;
    for length in 0..whole.len() {
        let cut = whole.get(..length).unwrap();
        match read(cut) {
            Ok((back, ended)) => {
                let back = pieces(&back);
                assert_eq!(back, all.get(..back.len()).unwrap(), "{length}");
                assert!(back.len() >= most, "more is read of less at {length}");
                most = back.len();
                assert!(matches!(ended, Ended::Cut { .. }), "{length}");
            }
            Err(e) => assert!(
                length < 12 && e.message.contains("is not a recording"),
                "{length}: {e}"
            ),
        }
    }
    assert!(most > all.len() / 2, "{most} of {}", all.len());
    assert_eq!(read(&whole).unwrap().1, Ended::Whole);
}

#[test]
fn a_flipped_bit_is_found() {
    let whole = write(&small(), true);
    let all = pieces(&small());
    for bit in 0..whole.len() * 8 {
        let mut bad = whole.clone();
        *bad.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
        match read(&bad) {
            Ok((back, ended)) => {
                let back = pieces(&back);
                assert_eq!(back, all.get(..back.len()).unwrap(), "bit {bit}");
                assert!(back.len() < all.len(), "bit {bit} was not missed");
                assert!(matches!(ended, Ended::Cut { .. }), "bit {bit}");
            }
            Err(e) => assert!(bit < 12 * 8, "bit {bit}: {e}"),
        }
    }
}

#[test]
fn what_is_not_a_recording_is_refused_with_a_reason() {
    let refused = |file: &[u8]| match read(file) {
        Ok(found) => panic!("{found:?}"),
        Err(e) => e.message,
    };
    for garbage in [
        &b""[..],
        b"\x7fELF\x02\x01\x01",
        b"{\"schema\":\"gmpscope.capture/1\"}",
    ] {
        assert!(refused(garbage).contains("is not a recording"));
    }
    let mut later = block::head();
    *later.get_mut(8).unwrap() = 2;
    let message = refused(&later);
    assert!(
        message.contains("version 2 of the format") && message.contains("version 1"),
        "{message}"
    );
    // A line end was changed by copying the file as text.
    assert!(refused(&block::head().replace(b"\r\n", b"\n")).contains("is not a recording"));
}

trait Replace {
    fn replace(&self, from: &[u8], to: &[u8]) -> Vec<u8>;
}

impl Replace for Vec<u8> {
    fn replace(&self, from: &[u8], to: &[u8]) -> Vec<u8> {
        let at = self
            .windows(from.len())
            .position(|window| window == from)
            .unwrap();
        let (before, rest) = self.split_at(at);
        [before, to, rest.get(from.len()..).unwrap()].concat()
    }
}

/// Returns a file of one block with one record.
fn with_record(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut raw = vec![0, tag];
    wire::put(&mut raw, contents.len() as u64);
    raw.extend_from_slice(contents);
    let mut file = block::head();
    file.extend(block::seal(&raw));
    file
}

#[test]
fn hostile_contents_are_an_error_and_a_later_kind_is_skipped() {
    // Two bytes that ask for 2^40 buckets.
    let mut buckets = vec![0, 0, 0, 0, 2];
    wire::put(&mut buckets, 1 << 40);
    for (tag, contents) in [
        (observation::tag::HISTOGRAM_DELTA, buckets.as_slice()),
        (observation::tag::HITS, &[]),
        (observation::tag::SNAPSHOT, b"\0[[[[[[["),
        (encoder::tag::STEP, b"\xff"),
        (encoder::tag::NAMES, &[2, 9]),
    ] {
        let error = read(&with_record(tag, contents)).unwrap_err();
        assert!(
            error.message.contains("not a recording as gmpscope writes it"),
            "{error}"
        );
    }
    // The length of the record is past the block's end.
    let mut file = block::head();
    file.extend(block::seal(&[0, encoder::tag::STEP, 200, 1]));
    assert!(read(&file).is_err());

    let file = with_record(0x70, b"from the future");
    let mut reader = Reader::new(file.as_slice(), "future").unwrap();
    assert_eq!(reader.next().unwrap(), None);
    assert_eq!(reader.unknown(), 1);
}

#[test]
fn keys_and_names_without_end_are_refused() {
    let mut encoder = Encoder::default();
    for gopc in 1..70_000 {
        encoder.observations(&[Observation {
            at_ns: 1,
            kind: Kind::HistogramDelta(HistogramDelta {
                key: HistogramKey::CreationSite(gopc),
                scheme: BucketScheme::Kernel,
                counts: vec![],
                sum_ns: None,
                extremes_ns: None,
                excluded_zero: 0,
            }),
        }]);
    }
    let mut file = block::head();
    encoder
        .take(true)
        .iter()
        .for_each(|raw| file.extend(block::seal(raw)));
    let error = read(&file).unwrap_err();
    assert!(error.message.contains("creation sites"), "{error}");

    let mut encoder = Encoder::default();
    let name = "x".repeat(16_000);
    encoder.names((0..5_000).map(|address| (address, name.as_str())));
    let mut file = block::head();
    encoder
        .take(true)
        .iter()
        .for_each(|raw| file.extend(block::seal(raw)));
    let error = read(&file).unwrap_err();
    assert!(error.message.contains("names"), "{error}");
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

/// A symbolizer that knows every name, and fails if it is asked for one twice.
#[derive(Default)]
struct AskedOnce(std::cell::RefCell<std::collections::BTreeSet<u64>>);

impl Symbolizer for AskedOnce {
    fn function_at(&self, gopc: u64) -> Option<Untrusted> {
        assert!(self.0.borrow_mut().insert(gopc), "asked for the same name twice");
        Some("main.main".into())
    }
}

#[test]
fn a_recorder_writes_what_it_is_given_and_only_then_touches_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gmps");
    std::fs::write(&path, "an older recording").unwrap();
    let mut recorder = Recorder::open(&path).unwrap();
    let step = Step::Starts(StartStep::Continue);
    recorder.record_step(&step);
    assert_eq!(std::fs::read(&path).unwrap(), b"an older recording");
    let taken = Recorder::open(&path).unwrap_err();
    assert!(
        taken.message.contains("another capture writes into it"),
        "{taken}"
    );

    recorder.begin();
    let seen = [Observation {
        at_ns: 5,
        kind: Kind::HistogramDelta(HistogramDelta {
            key: HistogramKey::CreationSite(0x401000),
            scheme: BucketScheme::Kernel,
            counts: vec![(3, 1)],
            sum_ns: None,
            extremes_ns: None,
            excluded_zero: 0,
        }),
    }];
    let names = AskedOnce::default();
    recorder.record(&seen, &names);
    recorder.record(&seen, &names);
    assert!(recorder.finish());
    assert_eq!(recorder.take_failure(), None);
    let (entries, ended) = read(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(ended, Ended::Whole);
    assert_eq!(
        entries,
        [
            Entry::Step(String::from_utf8(step.to_json()).unwrap()),
            Entry::Names(vec![(0x401000, "main.main".into())]),
            Entry::Observations(seen.iter().chain(&seen).cloned().collect()),
        ]
    );
}

#[test]
fn nothing_recorded_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gmps");
    let mut recorder = Recorder::open(&path).unwrap();
    recorder.record_step(&Step::Starts(StartStep::Continue));
    assert!(recorder.finish());
    drop(recorder);
    assert!(!path.exists());
    let mut recorder = Recorder::open(&path).unwrap();
    recorder.begin();
    assert!(recorder.finish());
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds paths and names of functions");
    let error = Recorder::open(&folder.path().join("no/x.gmps")).unwrap_err();
    assert!(error.message.contains("cannot be recorded into"), "{error}");
}

#[test]
fn a_full_disk_ends_the_recording_and_is_reported_once() {
    let mut recorder = Recorder::open(std::path::Path::new("/dev/full")).unwrap();
    recorder.begin();
    let noise: Vec<Observation> = (0..10_000u64)
        .map(|n| Observation {
            at_ns: n,
            kind: Kind::Hits(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        })
        .collect();
    for _ in 0..200 {
        recorder.record(&noise, &NoNames);
    }
    assert!(!recorder.is_holding(), "what nobody will write is kept");
    assert!(!recorder.finish());
    let why = recorder.take_failure().unwrap();
    assert!(why.contains("/dev/full") && why.contains("No space"), "{why}");
    assert_eq!(recorder.take_failure(), None);
}

#[test]
fn a_disk_that_does_not_keep_up_ends_the_recording_and_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    // A reader has it open, and reads nothing.
    let reader = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut recorder = Recorder::open(&path).unwrap();
    recorder.begin();
    let noise: Vec<Observation> = (0..10_000u64)
        .map(|n| Observation {
            at_ns: n,
            kind: Kind::Hits(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        })
        .collect();
    let mut rounds = 0;
    let why = loop {
        recorder.record(&noise, &NoNames);
        rounds += 1;
        if let Some(why) = recorder.take_failure() {
            break why;
        }
        assert!(rounds < 10_000, "everything is kept");
    };
    assert!(why.contains("does not take") && why.contains("MiB"), "{why}");
    recorder.record(&noise, &NoNames);
    assert!(!recorder.is_holding(), "what nobody will write is kept");
    recorder.end();
    assert!(!recorder.is_whole());
    drop(reader);
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
