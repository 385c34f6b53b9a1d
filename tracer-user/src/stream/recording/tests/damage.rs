//! Files that are cut, damaged, or not written by gmpscope do no harm.

use proptest::{collection::vec, prelude::*};

use super::{
    super::{encoder::Encoder, *},
    pieces, read, small, write,
};
use crate::stream::{BucketScheme, HistogramDelta, HistogramKey, Kind};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

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
    // As many causes, and causes that are not in order.
    let mut causes = vec![0; 8];
    wire::put(&mut causes, 1 << 40);
    let unordered = [0u8, 1, 0, 5, 5, 5, 5, 5, 2, 7, 3, 7, 2];
    for (tag, contents) in [
        (observation::tag::HISTOGRAM_DELTA, buckets.as_slice()),
        (observation::tag::HITS, &[]),
        (observation::tag::THROTTLING, &[0, 1]),
        (observation::tag::SNAPSHOT, b"\0[[[[[[["),
        (observation::tag::ONGOING, b"\0{\"runnable\":7}"),
        (observation::tag::CAUSE_SAMPLES, causes.as_slice()),
        (observation::tag::CAUSE_SAMPLES, &unordered),
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
