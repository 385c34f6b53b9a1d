//! A recording from whomever: read, replayed and printed. Contents are mutated behind their compression
//! and checksum, which a mutation of the file would hardly ever get past.
#![no_main]

use std::path::Path;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use tracer_user::{
    output::sink::Sink,
    session::{
        options::{Chatter, Format, ReplayOptions},
        replay::{printer, replay},
    },
    stream::recording::{Reader, block},
};

fuzz_target!(|data: &[u8]| {
    let Some((options, file)) = data.split_first() else {
        return;
    };
    let bit = |n: u8| options >> n & 1 == 1;
    let options = ReplayOptions {
        file: None,
        format: if bit(0) { Format::Json } else { Format::Text },
        output: None,
        interval: bit(1).then(|| std::time::Duration::from_millis(10)),
        by: None,
        chatter: Chatter::Quiet,
    };
    let Ok(reader) = Reader::new(file, "fuzzed") else {
        return;
    };
    let sink = Sink::open(Some(Path::new("/dev/null"))).expect("/dev/null can be written");
    let mut printer = printer(&options, sink, "fuzzed");
    if replay(reader, &options, &mut printer).is_ok() {
        let _ = printer.finish_now();
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let whole = |data: &mut [u8]| fuzzer_mutate(data, size, max_size);
    if seed % 8 == 0 {
        return whole(data);
    }
    let Some((options, file)) = data.get(..size).and_then(|used| used.split_first()) else {
        return whole(data);
    };
    let options = *options;
    let mut file = file;
    if !matches!(block::version(&mut file), Ok(Some(block::VERSION))) {
        return whole(data);
    }
    let mut blocks = Vec::new();
    while let Ok(block::Next::Raw(raw)) = block::next(&mut file) {
        blocks.push(raw);
    }
    let Some(chosen) = (seed as usize / 8).checked_rem(blocks.len()) else {
        return whole(data);
    };
    let raw = &mut blocks[chosen];
    let length = raw.len();
    let room = (length + 256).min(block::MOST_RAW);
    raw.resize(room, 0);
    let length = fuzzer_mutate(raw, length, room).max(1);
    raw.truncate(length);
    let mut mutated = vec![options];
    mutated.extend(block::head());
    blocks.iter().for_each(|raw| mutated.extend(block::seal(raw)));
    match data.get_mut(..mutated.len()) {
        Some(place) if mutated.len() <= max_size => {
            place.copy_from_slice(&mutated);
            mutated.len()
        }
        _ => whole(data),
    }
});
