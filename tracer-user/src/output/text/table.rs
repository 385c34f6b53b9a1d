//! Renders several histograms, one line each.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use crate::document::hist::Hist;
use crate::output::text::layout::tail;
use crate::output::text::units::{duration, percent};

/// Columns of a name.
const NAME: usize = 30;

/// A histogram with the name that it is shown under.
pub type Row<'h> = (String, &'h Hist);

/// Returns the histograms that are not empty, with their names.
pub fn rows<K: Display>(hists: &BTreeMap<K, Hist>) -> Vec<Row<'_>> {
    let rows = hists.iter().map(|(key, hist)| (key.to_string(), hist));
    rows.filter(|(_, hist)| hist.count > 0).collect()
}

/// Renders the `most` largest of `rows`, one line each, with their shares of all waits; the last line counts the
/// others.
pub fn table(title: &str, rows: &[Row<'_>], most: usize) -> String {
    let all = rows
        .iter()
        .fold(0u64, |sum, (_, hist)| sum.saturating_add(hist.count));
    let mut sorted: Vec<&Row<'_>> = rows.iter().collect();
    sorted.sort_by(|a, b| b.1.count.cmp(&a.1.count).then_with(|| a.0.cmp(&b.0)));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{title:<NAME$} {:>10} {:>6} {:>7} {:>7} {:>7} {:>7}",
        "waits", "share", "p50", "p90", "p99", "max"
    );
    for (name, hist) in sorted.iter().take(most) {
        let name = tail(name, NAME);
        // The upper bound of the last bucket may lie above the largest wait, where that is known.
        let most = hist.max_ns.unwrap_or(u64::MAX);
        let quantile = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), |ns| duration(ns.min(most)));
        let _ = writeln!(
            text,
            "{name:<NAME$} {:>10} {:>6} {:>7} {:>7} {:>7} {:>7}",
            hist.count,
            percent(hist.count, all),
            quantile(hist.p50_ns),
            quantile(hist.p90_ns),
            quantile(hist.p99_ns),
            quantile(largest(hist)),
        );
    }
    let rest = sorted.get(most..).unwrap_or_default();
    if !rest.is_empty() {
        let count = rest
            .iter()
            .fold(0u64, |sum, (_, hist)| sum.saturating_add(hist.count));
        let name = format!("({} more)", rest.len());
        let _ = writeln!(text, "{name:<NAME$} {count:>10} {:>6}", percent(count, all));
    }
    text
}

/// Returns the largest wait if it is known, otherwise the upper bound of its bucket.
pub fn largest(hist: &Hist) -> Option<u64> {
    hist.max_ns
        .or_else(|| hist.buckets.last().map(|bucket| bucket.le_ns))
}
