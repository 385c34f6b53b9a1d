//! Renders a capture as text of at most 80 columns, like bcc's `runqlat`.

mod blocked;
mod followed;
mod full;
mod gauges;
mod histogram;
pub mod init;
mod inspection;
pub mod interval;
pub mod layout;
mod ongoing;
pub mod table;
mod undecided;
pub mod units;

use std::fmt::Write;

use crate::document::capture::{Capture, CaptureMode};
use crate::document::full::Full;
use crate::document::hist::Hist;
use crate::document::init::Init;
use crate::document::slow::Slow;
use crate::escape::escape;
use crate::findings::{Finding, Severity};
use crate::output::options::SplitBy;
use crate::output::text::layout::{WIDTH, go_version, tail, word, wrap};
use crate::output::text::table::{Row, largest, rows, table};
use crate::output::text::units::{duration, percent, seconds};
use crate::stream::EndedBy;

/// Most histograms that are shown one by one; if there are more, a table is shown.
const MOST_HISTOGRAMS: usize = 6;
/// Most lines of a table that was not asked for.
const SHORT_TABLE: usize = 6;
/// Most lines of a table that was asked for.
const LONG_TABLE: usize = 40;
/// Most slow waits that are shown.
const SLOW_LINES: usize = 20;

/// Options of the text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// What histograms are split by.
    pub by: Option<SplitBy>,
    /// Whether to use terminal colours; see [`wants_colour`].
    pub colour: bool,
}

/// Whether to use colours: on a terminal, unless `NO_COLOR` is set to something or `TERM` is `dumb`.
pub fn wants_colour(is_terminal: bool) -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    is_terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// Renders a capture.
pub fn render(capture: &Capture, style: Style) -> String {
    let by = style.by.unwrap_or(match capture.by_origin.is_empty() {
        true => SplitBy::CreationSite,
        false => SplitBy::Origin,
    });
    let mut text = header(capture, by);
    if let Some(init) = &capture.init {
        text.push_str(&match &init.tree {
            Some(tree) => followed::render(init, tree),
            None => init::render(init),
        });
    }
    let waits = capture.waits();
    if waits.count == 0 && !waits.is_absent() {
        text.push_str(match capture.yields() {
            0 => "\nno waits seen\n",
            _ => "\nno waits seen but voluntary yields\n",
        });
    }
    let (title, rows) = match by {
        SplitBy::Origin => ("origin", rows(&capture.by_origin)),
        SplitBy::CreationSite => ("creation site", rows(&capture.by_creation_site)),
    };
    if capture.runnable_to_running.count > 0 {
        text.push_str(&breakdown(capture, title, &rows, style));
    }
    text.push_str(&ongoing::render(capture));
    text.push_str(&full::render(capture));
    text.push_str(&slow(capture));
    text.push_str(&facts(capture));
    text.push_str(&findings(&capture.findings, style));
    text.push_str(&undecided::render(capture));
    text
}

/// Renders what was traced, how, and for how long.
fn header(capture: &Capture, by: SplitBy) -> String {
    let (target, how) = (&capture.target, &capture.capture);
    let mut target_line = format!("process {} {}, ", target.pid, word(&target.exe, WIDTH * 3 / 4));
    target_line.push_str(&match target.go_version.raw() {
        "" => "itself no Go program".to_owned(),
        _ => format!("{} {}", go_version(&target.go_version), word(&target.arch, WIDTH)),
    });
    // Writing to a String cannot fail.
    if let Some(gomaxprocs) = target.gomaxprocs {
        let _ = write!(target_line, ", GOMAXPROCS {gomaxprocs}");
    }
    if let Some(limit) = target.cgroup_cpu_limit {
        let _ = write!(target_line, ", cgroup limit {limit:.2} CPUs");
    }
    let mut text = wrap(&target_line, 0);
    if capture.runnable_to_running.is_absent() {
        return text;
    }
    let waits = capture.waits().count;
    let ended = match how.ended_by {
        EndedBy::Duration => "",
        EndedBy::Signal => ", ended by a signal",
        EndedBy::TargetExit => ", ended because the process exited",
        EndedBy::TargetExec => ", ended because the process executed another program",
        EndedBy::SourceFailed
        | EndedBy::Budget
        | EndedBy::ReaderGone
        | EndedBy::Starts
        | EndedBy::RecordingCut => ", ended early",
    };
    text.push_str(&wrap(
        &format!(
            "mode {}, {}{ended}: {waits} waits Runnable->Running",
            how.mode,
            seconds(how.duration_ns)
        ),
        0,
    ));
    text.push_str(&left_out(capture, by));
    if let Some(reason) = &how.mode_reason {
        text.push_str(&wrap(&reason.to_string(), 2));
    }
    text
}

