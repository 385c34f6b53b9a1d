//! Renders a start: a timeline of at most 80 columns.

use std::fmt::Write;

use crate::findings::start::errno;
use crate::{
    document::{
        hist::Hist,
        init::{Init, PhaseOf, Run, Short},
    },
    escape::Untrusted,
    model::start::{Ended, TimesFrom},
    output::text::{
        layout::{WIDTH, tail, word, wrap},
        units::duration,
    },
    stream::step::MergedPhase,
};

/// Columns of a phase's name.
const NAME: usize = 22;
/// Columns of the bars.
const BAR: usize = 23;
/// Neighbouring inits are shown in one row if each is shorter than the whole start divided by this.
const SHORT_SHARE: u64 = 50;
/// Most system calls that are shown.
const CALLS: usize = 10;

/// Usual times, for orientation only.
pub const LEGEND: &str = "usual on an idle machine, for orientation only: main_created and main_started together 10 to 50us, \
                      binding a P 2 to 15us, the init of a package 10 to 50us.";

/// Renders the starts of a capture.
pub fn render(init: &Init) -> String {
    let mut text = String::new();
    if let Some(run) = &init.run {
        let several = init.runs.saturating_add(init.unfinished) > 1;
        text.push_str(&timeline(
            run,
            if several { ", of several the median" } else { "" },
        ));
        text.push_str(&wrap(LEGEND, 0));
    } else {
        text.push_str("\nno start was seen\n");
    }
    text.push_str(&merged(&init.merged, "in this binary"));
    if !init.histograms.is_empty() {
        text.push_str(&table(init));
    }
    text
}

/// Renders the phases that cannot be distinguished, each with the one that its time is part of.
pub fn merged(phases: &[MergedPhase], place: &str) -> String {
    let lines = phases.iter().map(|merged| {
        let what = match merged.phase.raw() {
            "init:*" => "the inits of all packages are".to_owned(),
            _ => format!("{} is", word(&merged.phase, WIDTH)),
        };
        wrap(
            &format!(
                "not distinguished {place}: {what} part of {} ({})",
                word(&merged.into, WIDTH),
                merged.why
            ),
            0,
        )
    });
    lines.collect()
}

/// A row of the timeline: a phase, or several short neighbouring ones.
struct Row {
    name: Untrusted,
    begin_ns: u64,
    duration_ns: u64,
    off_cpu_ns: Option<u64>,
    faults: Option<u64>,
    /// How many packages' inits are in it, if it stands for several.
    packages: usize,
    /// Whether it was not over.
    ongoing: bool,
}

/// Renders a start in full; `which` says which one of several it is.
pub fn timeline(run: &Run, which: &str) -> String {
    let zero = match *run.t0 {
        TimesFrom::Execve => "the entry of execve",
        TimesFrom::Prepared => "the kernel's sched_prepare_exec, the nearest to the entry of execve here",
        TimesFrom::Executed => "the kernel's sched_process_exec, within execve: its entry is not seen here",
    };
    let ended = match *run.ended {
        Ended::Main => format!("main.main was reached after {}", duration(run.duration_ns)),
        Ended::Library => format!(
            "Go is a library in it, whose inits were done after {} (main.main is never called)",
            duration(run.duration_ns)
        ),
        Ended::Exit => format!("it ended after {}, before main.main", duration(run.duration_ns)),
        Ended::Unfinished => format!("main.main was not reached within {}", duration(run.duration_ns)),
    };
    let held = match run.held_ns {
        0 => String::new(),
        ns => format!(", without the {} for which gmpscope held it there", duration(ns)),
    };
    let mut text = wrap(
        &format!(
            "start of process {}{which}: {ended}; times from {zero}{held}",
            run.pid
        ),
        0,
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\n{:>7} {:>7} {:>7} {:>6}  {:<NAME$} |{:<BAR$}|",
        "begins",
        "took",
        "off CPU",
        "faults",
        "phase",
        format!("0{:>width$}", duration(run.duration_ns), width = BAR - 1)
    );
    for row in rows(run) {
        let shown = |value: Option<u64>, how: fn(u64) -> String| value.map_or_else(|| "-".to_owned(), how);
        let _ = writeln!(
            text,
            "{:>7} {:>7} {:>7} {:>6}  {:<NAME$} |{}|",
            duration(row.begin_ns),
            duration(row.duration_ns) + if row.ongoing { "+" } else { "" },
            shown(row.off_cpu_ns, duration),
            shown(row.faults, |n| n.to_string()),
            tail(&row.name.to_string(), NAME),
            bar(&row, run.duration_ns)
        );
    }
    if run.phases.iter().any(|phase| phase.ongoing) {
        text.push_str("(+: it was not over, and took at least so long)\n");
    }
    text.push_str(&details(run));
    text.push_str(&calls(run));
    text
}

