//! Renders the longest waits of at least `--slower`, one line each.

use std::fmt::Write;

use crate::document::capture::Capture;
use crate::document::slow::Slow;
use crate::output::text::layout::{WIDTH, tail};
use crate::output::text::units::duration;

/// Most slow waits that are shown.
const SLOW_LINES: usize = 20;

/// Renders the longest waits, if they were asked for.
pub fn render(capture: &Capture) -> String {
    let Some(summary) = &capture.slow_summary else {
        return String::new();
    };
    let mut text = format!(
        "\n{} slow waits: p50 {}  p99 {}  max {}; the longest:\n{}",
        summary.count,
        duration(summary.p50_ns),
        duration(summary.p99_ns),
        duration(summary.max_ns),
        slow_header(),
    );
    for slow in capture.slow.iter().take(SLOW_LINES) {
        text.push_str(&slow_line(slow));
    }
    if capture.slow.len() > SLOW_LINES {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "(the JSON has the longest {})", capture.slow.len());
    }
    text
}

/// Renders the header of [`slow_line`]s.
pub fn slow_header() -> String {
    format!(
        "{:>11} {:>7} {:>10} {:<9} {:>3} {:>7} {}\n",
        "at", "waited", "goroutine", "origin", "P", "thread", "made in"
    )
}

/// Renders a slow wait in one line, as it is also printed when it ends. What the mode does not know is `-`.
pub fn slow_line(slow: &Slow) -> String {
    fn shown(value: Option<impl ToString>) -> String {
        value.map_or_else(|| "-".to_owned(), |value| value.to_string())
    }
    let line = format!(
        "{:>10.3}s {:>7} {:>10} {:<9} {:>3} {:>7} ",
        slow.at_ns as f64 / 1e9,
        duration(slow.latency_ns),
        shown(slow.goid),
        shown(slow.origin),
        shown(slow.p),
        shown(slow.tid),
    );
    let room = WIDTH.saturating_sub(line.chars().count()).max(8);
    let site = slow
        .creation_site
        .as_ref()
        .map_or_else(|| "-".to_owned(), |site| tail(&site.to_string(), room));
    format!("{line}{site}\n")
}
