//! Recordings that were made by an earlier gmpscope, one of each mode: replayed today they give the same JSON and text
//! as then, byte for byte.
//!
//! `tests/golden/recordings/NAME.gmps` was recorded while programs of tests/workloads ran, `NAME.json` and `NAME.txt`
//! are the output of `gmpscope replay`. JSON may only gain fields. Where a change of the text is intended, write the
//! new one with the command that the failure names, and read the difference before you commit it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use gmpscope_tests::run::gmpscope_with;

/// One recording of each kind of capture.
const RECORDINGS: [&str; 10] = [
    "passive",
    "sampled",
    "exact",
    "full",
    "stacks",
    "run",
    "repeat",
    "follow",
    "latencies",
    "next",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/recordings")
}

/// Replays every file with the first extension, and compares stdout with the file of the second.
fn all_replay_to(from: &str, extension: &str, options: &[&str]) -> Result<()> {
    let mut differ = Vec::new();
    for name in RECORDINGS {
        let recording = folder().join(format!("{name}.{from}"));
        let golden = recording.with_extension(extension);
        let mut expected =
            fs::read_to_string(&golden).with_context(|| format!("reading {}", golden.display()))?;
        if (from, extension) == ("json", "txt") {
            // What was printed as it happened, above the result, is in a recording only.
            let result = expected.find("\nprocess ").map_or(0, |end| end + 1);
            expected.replace_range(..result, "");
        }
        let recording = recording.display().to_string();
        let mut arguments = vec!["replay", recording.as_str()];
        arguments.extend(options);
        let replayed = gmpscope_with(arguments)?;
        let printed = replayed.json.unwrap_or_default();
        if printed == expected {
            continue;
        }
        let line = printed
            .lines()
            .zip(expected.lines())
            .position(|(is, was)| is != was)
            .unwrap_or_else(|| printed.lines().count().min(expected.lines().count()));
        let of = |text: &str| text.lines().nth(line).unwrap_or("(end)").to_owned();
        differ.push(format!(
            "{name}.{extension}, line {}:\n  was {}\n  is  {}\n  (gmpscope replay tests/golden/recordings/{name}.{from} {} \
             > tests/golden/recordings/{name}.{extension})\n{}",
            line + 1,
            of(&expected),
            of(&printed),
            options.join(" "),
            replayed.stderr
        ));
    }
    ensure!(differ.is_empty(), "{}", differ.join("\n"));
    Ok(())
}

#[test]
fn recordings_of_every_mode_replay_to_the_same_json() -> Result<()> {
    all_replay_to("gmps", "json", &["--format", "json"])
}

#[test]
fn recordings_of_every_mode_replay_to_the_same_text() -> Result<()> {
    all_replay_to("gmps", "txt", &[])
}

/// All that the text says is in the JSON.
#[test]
fn the_json_of_every_mode_is_printed_as_the_text_of_its_recording() -> Result<()> {
    all_replay_to("json", "txt", &[])
}

#[test]
fn the_json_of_every_mode_is_written_again_byte_for_byte() -> Result<()> {
    all_replay_to("json", "json", &["--format", "json"])
}

#[test]
fn every_golden_file_belongs_to_a_recording_that_is_replayed() -> Result<()> {
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        ensure!(RECORDINGS.contains(&stem), "{} is not replayed", path.display());
    }
    Ok(())
}
