use super::*;
use crate::document::causes::StopCountsInfo;
use crate::document::fixtures;
use crate::document::interval::Interval;
use crate::escape::is_dangerous;
use crate::latency::Latency;
use crate::output::text::layout::WIDTH;
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
fn full_says_why() {
    golden("full", &render(&fixtures::causes::full(), Style::default()));
}

#[test]
fn full_by_cause() {
    golden(
        "full-by-cause",
        &render(&fixtures::causes::full(), by(SplitBy::Cause)),
    );
}

#[test]
fn passive_estimates_why() {
    golden(
        "passive-estimate",
        &render(&fixtures::causes::estimated(), Style::default()),
    );
}

#[test]
fn the_answer_comes_first_then_what_stands_out_then_the_figures() {
    let text = render(&fixtures::exact(), Style::default());
    let place = |of: &str| text.find(of).unwrap_or_else(|| panic!("no {of}: {text}"));
    let places = [
        "process 4242",
        "\n\nrunnable goroutines waited 822 ms",
        "\nincomplete: 3 waits are missing",
        "\n\nwarning: ",
        "\n\n     nsecs ",
        "\ncost: ",
    ]
    .map(place);
    assert!(places.is_sorted(), "{places:?}: {text}");
    // Of the findings, none is below the figures.
    assert!(text.rfind("\nwarning: ") < text.find("     nsecs "), "{text}");
}

#[test]
fn a_capture_of_an_earlier_version_gets_its_answer() {
    let capture = fixtures::causes::full();
    let mut earlier = capture.clone();
    earlier.answer.clear();
    assert_eq!(
        render(&earlier, Style::default()),
        render(&capture, Style::default())
    );
}

#[test]
fn causes_that_do_not_add_up_to_the_waiting_are_shown_as_such() {
    let mut capture = fixtures::causes::full();
    assert!(!render(&capture, Style::default()).contains("add up"));
    for (imbalance_ns, expected) in [(-2_500, "2.50us less"), (7_000_000, "7.00ms more")] {
        let causes = capture.full.as_mut().unwrap().causes.as_mut().unwrap();
        causes.imbalance_ns = imbalance_ns;
        let text = render(&capture, Style::default()).replace('\n', " ");
        assert!(
            text.contains(&format!("the causes add up to {expected} than the waiting")),
            "{text}"
        );
    }
}

#[test]
fn wait_reasons_that_were_asked_for_are_shown_once() {
    let mut capture = fixtures::causes::full();
    let hist = capture.runnable_to_running.clone();
    capture.by_wait_reason = [("chan receive".into(), hist.clone()), ("select".into(), hist)].into();
    let shown = render(&capture, by(SplitBy::WaitReason));
    assert!(shown.contains("\nwait reason = chan receive\n"), "{shown}");
    assert!(shown.contains("\n(how long goroutines were waiting before they could run)\n"));
    assert!(!shown.contains("\nwaited for"), "{shown}");
    let not_asked = render(&capture, Style::default());
    assert!(not_asked.contains("\nwaited for"), "{not_asked}");
    assert!(!not_asked.contains("wait reason"), "{not_asked}");
}

#[test]
fn an_idle_target_has_no_waits() {
    let text = render(&fixtures::idle(), Style::default());
    assert!(text.contains("\nno waits seen\n"), "{text}");
    golden("idle", &text);
}

#[test]
fn colours_are_only_put_around_findings_and_in_the_bar_of_causes() {
    for capture in [fixtures::exact(), fixtures::causes::full()] {
        let plain = render(&capture, Style::default());
        let coloured = render(
            &capture,
            Style {
                by: None,
                colour: true,
            },
        );
        assert_ne!(plain, coloured);
        let is_bar = |line: &str| line.starts_with("|\x1b[");
        assert_eq!(coloured.lines().any(is_bar), !capture.by_cause.is_empty());
        let lines = coloured.lines().map(|line| match is_bar(line) {
            true => without_colours(line),
            false => line.to_owned() + "\n",
        });
        let without = ["\x1b[1;33m", "\x1b[1m", "\x1b[0m"]
            .iter()
            .fold(lines.collect::<String>(), |text, code| text.replace(code, ""));
        assert_eq!(plain, without);
    }
}

/// The line without the sequences that begin with ESC and end with `m`.
fn without_colours(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    let others = parts.map(|part| part.split_once('m').unwrap().1);
    first + &others.collect::<String>() + "\n"
}

#[test]
fn stops_that_are_not_shown_are_counted() {
    let mut capture = fixtures::causes::full();
    let shown = |capture: &Capture| render(capture, Style::default());
    assert!(!shown(&capture).contains(" more"), "both are shown");
    let full = capture.full.as_mut().unwrap();
    full.stops = vec![full.stops[0].clone(); 20];
    full.stop_counts = Some(StopCountsInfo { ended: 90, long: 73 });
    let text = shown(&capture);
    let counted = "\n(82 more; of the 90 that ended, 73 took more than 1.00ms)\n";
    assert!(text.contains(counted), "{text}");
    // A capture of an earlier version.
    capture.full.as_mut().unwrap().stop_counts = None;
    assert!(shown(&capture).contains("\n(12 more)\n"));
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
