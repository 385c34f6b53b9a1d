//! The recorder and its file: when it is touched, and what happens if it takes no more.

use super::{super::*, read};
use crate::stream::{
    BucketScheme, HistogramDelta, HistogramKey, Kind, NoNames, Step, Symbolizer, step::StartStep,
};

/// A symbolizer that knows every name, and fails if it is asked for one twice.
#[derive(Default)]
struct AskedOnce(std::cell::RefCell<std::collections::BTreeSet<u64>>);

impl Symbolizer for AskedOnce {
    fn function_at(&self, gopc: u64) -> Option<Untrusted> {
        assert!(self.0.borrow_mut().insert(gopc), "asked for the same name twice");
        Some("main.main".into())
    }
}

/// Waits of goroutines that were made at this address.
fn delta_of(gopc: u64) -> Observation {
    Observation {
        at_ns: 5,
        kind: Kind::HistogramDelta(HistogramDelta {
            key: HistogramKey::CreationSite(gopc),
            scheme: BucketScheme::Kernel,
            counts: vec![(3, 1)],
            sum_ns: None,
            extremes_ns: None,
            excluded_zero: 0,
        }),
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
    let seen = [delta_of(0x401000)];
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

/// A symbolizer that knows no name before it learns of more code.
#[derive(Default)]
struct Learning {
    revision: std::cell::Cell<u64>,
    asked: std::cell::Cell<u32>,
}

impl Symbolizer for Learning {
    fn function_at(&self, _gopc: u64) -> Option<Untrusted> {
        self.asked.set(self.asked.get() + 1);
        (self.revision.get() > 0).then(|| "plugin.Run".into())
    }

    fn revision(&self) -> u64 {
        self.revision.get()
    }
}

#[test]
fn a_name_that_becomes_known_later_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gmps");
    let mut recorder = Recorder::open(&path).unwrap();
    recorder.begin();
    let names = Learning::default();
    recorder.record(&[delta_of(0x401000)], &names);
    recorder.record(&[delta_of(0x401000)], &names);
    assert_eq!(names.asked.get(), 1, "nothing was learnt since");
    names.revision.set(1);
    recorder.record(&[delta_of(0x401000)], &names);
    recorder.record(&[delta_of(0x401000)], &names);
    assert_eq!(names.asked.get(), 2);
    assert!(recorder.finish());
    let (entries, _) = read(&std::fs::read(&path).unwrap()).unwrap();
    let named = Entry::Names(vec![(0x401000, "plugin.Run".into())]);
    assert!(entries.contains(&named), "{entries:?}");
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
