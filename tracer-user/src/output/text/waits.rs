//! Renders the histogram of the waits, and what it is split by.

use std::fmt::Write;

use crate::document::capture::Capture;
use crate::document::hist::Hist;
use crate::output::options::SplitBy;
use crate::output::text::histogram;
use crate::output::text::layout::{WIDTH, tail, wrap};
use crate::output::text::style::Style;
use crate::output::text::table::{Row, largest, rows, table};
use crate::output::text::units::duration;

/// Most histograms that are shown one by one; if there are more, a table is shown.
const MOST_HISTOGRAMS: usize = 6;
/// Most lines of a table that was not asked for.
const SHORT_TABLE: usize = 6;
/// Most lines of a table that was asked for.
const LONG_TABLE: usize = 40;

/// Renders the waits of a capture, split by `by`.
pub fn render(capture: &Capture, by: SplitBy, style: Style) -> String {
    let mut text = String::new();
    let waits = capture.waits();
    if waits.count == 0 && !waits.is_absent() {
        text.push_str(match capture.yields() {
            0 => "\nno waits seen\n",
            _ => "\nno waits seen but voluntary yields\n",
        });
    }
    if capture.runnable_to_running.count > 0 {
        let (title, rows) = split(capture, by);
        text.push_str(&breakdown(capture, title, &rows, style));
        if !rows.is_empty() {
            text.push_str(&wrap(remark(by), 0));
        }
    }
    text
}

/// What waits are split into, and the title above the names.
fn split(capture: &Capture, by: SplitBy) -> (&'static str, Vec<Row<'_>>) {
    match by {
        SplitBy::Origin => ("origin", rows(&capture.by_origin)),
        SplitBy::CreationSite => ("creation site", rows(&capture.by_creation_site)),
        SplitBy::Cause => {
            let causes = capture.by_cause.iter();
            let causes = causes.map(|(cause, time)| (cause.to_string(), &time.hist));
            ("cause", causes.filter(|(_, hist)| hist.count > 0).collect())
        }
        SplitBy::WaitReason => ("wait reason", rows(&capture.by_wait_reason)),
    }
}

/// What must be known about figures that are not those of whole waits to run.
const fn remark(by: SplitBy) -> &'static str {
    match by {
        SplitBy::Origin | SplitBy::CreationSite => "",
        SplitBy::Cause => "(a wait with several causes is in each of them, with its time of that cause)",
        SplitBy::WaitReason => "(how long goroutines were waiting before they could run)",
    }
}

/// Renders the histogram of the waits that count as latency, or those that all are split into.
fn breakdown(capture: &Capture, title: &str, shown: &[Row<'_>], style: Style) -> String {
    let mut text = String::new();
    let (all, waits) = (&capture.runnable_to_running, capture.waits());
    let one_by_one = style.by.is_some() && !shown.is_empty() && shown.len() <= MOST_HISTOGRAMS;
    if one_by_one {
        for (name, hist) in shown {
            let name = tail(name, WIDTH - title.len() - 3);
            let _ = write!(
                text,
                "\n{} = {name}\n{}{}",
                title,
                histogram::rows(hist),
                quantiles(hist)
            );
        }
    } else if waits.count > 0 {
        let _ = write!(text, "\n{}{}", histogram::rows(waits), quantiles(waits));
    }
    if one_by_one || waits.count > 0 {
        let _ = writeln!(
            text,
            "(each the upper bound of its bucket, {} wide{})",
            if all.resolution == 0.25 {
                "at most 25 %"
            } else {
                "at most 6.25 %"
            },
            if all.max_ns.is_some() { "; max exact" } else { "" },
        );
    }
    if style.by.is_some() && shown.is_empty() {
        text.push_str(&wrap(
            &format!("This mode does not distinguish waits by {title}."),
            0,
        ));
    }
    if !shown.is_empty() {
        let most = if style.by.is_some() {
            LONG_TABLE
        } else {
            SHORT_TABLE
        };
        let _ = write!(text, "\n{}", table(title, shown, most));
    }
    text
}

/// Renders `p50 1.28us  p90 …`.
fn quantiles(hist: &Hist) -> String {
    let all = [
        ("p50", hist.p50_ns),
        ("p90", hist.p90_ns),
        ("p99", hist.p99_ns),
        ("p99.9", hist.p999_ns),
        ("max", largest(hist)),
    ];
    let known: Vec<String> = all
        .iter()
        .filter_map(|(name, ns)| ns.map(|ns| format!("{name} {}", duration(ns))))
        .collect();
    format!("{}\n", known.join("  "))
}
