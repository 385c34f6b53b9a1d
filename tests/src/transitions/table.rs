//! The table of docs/accuracy.md in which mode `full` is compared with `runtime/trace`, change by change.

use std::time::Duration;

use anyhow::Result;

use super::{Compared, compare};
use crate::scenario::Case;
use crate::toolchain::{self, Toolchain};
use crate::variant::Variant;

/// The least share of all changes of state that both sides must have.
pub const AGREED: f64 = 0.999;
/// Variants of tests/workloads/states that must agree.
pub const WAYS: [&str; 8] = [
    "syscalls", "blocking", "timers", "mutex", "churn", "locked", "gc", "http",
];
/// How long each workload is running.
const DURING: Duration = Duration::from_millis(300);
/// Column heads, of which the first two are text.
const HEADS: [&str; 11] = [
    "Go",
    "workload",
    "changes, trace",
    "matched",
    "more, gmpscope",
    "share",
    "inferred",
    "left out: system calls (p50, longest)",
    "left out: coroutines",
    "trace later by: p1, p50, p99",
    "lost",
];

/// The cases that are compared, for one Go.
pub fn cases(toolchain: &Toolchain) -> Vec<Case> {
    let case = |program: &'static str| Case::new(toolchain, Variant::Stripped, program);
    let mut cases = must_agree(toolchain);
    // These are reported, but need not agree.
    cases.push(case("states").args(&["-do", "procs"]));
    if toolchain.minor() >= 23 {
        cases.push(case("states").args(&["-do", "pull"]));
    }
    cases.push(Case::new(toolchain, Variant::Cgo, "cgo"));
    cases
}

/// The cases that must agree to [`AGREED`].
pub fn must_agree(toolchain: &Toolchain) -> Vec<Case> {
    let case = |program: &'static str| Case::new(toolchain, Variant::Stripped, program);
    let ways: [[&'static str; 2]; WAYS.len()] = WAYS.map(|way| ["-do", way]);
    let mut cases = vec![case("mixed")];
    cases.extend(ways.iter().map(|args| case("states").args(args)));
    cases.push(case("pingpong").gomaxprocs(1));
    cases.push(case("pool"));
    cases.push(Case::new(toolchain, Variant::PgoStripped, "mixed"));
    cases
}

/// Measures every toolchain that writes such traces, each case once, and returns the table as Markdown. Calls
/// `progress` with each row.
///
/// # Errors
/// A case could not be measured. Disagreement is not an error: the table shows it.
pub fn table(mut progress: impl FnMut(&str)) -> Result<String> {
    let mut table = format!("| {} |\n|---|---|", HEADS.join(" | "));
    table.push_str(&"--:|".repeat(HEADS.len() - 2));
    table.push('\n');
    for toolchain in toolchain::all()?.iter().filter(|t| t.minor() >= 22) {
        for case in cases(toolchain) {
            let compared = compare(&case.clone().during(DURING), &[])?;
            let row = row(&case, &compared);
            progress(&row);
            for example in compared.agreement.examples.iter().take(3) {
                progress(&format!("    {example}"));
            }
            table.push_str(&row);
            table.push('\n');
        }
    }
    Ok(table)
}

/// Formats one run as a row of the table.
fn row(case: &Case, compared: &Compared) -> String {
    let agreement = &compared.agreement;
    let share = agreement.share();
    let model = compared.capture.full.as_ref().map(|full| &full.model);
    let inferred: u64 = model.map_or(0, |model| model.inferred.values().sum());
    let lost = model.map_or("–".to_owned(), |model| model.lost.to_string());
    let mut detours = agreement.syscalls_ns.clone();
    detours.sort_unstable();
    let detours = match (detours.get(detours.len() / 2), detours.last()) {
        (Some(middle), Some(longest)) => format!("{} ({middle}, {longest} ns)", detours.len()),
        _ => "0".to_owned(),
    };
    let cells = [
        case.toolchain.version(),
        workload(case),
        agreement.theirs.to_string(),
        agreement.matched.to_string(),
        agreement.more.to_string(),
        // Truncated, not rounded: 99.9 % means that it agrees.
        format!("{:.3} %", (share * 100_000.0).floor() / 1_000.0),
        inferred.to_string(),
        detours,
        agreement.switches.to_string(),
        format!(
            "{}, {}, {} ns",
            agreement.off(0.01),
            agreement.off(0.5),
            agreement.off(0.99)
        ),
        lost,
    ];
    format!("| {} |", cells.join(" | "))
}

/// The case in a few words.
fn workload(case: &Case) -> String {
    let what = case.args.last().copied().unwrap_or(case.program);
    match case.variant {
        Variant::PgoStripped => format!("{what}, PGO"),
        _ => what.to_owned(),
    }
}
