//! Renders intervals: a line each, below one header.

use crate::document::hist::Hist;
use crate::document::interval::{Interval, StartsInterval};
use crate::latency::start::TOTAL;
use crate::output::text::{
    layout::{WIDTH, tail},
    table::largest,
    units::duration,
};

/// Renders the header of [`line()`]s, of which `first` is the first.
pub fn header(first: &Interval) -> String {
    let names = format!(
        "{:>8} {:>10} {:>7} {:>7} {:>7} {:>7} {:>7} {:>8} {:>9}\n",
        "until", "waits", "p50", "p90", "p99", "p99.9", "max", "lost", "hits"
    );
    match first.without_yields {
        Some(_) => format!("(without voluntary yields, runtime.Gosched)\n{names}"),
        None => names,
    }
}

/// Renders an interval of waits in one line: its end, and upper bounds of the percentiles' buckets.
pub fn line(interval: &Interval) -> String {
    let hist = interval.waits();
    format!(
        "{:>7.1}s {:>10} {:>7} {:>7} {:>7} {:>7} {:>7} {:>8} {:>9}\n",
        end(interval.at_ns, interval.duration_ns),
        hist.count,
        shown(hist.p50_ns),
        shown(hist.p90_ns),
        shown(hist.p99_ns),
        shown(hist.p999_ns),
        shown(largest(hist)),
        interval.lost_events,
        interval.probe_hits,
    )
}

/// Renders the header of [`starts`].
pub fn starts_header(followed: bool) -> String {
    format!(
        "{:>8} {:>8} {:>8} {:>8} {:>8}{}\n",
        "time",
        "starts",
        "p50",
        "p90",
        "max",
        if followed { "  program" } else { "" }
    )
}

/// Renders an interval of starts: one line, or with `--follow` one for each binary.
pub fn starts(interval: &StartsInterval) -> String {
    if interval.binaries.is_empty() {
        let total = interval.histograms.get(&TOTAL.into());
        return starts_line(interval, interval.runs, total) + "\n";
    }
    let lines = interval.binaries.iter().map(|binary| {
        let line = starts_line(interval, binary.runs, binary.total());
        let room = WIDTH.saturating_sub(line.chars().count() + 2);
        format!("{line}  {}\n", tail(&binary.exe.to_string(), room))
    });
    lines.collect()
}

fn starts_line(interval: &StartsInterval, runs: u64, total: Option<&Hist>) -> String {
    format!(
        "{:>7.1}s {runs:>8} {:>8} {:>8} {:>8}",
        end(interval.at_ns, interval.duration_ns),
        shown(total.and_then(|hist| hist.p50_ns)),
        shown(total.and_then(|hist| hist.p90_ns)),
        shown(total.and_then(|hist| hist.max_ns))
    )
}

/// Returns the seconds from the capture's begin to the interval's end.
fn end(at_ns: u64, duration_ns: u64) -> f64 {
    at_ns.saturating_add(duration_ns) as f64 / 1e9
}

fn shown(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".to_owned(), duration)
}
