//! Renders why goroutines waited to run: the causes, who held the Ps, stops of the world, and the longest waits.

use std::cmp::Reverse;
use std::fmt::Write;

use crate::document::capture::Capture;
use crate::document::causes::words::sentence;
use crate::document::causes::{CauseTime, CausesInfo, CulpritInfo};
use crate::document::full::Full;
use crate::model::sched::{Cause, LONG_STOP_NS};
use crate::output::text::bar::{letter, stacked};
use crate::output::text::layout::{WIDTH, hang, keep_units, tail, wrap};
use crate::output::text::style::Style;
use crate::output::text::units::{duration, percent};

/// Most culprits and most stops that are shown.
const LINES: usize = 8;
/// Columns of a culprit's name.
const NAME: usize = 30;
/// Columns of a stop's reason.
const REASON: usize = 24;

/// Renders what `full` knows of causes; an empty text where it knows nothing.
pub fn render(capture: &Capture, style: Style) -> String {
    let mut text = by_cause(capture, style);
    text.push_str(&culprits(&capture.culprits));
    if let Some(full) = &capture.full {
        text.push_str(&stops(full));
        text.push_str(&slowest(full));
    }
    text
}

/// Renders the causes, the largest first, and their shares as a bar. Voluntary yields come last, and have no share.
fn by_cause(capture: &Capture, style: Style) -> String {
    if capture.by_cause.is_empty() {
        return String::new();
    }
    let mut causes: Vec<(Cause, &CauseTime)> = capture
        .by_cause
        .iter()
        .map(|(cause, time)| (**cause, time))
        .collect();
    causes.sort_by_key(|(cause, time)| (*cause == Cause::Yielded, Reverse(time.total_ns), *cause));
    let waited_ns = capture.waited_ns();
    let mut text = format!(
        "\n{:<20} {:>8} {:>7} {:>10} {:>8} {:>8} {:>8}\n",
        "why they waited", "time", "share", "in waits", "p50", "p99", "max"
    );
    for (cause, time) in &causes {
        let share = match cause {
            Cause::Yielded => "-".to_owned(),
            _ => percent(time.total_ns, waited_ns),
        };
        let hist = &time.hist;
        let most = hist.max_ns.unwrap_or(u64::MAX);
        let shown = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), |ns| duration(ns.min(most)));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} {:<18} {:>8} {share:>7} {:>10} {:>8} {:>8} {:>8}",
            letter(*cause),
            cause.name(),
            duration(time.total_ns),
            hist.count,
            shown(hist.p50_ns),
            shown(hist.p99_ns),
            shown(hist.max_ns),
        );
    }
    let waits = causes.iter().filter(|(cause, _)| *cause != Cause::Yielded);
    let shares = waits.map(|(cause, time)| (*cause, time.total_ns as f64 / waited_ns.max(1) as f64));
    text.push_str(&stacked(shares, style.colour));
    text.push_str(&whole(capture, &causes));
    text
}

/// Renders what is to be known about the causes together.
fn whole(capture: &Capture, causes: &[(Cause, &CauseTime)]) -> String {
    let mut parts = Vec::new();
    let info = capture.full.as_ref().and_then(|full| full.causes);
    let info = info.unwrap_or_default();
    if info.some_ns > 0 {
        parts.push(format!(
            "for {} of the time at least one goroutine could run and did not",
            percent(info.some_ns, capture.capture.duration_ns)
        ));
    }
    let ongoing_ns = causes
        .iter()
        .fold(0u64, |sum, (_, time)| sum.saturating_add(time.ongoing_ns));
    if ongoing_ns > 0 {
        parts.push(format!(
            "{} are of goroutines that still waited at the end",
            duration(ongoing_ns)
        ));
    }
    if info.before_known_ns > 0 {
        parts.push(format!(
            "{} are from before all states were known",
            duration(info.before_known_ns)
        ));
    }
    parts.extend(imbalance(info));
    wrap(&parts.join("; "), 0)
}

