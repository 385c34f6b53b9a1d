use super::*;
use crate::document::fixtures;
use crate::document::interval::Interval;
use crate::escape::is_dangerous;
use crate::latency::Latency;
use crate::plan::Mode;
use crate::stream::BucketScheme;
use std::path::PathBuf;

/// Compares `text` with `golden/NAME.txt`; with `UPDATE_GOLDEN=1` writes the file instead.
fn golden(name: &str, text: &str) {
    for line in text.lines() {
        assert!(
            line.chars().count() <= WIDTH,
            "{name}: wider than {WIDTH}: {line}"
        );
        assert_eq!(line.trim_end(), line, "{name}: blanks at the end");
        assert!(!line.chars().any(is_dangerous), "{name}: {line:?}");
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/output/text/golden")
        .join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(
        text == expected,
        "{}:\n--- expected\n{expected}\n--- got\n{text}",
        path.display()
    );
}

fn by(by: SplitBy) -> Style {
    Style {
        by: Some(by),
        colour: false,
    }
}

#[test]
fn exact() {
    golden("exact", &render(&fixtures::exact(), Style::default()));
}

#[test]
fn exact_by_origin() {
    golden(
        "exact-by-origin",
        &render(&fixtures::exact(), by(SplitBy::Origin)),
    );
}

#[test]
fn voluntary_yields_are_left_out_and_counted() {
    let capture = fixtures::sweeping().capture(Mode::Exact, |_| {});
    let text = render(&capture, Style::default());
    for expected in [
        "mode exact, 10.0 s: 2000 waits Runnable->Running\n",
        "left out: 98000 voluntary yields (runtime.Gosched), 98.0% of all waits:\n`yielded` below\n",
        "p50 41.0us  p90 311us",
        "\nyielded                             98000  98.0%",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(!text.contains("512 -> 1023"), "the picture is of waits: {text}");
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    let by_origin = render(&capture, by(SplitBy::Origin));
    assert!(by_origin.contains("origin = yielded\n"), "{by_origin}");
    let by_site = render(&capture, by(SplitBy::CreationSite)).replace('\n', " ");
    assert!(by_site.contains("--by origin has them"), "{by_site}");
}

#[test]
fn a_program_that_only_yields_has_no_waits() {
    let mut observed = fixtures::Observed::new(BucketScheme::Kernel);
    let key = crate::stream::HistogramKey::Origin(crate::stream::Origin::Yielded);
    observed.waits(key, &[(1_000, 7)]);
    let text = render(&observed.capture(Mode::Exact, |_| {}), Style::default());
    for expected in [
        ": 0 waits Runnable->Running\n",
        "left out: 7 voluntary yields (runtime.Gosched), 100.0% of all waits",
        "\nno waits seen but voluntary yields\n",
        "\nyielded                                 7 100.0%",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(!text.contains("upper bound"), "{text}");
}

#[test]
fn sampled() {
    golden("sampled", &render(&fixtures::sampled(), Style::default()));
}

#[test]
fn sampled_by_creation_site() {
    golden(
        "sampled-by-creation-site",
        &render(&fixtures::sampled(), by(SplitBy::CreationSite)),
    );
}

#[test]
fn passive() {
    golden("passive", &render(&fixtures::passive(), Style::default()));
}

#[test]
fn passive_cannot_tell_origins_apart() {
    golden(
        "passive-by-origin",
        &render(&fixtures::passive(), by(SplitBy::Origin)),
    );
}

#[test]
fn an_idle_target_has_no_waits() {
    let text = render(&fixtures::idle(), Style::default());
    assert!(text.contains("\nno waits seen\n"), "{text}");
    golden("idle", &text);
}

#[test]
fn colours_are_only_put_around_findings() {
    let plain = render(&fixtures::exact(), Style::default());
    let coloured = render(
        &fixtures::exact(),
        Style {
            by: None,
            colour: true,
        },
    );
    assert_ne!(plain, coloured);
    let without = ["\x1b[1;33m", "\x1b[1m", "\x1b[0m"]
        .iter()
        .fold(coloured, |text, code| text.replace(code, ""));
    assert_eq!(plain, without);
}

#[test]
fn intervals_have_a_line_each() {
    let observed = {
        let mut observed = fixtures::Observed::new(BucketScheme::Kernel);
        let key = crate::stream::HistogramKey::Origin(crate::stream::Origin::Unblocked);
        observed.waits(
            key,
            &[(250, 20_000), (900, 9_000), (40_000, 1_000), (33_000_000, 2)],
        );
        let yielded = crate::stream::HistogramKey::Origin(crate::stream::Origin::Yielded);
        observed.waits(yielded, &[(1_000, 1_000_000)]);
        observed.see(fixtures::END_NS, crate::stream::Kind::Hits(2_060_004));
        observed
    };
    let begin = fixtures::BEGIN_NS;
    let second = 1_000_000_000;
    let busy = Interval::of(
        &observed.latency,
        true,
        &fixtures::Names,
        begin,
        begin,
        begin + second,
    );
    let empty = Latency::new(BucketScheme::Kernel);
    let idle = Interval::of(
        &empty,
        true,
        &fixtures::Names,
        begin,
        begin + second,
        begin + 2 * second,
    );
    golden(
        "intervals",
        &[
            interval::header(&busy),
            interval::line(&busy),
            interval::line(&idle),
        ]
        .concat(),
    );
    assert_eq!(
        busy.runnable_to_running.max_ns, None,
        "the largest of the capture is not the interval's"
    );
    let json = super::super::json::line(&busy).unwrap();
    assert_eq!(serde_json::from_str::<Interval>(&json).unwrap(), busy);
}
