//! Renders starts of many programs: a line for each program, and the slowest starts as timelines.

use std::fmt::Write;

use crate::{
    document::{
        followed::{BinaryOf, TreeOf},
        hist::Hist,
        init::{Init, Run},
    },
    escape::Untrusted,
    output::text::{
        init::{LEGEND, merged, timeline},
        layout::{WIDTH, tail, word, wrap},
        units::duration,
    },
};

/// Most programs that have a line.
const BINARIES: usize = 40;
/// Columns of a phase's name.
const PHASE: usize = 18;
/// Most timelines of starts that did not end.
const UNFINISHED: usize = 2;
/// Most timelines of other starts, each of a different program.
const SLOWEST: usize = 2;

/// Renders the starts of a command's tree.
pub fn render(init: &Init, tree: &TreeOf) -> String {
    let mut text = "\n".to_owned();
    text.push_str(&wrap(&executed(init, tree), 0));
    if init.binaries.is_empty() {
        text.push_str("\nno start of a Go program was seen\n");
    } else {
        text.push_str(&table(&init.binaries));
    }
    let shown: Vec<&Run> = with_timeline(&init.slowest);
    for run in &shown {
        let of = init
            .binaries
            .iter()
            .find(|binary| Some(&binary.exe) == run.exe.as_ref());
        let name = run.exe.as_ref().map_or("?", Untrusted::raw);
        let name = Untrusted::from(name.rsplit('/').next().unwrap_or(name));
        let which = match of.map_or(0, |binary| binary.runs) {
            runs if run.ended.is_whole() && runs > 1 => {
                format!(" ({}), the slowest of {runs}", word(&name, WIDTH))
            }
            _ => format!(" ({})", word(&name, WIDTH)),
        };
        text.push('\n');
        text.push_str(&timeline(run, &which));
    }
    if !shown.is_empty() {
        text.push_str(&wrap(LEGEND, 0));
    }
    for binary in init.binaries.iter().take(BINARIES) {
        let name = Untrusted::from(binary.exe.raw().rsplit('/').next().unwrap_or_default());
        text.push_str(&merged(&binary.merged, &format!("in {}", word(&name, WIDTH))));
    }
    text.push_str(&missing(tree));
    text
}

/// Returns the starts that have a timeline: some that did not end, then the slowest of each of a few programs.
fn with_timeline(runs: &[Run]) -> Vec<&Run> {
    let (ended, unfinished): (Vec<&Run>, Vec<&Run>) = runs.iter().partition(|run| run.ended.is_whole());
    let mut shown: Vec<&Run> = unfinished.into_iter().take(UNFINISHED).collect();
    let mut programs: Vec<&Option<Untrusted>> = Vec::new();
    for run in ended {
        if programs.len() < SLOWEST && !programs.contains(&&run.exe) {
            programs.push(&run.exe);
            shown.push(run);
        }
    }
    shown
}

fn executed(init: &Init, tree: &TreeOf) -> String {
    let unfinished = match init.unfinished {
        0 => String::new(),
        n => format!(" ({n} did not come to main.main)"),
    };
    format!(
        "followed: {} of {} Go {}{unfinished}; {} of other programs",
        counted(init.runs + init.unfinished, "start", "starts"),
        init.binaries.len(),
        if init.binaries.len() == 1 {
            "program"
        } else {
            "programs"
        },
        counted(tree.others, "execve", "execves"),
    )
}

fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn table(binaries: &[BinaryOf]) -> String {
    let mut text = format!(
        "\n{:>7} {:>7} {:>7}  {:<PHASE$} {:>7}  program\n",
        "starts", "median", "max", "slowest phase", "median"
    );
    for binary in binaries.iter().take(BINARIES) {
        let shown = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), duration);
        let total = binary.total();
        let slowest = binary.histograms.get(&binary.slowest_phase);
        let line = format!(
            "{:>7} {:>7} {:>7}  {:<PHASE$} {:>7}  ",
            binary.runs.saturating_add(binary.unfinished),
            shown(total.and_then(median)),
            shown(total.and_then(|total| total.max_ns)),
            tail(&binary.slowest_phase.to_string(), PHASE),
            shown(slowest.and_then(median)),
        );
        let room = WIDTH.saturating_sub(line.chars().count());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}{}", tail(&binary.exe.to_string(), room));
    }
    if binaries.len() > BINARIES {
        let _ = writeln!(
            text,
            "(and {} more programs, which the JSON has)",
            binaries.len() - BINARIES
        );
    }
    text
}

/// Returns the upper bound of the median's bucket, but at most the largest value.
fn median(hist: &Hist) -> Option<u64> {
    Some(hist.p50_ns?.min(hist.max_ns.unwrap_or(u64::MAX)))
}

/// Renders what was not seen of the tree.
fn missing(tree: &TreeOf) -> String {
    let mut text = String::new();
    let mut say = |line: String| text.push_str(&wrap(&line, 0));
    if tree.unseen > 0 {
        say(format!(
            "not seen: {} whose program was not looked at, not in time, or cannot be traced.",
            counted(tree.unseen, "execve", "execves")
        ));
    }
    if tree.released_unprobed > 0 {
        say(format!(
            "let go unasked, whoever executed them: {}, since gmpscope was stopped or got no CPU; starts may be missing.",
            counted(tree.released_unprobed, "program", "programs")
        ));
    }
    if tree.ended_early > 0 {
        say(format!(
            "{} ended before the first instruction of a Go program, or had not come to it.",
            counted(tree.ended_early, "process", "processes")
        ));
    }
    if tree.outlived > 0 {
        say(format!(
            "{} outlived the command, and went on without being followed.",
            counted(tree.outlived, "process", "processes")
        ));
    }
    if !tree.not_watched.is_empty() {
        let named: Vec<_> = tree.not_watched.iter().map(|place| word(place, WIDTH)).collect();
        say(format!("not followed, programs on: {}", named.join(", ")));
    }
    text
}