/// Names the difference between the causes and the waiting, which is 0 unless something is wrong.
fn imbalance(info: CausesInfo) -> Option<String> {
    let which = match info.imbalance_ns {
        0 => return None,
        1.. => "more",
        _ => "less",
    };
    Some(format!(
        "the causes add up to {} {which} than the waiting, since events came out of order",
        duration(info.imbalance_ns.unsigned_abs())
    ))
}

fn culprits(culprits: &[CulpritInfo]) -> String {
    if culprits.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n{:<NAME$} {:>8} {:>7} {:>10} {:>8} {:>8}\n",
        "who held the Ps, made in", "held", "share", "stretches", "p99", "longest"
    );
    for culprit in culprits.iter().take(LINES) {
        let site = culprit.creation_site.as_ref();
        let site = site.map_or_else(|| "(not known)".to_owned(), ToString::to_string);
        let p99 = culprit.on_cpu.as_ref().and_then(|on_cpu| on_cpu.p99_ns);
        let p99 = p99.map(|ns| duration(ns.min(culprit.longest_ns)));
        let _ = writeln!(
            text,
            "{:<NAME$} {:>8} {:>6.1}% {:>10} {:>8} {:>8}",
            tail(&site, NAME),
            duration(culprit.held_ns),
            culprit.share * 100.0,
            culprit.stretches,
            p99.as_deref().unwrap_or("-"),
            duration(culprit.longest_ns),
        );
    }
    text.push_str(&more(culprits.len()));
    text
}

fn stops(full: &Full) -> String {
    let stops = &full.stops;
    if stops.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n{:<REASON$} {:>9} {:>8} {:>8} {:>10} made in\n",
        "stops of the world, for", "began at", "took", "stopping", "last"
    );
    for stop in stops.iter().take(LINES) {
        let reason = stop.reason.as_ref();
        let reason = reason.map_or_else(|| "(not known)".to_owned(), ToString::to_string);
        let last = stop.last.as_ref();
        let goid = last.and_then(|last| last.goid);
        let line = format!(
            "{:<REASON$} {:>8.3}s {:>8} {:>8} {:>10} ",
            tail(&reason, REASON),
            stop.at_ns as f64 / 1e9,
            duration(stop.total_ns) + if stop.ongoing { "+" } else { "" },
            duration(stop.stopping_ns),
            goid.map_or_else(|| "-".to_owned(), |goid| goid.to_string()),
        );
        let room = WIDTH.saturating_sub(line.chars().count()).max(8);
        let site = last.and_then(|last| last.creation_site.as_ref());
        let site = site.map_or_else(|| "-".to_owned(), |site| tail(&site.to_string(), room));
        let _ = writeln!(text, "{line}{site}");
    }
    text.push_str(&more_stops(full));
    if stops.iter().take(LINES).any(|stop| stop.ongoing) {
        text.push_str("(+: not over)\n");
    }
    text
}

/// Renders how many stops are not shown, and how many of all were long: the document lists only the longest.
fn more_stops(full: &Full) -> String {
    let Some(counts) = full.stop_counts else {
        return more(full.stops.len());
    };
    let ongoing = full.stops.iter().filter(|stop| stop.ongoing).count() as u64;
    let all = counts.ended.saturating_add(ongoing);
    match all.saturating_sub(LINES as u64) {
        0 => String::new(),
        more => format!(
            "({more} more; of the {} that ended, {} took more than {})\n",
            counts.ended,
            counts.long,
            duration(LONG_STOP_NS)
        ),
    }
}

/// Renders the longest waits, a sentence each with the time at which the wait began.
fn slowest(full: &Full) -> String {
    if full.slowest.is_empty() {
        return String::new();
    }
    let mut text = "\nthe longest waits to run:\n".to_owned();
    for wait in &full.slowest {
        let began_at = format!("{:>8.3}s ", wait.at_ns as f64 / 1e9);
        let sentence = keep_units(&sentence(wait).to_string());
        text.push_str(&hang(&began_at, &sentence, began_at.len()));
    }
    text
}

/// Renders how many of `count` lines are not shown.
fn more(count: usize) -> String {
    match count.saturating_sub(LINES) {
        0 => String::new(),
        more => format!("({more} more)\n"),
    }
}