/// Renders how many voluntary yields the figures are without, and where they are.
fn left_out(capture: &Capture, by: SplitBy) -> String {
    let yields = capture.yields();
    if yields == 0 {
        return String::new();
    }
    let all = capture.runnable_to_running.count;
    wrap(
        &format!(
            "left out: {yields} voluntary yields (runtime.Gosched), {} of all waits: {}",
            percent(yields, all),
            match by {
                SplitBy::Origin => "`yielded` below",
                SplitBy::CreationSite => "--by origin has them",
            }
        ),
        0,
    )
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
            &format!("This mode does not tell waits apart by {title}."),
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

/// Renders the longest waits, if they were asked for.
fn slow(capture: &Capture) -> String {
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

/// What a reader must know about the figures: sampling, cost, losses, gauges.
fn facts(capture: &Capture) -> String {
    let how = &capture.capture;
    let mut text = "\n".to_owned();
    if how.sampling.is_some() && how.events > 0 {
        text.push_str(&wrap(
            "sampling: the Go runtime chose which waits it measured, about one in eight of each goroutine and \
             not uniformly: a count is not to be multiplied by 8. Voluntary yields (runtime.Gosched) are among them, \
             and cannot be told apart; --mode exact does.",
            0,
        ));
    }
    if let Some(zeros) = capture
        .runnable_to_running
        .excluded_zero
        .filter(|zeros| *zeros > 0)
    {
        let what = match how.mode {
            CaptureMode::Passive => {
                "entries of the runtime's histogram below its first bound, which up to Go 1.25 are mostly no waits \
                 (returns from system calls, stack growth, GC)"
            }
            _ => {
                "records of 0 ns by the runtime's own clock: goroutines that had not waited (their stack was moved, \
                 the world was stopped), or less than a tick of it"
            }
        };
        text.push_str(&wrap(&format!("left out: {zeros} {what}."), 0));
    }
    text.push_str(&cost(capture));
    if !how.lost_by_cause.is_empty() {
        let causes: Vec<String> = how
            .lost_by_cause
            .iter()
            .map(|(cause, count)| format!("{count} {cause}"))
            .collect();
        text.push_str(&wrap(&format!("not counted: {}", causes.join(", ")), 0));
    }
    if how.lost_events > 0 {
        text.push_str(&wrap(
            &format!(
                "incomplete: {} {} are missing from these figures.",
                how.lost_events,
                if how.mode == CaptureMode::Init {
                    "marks"
                } else {
                    "waits"
                }
            ),
            0,
        ));
    } else if !how.complete {
        let start_is_missing = |init: &Init| init.unfinished > 0 || init.missed > 0;
        let why = match how.mode {
            CaptureMode::Init => "not every start that was asked for came to its end.",
            _ if capture.init.as_ref().is_some_and(start_is_missing) => "its start was not seen as a whole.",
            _ if has_unseen_places(capture) => "not every wait was seen; the notes below say why.",
            _ if !how.ended_by.target_is_there() => "the process ended before the window did.",
            _ => "not all was captured; the notes below say what is missing.",
        };
        text.push_str(&wrap(&format!("incomplete: {why}"), 0));
    }
    if how.concurrent_captures > 0 {
        text.push_str(&wrap(
            &format!(
                "{} more captures of this process ran meanwhile: their cost is in these figures.",
                how.concurrent_captures
            ),
            0,
        ));
    }
    for plugin in how.plugins.iter().filter(|plugin| plugin.problem.is_none()) {
        text.push_str(&wrap(
            &format!(
                "plugin {}: {} probed instructions",
                word(&plugin.path, WIDTH * 3 / 4),
                plugin.sites
            ),
            0,
        ));
    }
    for note in &how.notes {
        text.push_str(&wrap(&format!("note: {note}"), 0));
    }
    if let Some(goroutines) = &capture.goroutines {
        text.push_str(&gauges::goroutines(goroutines));
    }
    if let Some(scheduler) = &capture.scheduler {
        text.push_str(&gauges::scheduler(scheduler));
    }
    text
}

/// Whether waits are missing since the places where they begin or end were not all probed.
fn has_unseen_places(capture: &Capture) -> bool {
    let fits = |full: &Full| full.model.fits();
    capture.capture.plugins.iter().any(|plugin| !plugin.is_whole()) || !capture.full.as_ref().is_none_or(fits)
}

/// What the capture cost the target.
fn cost(capture: &Capture) -> String {
    let how = &capture.capture;
    if how.mode == CaptureMode::Passive && how.probe_hits == 0 {
        return wrap("cost: no probe; the process was not stopped once.", 0);
    }
    if how.probe_hits == 0 {
        return wrap("cost: no probe was hit.", 0);
    }
    let mut line = format!("cost: {} probe hits", how.probe_hits);
    if let Some([low, high]) = how.probe_cost_ns {
        let _ = write!(line, " of {low} to {high} ns each");
    }
    line.push('.');
    if let Some(measured) = how.overhead_measured {
        let _ = write!(
            line,
            " For each wait, the process used {} times the CPU time that it had used just before ({} to {}).",
            ratio(measured.ratio),
            ratio(measured.low),
            ratio(measured.high)
        );
    }
    if let Some(predicted) = how.overhead_predicted {
        let what = match how.overhead_measured {
            Some(_) => "The hits and their cost would make it",
            None => "The overhead was not measured; by the hits and their cost, the process used",
        };
        let end = match predicted.high {
            Some(high) => format!("{} to {}", ratio(predicted.low), ratio(high)),
            None => format!("{} or more", ratio(predicted.low)),
        };
        let times = match how.overhead_measured {
            Some(_) => "",
            None => " times the CPU time that it would have used without",
        };
        let _ = write!(line, " {what} {end}{times}.");
    }
    if let (None, None, Some(stated)) = (how.overhead_measured, how.overhead_predicted, how.overhead_ratio) {
        let _ = write!(
            line,
            " The version that captured this states a ratio of {}.",
            ratio(stated)
        );
    }
    if let Some(floor) = how.latency_floor_ns {
        let _ = write!(
            line,
            " Each latency contains at least {floor} ns that the probes add."
        );
    }
    wrap(&line, 0)
}

/// A ratio with as many decimals as it deserves.
fn ratio(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 1.1 => format!("{ratio:.4}"),
        ratio if ratio < 2.0 => format!("{ratio:.2}"),
        ratio => format!("{ratio:.1}"),
    }
}

fn findings(findings: &[Finding], style: Style) -> String {
    let mut text = String::new();
    for finding in findings {
        let title = wrap(&format!("{}: {}", finding.severity, finding.title), 0);
        let title = match (style.colour, finding.severity) {
            (true, Severity::Warning) => format!("\x1b[1;33m{}\x1b[0m\n", title.trim_end()),
            (true, Severity::Info) => format!("\x1b[1m{}\x1b[0m\n", title.trim_end()),
            (false, _) => title,
        };
        text.push('\n');
        text.push_str(&title);
        text.push_str(&wrap(&finding.evidence.to_string(), 2));
        text.push_str(&wrap(&escape(&finding.advice), 2));
    }
    text
}

#[cfg(test)]
mod tests;
