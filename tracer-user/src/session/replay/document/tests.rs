use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    document::fixtures,
    error::Failure,
    latency::Latency,
    output::{
        json,
        options::{Chatter, Format, RenderOptions, SplitBy},
        sink::Sink,
        text::{self, Style},
    },
    stream::BucketScheme,
};

fn options(format: Format, by: Option<SplitBy>) -> ReplayOptions {
    ReplayOptions {
        file: None,
        format,
        output: None,
        interval: None,
        by,
        chatter: Chatter::Quiet,
    }
}

/// What is printed of `text`, and whether that is complete.
fn printed(text: &str, options: &ReplayOptions, into: &Path) -> Result<(String, Replayed)> {
    let open = || {
        let render = RenderOptions {
            format: options.format,
            by: options.by,
            chatter: Chatter::Quiet,
            ..RenderOptions::default()
        };
        Ok(Printer::new(render, Sink::open(Some(into))?))
    };
    let (printer, replayed) = print(text.as_bytes(), "x.json", options, open)?;
    printer.finish_now()?;
    Ok((std::fs::read_to_string(into).unwrap(), replayed))
}

fn all() -> [Capture; 6] {
    [
        fixtures::exact(),
        fixtures::sampled(),
        fixtures::passive(),
        fixtures::idle(),
        fixtures::causes::full(),
        fixtures::causes::estimated(),
    ]
}

#[test]
fn a_capture_is_printed_as_text_and_as_the_same_json() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("printed");
    for capture in all() {
        let json = json::line(&capture).unwrap();
        assert!(looks_like_json(json.as_bytes()));
        let is_complete = capture.capture.complete;
        let (text, replayed) = printed(&json, &options(Format::Text, None), &into).unwrap();
        assert_eq!(text, text::render(&capture, Style::default()));
        assert_eq!(replayed, Replayed::Concluded { is_complete });
        let (again, _) = printed(&json, &options(Format::Json, None), &into).unwrap();
        assert_eq!(again, json);
        // As a person might have stored it.
        let pretty = json::pretty(&capture).unwrap();
        let (again, _) = printed(&pretty, &options(Format::Json, None), &into).unwrap();
        assert_eq!(again, json);
    }
}

#[test]
fn intervals_come_before_their_capture() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("printed");
    let interval = Interval::of(
        &Latency::new(BucketScheme::Kernel),
        false,
        &fixtures::Names,
        0,
        0,
        1_000_000_000,
    );
    let interval = json::line(&interval).unwrap();
    let text = interval.clone() + &interval + &json::line(&fixtures::sampled()).unwrap();
    let (shown, _) = printed(&text, &options(Format::Text, None), &into).unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].trim_start().starts_with("until"), "{shown}");
    assert_eq!(lines[1], lines[2]);
    let (again, _) = printed(&text, &options(Format::Json, None), &into).unwrap();
    assert_eq!(again, text);
    let cut = printed(&interval, &options(Format::Text, None), &into).unwrap_err();
    assert!(cut.message.contains("cut off"), "{cut}");
}

#[test]
fn what_is_not_of_ours_gets_an_error_that_says_what_is() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("printed");
    let with = |text: &str| printed(text, &options(Format::Text, None), &into).unwrap_err();
    for (text, expected) in [
        ("{", "neither a recording nor the JSON of a capture"),
        ("{\"a\" 1}", "neither a recording nor the JSON of a capture"),
        ("{\"a\":1}", "schema ``"),
        ("{\"schema\":\"gmpscope.inspection/1\"}", "gmpscope.inspection/1"),
        ("{\"schema\":\"\\u001b[2J\"}", "\\u{1b}[2J"),
        ("{\"schema\":\"gmpscope.capture/1\"}", "missing field"),
    ] {
        let error = with(text);
        assert!(error.message.contains(expected), "{text}: {error}");
        assert_eq!(error.failure, Failure::Failed, "{text}: {error}");
    }
    let json = json::line(&fixtures::exact()).unwrap();
    let mode = with(&json.replace("\"mode\":\"exact\"", "\"mode\":\"\\u0007\""));
    assert!(mode.message.contains("unknown variant"), "{mode}");
    for by in [SplitBy::CreationSite, SplitBy::Cause, SplitBy::WaitReason] {
        let by = options(Format::Text, Some(by));
        let error = printed(&json, &by, &into).unwrap_err();
        assert_eq!(error.failure, Failure::Usage, "{error}");
    }
    assert!(!into.exists(), "nothing is written for what cannot be printed");
}

#[test]
fn what_a_later_version_adds_is_named() {
    let value = json!({ "a": 1, "later": [1], "of": [{ "x": 2, "later": null, "more": {} }] });
    let known = json!({ "a": 1, "of": [{ "x": 2 }] });
    let mut missing = Vec::new();
    add_missing(&value, &known, "", &mut missing);
    assert_eq!(missing, ["later", "of.more"]);
}

/// A capture of each kind, as it was written.
const GOLDEN: [&str; 10] = [
    include_str!("../../../../../tests/golden/recordings/passive.json"),
    include_str!("../../../../../tests/golden/recordings/sampled.json"),
    include_str!("../../../../../tests/golden/recordings/exact.json"),
    include_str!("../../../../../tests/golden/recordings/full.json"),
    include_str!("../../../../../tests/golden/recordings/stacks.json"),
    include_str!("../../../../../tests/golden/recordings/run.json"),
    include_str!("../../../../../tests/golden/recordings/repeat.json"),
    include_str!("../../../../../tests/golden/recordings/follow.json"),
    include_str!("../../../../../tests/golden/recordings/latencies.json"),
    include_str!("../../../../../tests/golden/recordings/next.json"),
];

/// Fields that do not hold every u64: a document with another number there is refused.
const NARROW: [&str; 13] = [
    "pid",
    "tid",
    "p",
    "id",
    "gomaxprocs",
    "idle_ms",
    "idle_ps",
    "imbalance_ns",
    "local_runqs",
    "max_runq",
    "nominal",
    "result",
    "spinning_ms",
];

/// All other numbers in a document, each replaced by one of these.
fn with_numbers(value: &mut Value, numbers: &mut impl Iterator<Item = u64>) {
    match value {
        Value::Number(number) if number.is_u64() => *number = numbers.next().unwrap_or(0).into(),
        Value::Array(values) => values.iter_mut().for_each(|value| with_numbers(value, numbers)),
        Value::Object(fields) => {
            let wide = fields
                .iter_mut()
                .filter(|(key, _)| !NARROW.contains(&key.as_str()));
            wide.for_each(|(_, value)| with_numbers(value, numbers));
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn whatever_the_numbers_are_nothing_panics(
        which in 0usize..GOLDEN.len(),
        numbers in prop::collection::vec(
            prop_oneof![Just(0), Just(u64::MAX), Just(i64::MAX as u64), Just(u64::from(u32::MAX)), any::<u64>()],
            64,
        ),
    ) {
        let mut value: Value = serde_json::from_str(GOLDEN[which]).unwrap();
        with_numbers(&mut value, &mut numbers.into_iter().cycle());
        let mut unknown = Vec::new();
        let capture = typed::<Capture>(&value, "x.json", &mut unknown).unwrap();
        prop_assert!(!text::render(&capture, Style::default()).is_empty());
    }
}