fn rows(run: &Run) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut inits = false;
    for phase in &run.phases {
        let is_init = phase.name.raw().starts_with("init:");
        inits |= is_init;
        let short = inits && phase.duration_ns < run.duration_ns / SHORT_SHARE;
        let row = Row {
            name: phase.name.clone(),
            begin_ns: phase.start_ns,
            duration_ns: phase.duration_ns,
            off_cpu_ns: phase.off_cpu_ns,
            faults: faults(phase),
            packages: usize::from(short) * usize::from(is_init),
            ongoing: phase.ongoing,
        };
        let mergeable = |row: &Row| row.packages > 0 || row.name.raw().starts_with("init of ");
        match rows.last_mut() {
            Some(last) if short && mergeable(last) => {
                let sum = |(a, b): (u64, u64)| a.saturating_add(b);
                last.duration_ns = last.duration_ns.saturating_add(row.duration_ns);
                last.off_cpu_ns = last.off_cpu_ns.zip(row.off_cpu_ns).map(sum);
                last.faults = last.faults.zip(row.faults).map(sum);
                last.packages += row.packages;
                last.ongoing = row.ongoing;
                if last.packages > 1 {
                    last.name = format!("init of {} packages", last.packages).into();
                }
            }
            _ => rows.push(row),
        }
    }
    rows
}

fn faults(phase: &PhaseOf) -> Option<u64> {
    Some(phase.minor_faults?.saturating_add(phase.major_faults?))
}

/// Renders the bar of a row: `=` for every column that it covers; `.` if it is too short for one.
fn bar(row: &Row, whole_ns: u64) -> String {
    let column = |ns: u64| (ns as f64 / whole_ns.max(1) as f64 * BAR as f64).round() as usize;
    let (from, to) = (
        column(row.begin_ns),
        column(row.begin_ns.saturating_add(row.duration_ns)),
    );
    let from = from.min(BAR - 1);
    let to = to.clamp(from, BAR);
    let filled = if to > from {
        "=".repeat(to - from)
    } else {
        ".".to_owned()
    };
    format!("{:<BAR$}", " ".repeat(from) + &filled)
}

/// Renders spans, moments and system calls.
fn details(run: &Run) -> String {
    let mut text = "\n".to_owned();
    let spans: Vec<String> = run
        .spans
        .iter()
        .map(|span| {
            format!(
                "{} {} at {}",
                span.name,
                duration(span.duration_ns),
                duration(span.start_ns)
            )
        })
        .collect();
    if !spans.is_empty() {
        text.push_str(&wrap(&format!("in schedinit: {}", spans.join(", ")), 0));
    }
    let marks: Vec<String> = run
        .marks
        .iter()
        .filter(|mark| mark.name != "main.main" && mark.name != "library_ready")
        .map(|mark| format!("{} {}", word(&mark.name, WIDTH), duration(mark.at_ns)))
        .collect();
    if !marks.is_empty() {
        text.push_str(&wrap(&format!("moments: {}", marks.join(", ")), 0));
    }
    text
}

