//! Writes recordings and reads them back.

mod damage;
mod made;
mod recorder;
mod round_trip;

use super::{encoder::Encoder, *};
use crate::stream::{Kind, Loss, LossCause, Throttling};

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
        Entry::Observations(vec![
            observation(990, Kind::Hits(1)),
            observation(
                980,
                Kind::Throttling(Throttling {
                    throttled_ns: 40,
                    periods: 1,
                }),
            ),
        ]),
        Entry::Step("{\"third\":3}".into()),
        Entry::Observations(vec![observation(2_990, Kind::Hits(u64::MAX))]),
    ]
}
