//! Writes the tables of docs/kernels.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Result;

use super::report::{Finding, Report};
use crate::bench::markdown;
use crate::paths;

/// How many characters of a message a cell shows.
const LONGEST_CELL: usize = 160;

/// Replaces the generated parts of the page.
pub fn write(reports: &[Report]) -> Result<()> {
    let page = paths::root().join("docs/kernels.md");
    markdown::replace(&page, "modes", &modes(reports))?;
    markdown::replace(&page, "checks", &checks(reports))?;
    markdown::replace(&page, "verified", &verified(reports))?;
    markdown::replace(&page, "doctor", &doctor(reports))
}

/// The table of modes: kernel × architecture × mode × Go version.
fn modes(reports: &[Report]) -> String {
    let cells: BTreeSet<&str> = attached(reports).filter_map(|f| f.go.as_deref()).collect();
    let mut versions: Vec<&str> = cells.into_iter().collect();
    versions.sort_by_key(|version| {
        version
            .split('.')
            .map(|n| n.parse().unwrap_or(0))
            .collect::<Vec<u32>>()
    });
    let mut table = format!("| kernel | architecture | mode | {} |\n", versions.join(" | "));
    let _ = writeln!(table, "|---|---|---|{}", "---|".repeat(versions.len()));
    // In the order in which they were checked.
    let mut modes: Vec<&str> = Vec::new();
    for mode in attached(reports).filter_map(|f| f.mode.as_deref()) {
        if !modes.contains(&mode) {
            modes.push(mode);
        }
    }
    for report in reports {
        for mode in modes.iter().copied() {
            let of_mode = |version: &str| {
                let mut found = report.of("attach");
                found.find(|f| f.mode.as_deref() == Some(mode) && f.go.as_deref() == Some(version))
            };
            let cells: Vec<String> = versions.iter().map(|version| cell(of_mode(version))).collect();
            let _ = writeln!(
                table,
                "| {} | {} | {mode} | {} |",
                report
                    .package
                    .trim_start_matches("linux-image-")
                    .trim_start_matches("linux-binary-"),
                report.machine.arch.name(),
                cells.join(" | ")
            );
        }
    }
    table
}

/// The findings of all checks that attach.
fn attached(reports: &[Report]) -> impl Iterator<Item = &Finding> {
    reports.iter().flat_map(|report| report.of("attach"))
}

fn cell(finding: Option<&Finding>) -> String {
    match finding {
        None => "not run".into(),
        Some(finding) if finding.ok => "ok".into(),
        Some(_) => "**failed**".into(),
    }
}

/// The table of all other checks.
fn checks(reports: &[Report]) -> String {
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (column, report) in reports.iter().enumerate() {
        for finding in &report.findings {
            if ["attach", "doctor", "programs", super::verified::CHECK].contains(&finding.check.as_str()) {
                continue;
            }
            let row = rows
                .entry(finding.name())
                .or_insert_with(|| vec!["not run".into(); reports.len()]);
            let first = finding.detail.lines().next().unwrap_or_default();
            let first = shortened(first).replace('|', "\\|");
            row[column] = match finding.ok {
                true => first,
                false => format!("**failed**: {first}"),
            };
        }
    }
    let names: Vec<String> = reports.iter().map(|report| report.machine.name()).collect();
    let mut table = format!(
        "| check | {} |\n|---|{}\n",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for (name, cells) in rows {
        let _ = writeln!(table, "| {name} | {} |", cells.join(" | "));
    }
    table
}

/// A message, truncated to [`LONGEST_CELL`].
fn shortened(message: &str) -> String {
    match message.char_indices().nth(LONGEST_CELL) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

/// The table of instructions that the verifiers processed.
fn verified(reports: &[Report]) -> String {
    let mut rows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (column, report) in reports.iter().enumerate() {
        for (program, count) in report.of("programs").flat_map(|finding| &finding.figures) {
            let row = rows
                .entry(program)
                .or_insert_with(|| vec!["not used".into(); reports.len()]);
            row[column] = count.to_string();
        }
    }
    let names: Vec<String> = reports.iter().map(|report| report.machine.name()).collect();
    let mut table = format!(
        "| program | {} |\n|---|{}\n",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for (name, cells) in rows {
        let _ = writeln!(table, "| `{name}` | {} |", cells.join(" | "));
    }
    table
}

/// The output of `gmpscope doctor` on each machine.
fn doctor(reports: &[Report]) -> String {
    reports
        .iter()
        .flat_map(|report| report.of("doctor").map(move |finding| (report, finding)))
        .map(|(report, finding)| {
            format!(
                "<details><summary>{}</summary>\n\n```text\n{}\n```\n\n</details>\n",
                report.machine.name(),
                finding.detail.trim_end()
            )
        })
        .collect::<Vec<_>>()
        .join("\n")
}