fn calls(run: &Run) -> String {
    let mut text = String::new();
    if run.calls.is_empty() {
        return text;
    }
    let _ = writeln!(
        text,
        "\n{:>7} {:>7}  slow system call (and each connect), in phase",
        "begins", "took"
    );
    for call in run.calls.iter().take(CALLS) {
        let on = call.on.as_ref().map_or_else(String::new, |on| format!(" {on}"));
        let result = match call.result {
            None => " (not returned)".to_owned(),
            Some(result) if result < 0 => format!(" ({})", errno(result)),
            Some(_) => String::new(),
        };
        let thread = if call.main_thread { "" } else { ", another thread" };
        let phase = call
            .phase
            .as_ref()
            .map_or_else(|| "-".to_owned(), Untrusted::to_string);
        let phase = format!(", {}{thread}", tail(&phase, NAME));
        let room = WIDTH - 17 - phase.chars().count();
        let _ = writeln!(
            text,
            "{:>7} {:>7}  {}{phase}",
            duration(call.start_ns),
            duration(call.duration_ns),
            fitted(&call.name.to_string(), &on, &result, room)
        );
    }
    if run.calls.len() > CALLS {
        let _ = writeln!(text, "(the JSON has the longest {})", run.calls.len());
    }
    text.push('\n');
    text
}

/// Renders a call in at most `room` columns: its result only if there is room for it, and the end of a long path.
fn fitted(name: &str, on: &str, result: &str, room: usize) -> String {
    let fits = |text: &String| text.chars().count() <= room;
    let whole = Some(format!("{name}{on}{result}")).filter(fits);
    whole
        .or_else(|| Some(format!("{name}{on}")).filter(fits))
        .unwrap_or_else(|| {
            format!(
                "{name} {}",
                tail(on, room.saturating_sub(name.chars().count() + 1))
            )
        })
}

/// Renders percentiles by phase.
fn table(init: &Init) -> String {
    let mut text = format!(
        "\n{} starts came to main.main{}\n\n{:<30} {:>5} {:>8} {:>8} {:>8} {:>8}\n",
        init.runs,
        match init.unfinished {
            0 => String::new(),
            n => format!(", {n} did not"),
        },
        "phase",
        "runs",
        "p50",
        "p90",
        "p99",
        "max"
    );
    let mut rows: Vec<(&Untrusted, &Hist)> = init.histograms.iter().collect();
    let order = |name: &Untrusted| {
        let phases = init.run.iter().flat_map(|run| &run.phases);
        phases
            .map(|phase| &phase.name)
            .position(|known| known == name)
            .unwrap_or(usize::MAX)
    };
    rows.sort_by_key(|(name, _)| order(name));
    let whole = init
        .histograms
        .get(&Untrusted::from("total"))
        .and_then(|total| total.p50_ns)
        .unwrap_or(0);
    let mut left_out = 0;
    for (name, hist) in rows {
        if name.raw().starts_with("init:") && hist.max_ns.unwrap_or(0) < whole / SHORT_SHARE {
            left_out += 1;
            continue;
        }
        let shown = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), duration);
        let _ = writeln!(
            text,
            "{:<30} {:>5} {:>8} {:>8} {:>8} {:>8}",
            tail(&name.to_string(), 30),
            hist.count,
            shown(hist.p50_ns),
            shown(hist.p90_ns),
            shown(hist.p99_ns),
            shown(hist.max_ns)
        );
    }
    if left_out > 0 {
        let _ = writeln!(text, "(and {left_out} short inits, which the JSON has)");
    }
    text
}

/// Renders the header of [`short_line`]s.
pub fn short_header() -> String {
    format!("{:>11} {:>8} {:>8}  longest phase\n", "at", "process", "start")
}

/// Renders a start in one line, as it is printed when it ends.
pub fn short_line(start: &Short) -> String {
    let ended = if start.ended.is_whole() {
        ""
    } else {
        " (not at main.main)"
    };
    let line = format!(
        "{:>10.3}s {:>8} {:>8}  {:>8} ",
        start.at_ns as f64 / 1e9,
        start.pid,
        duration(start.duration_ns),
        duration(start.longest_ns)
    );
    let room = WIDTH.saturating_sub(line.chars().count() + ended.len()).max(8);
    format!("{line}{}{ended}\n", tail(&start.longest.to_string(), room))
}

#[cfg(test)]
mod tests;
