//! The number of instructions that the verifier of each kernel processes for each BPF program. It is kept in the
//! repository, so that growth is noticed before a kernel refuses a program for its complexity.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::report::{Finding, Report};
use crate::paths;

/// The name of the comparison among the findings.
pub const CHECK: &str = "verified instructions";
/// Growth that is tolerated, in percent: compilers and minor updates of kernels differ a little.
const TOLERATED: u64 = 5;

/// Counts of each program, by machine.
type Table = BTreeMap<String, BTreeMap<String, u64>>;

fn file() -> PathBuf {
    paths::root().join("tracer-ebpf/verified-instructions.json")
}

fn read() -> Result<Table> {
    let file = file();
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a table of counts", file.display()))
}

fn counts(report: &Report) -> BTreeMap<String, u64> {
    report
        .of("programs")
        .flat_map(|finding| finding.figures.clone())
        .collect()
}

/// Compares the counts of a machine with those in the repository.
pub fn compare(report: &Report) -> Result<Finding> {
    let table = read()?;
    let recorded = table.get(&report.machine.name()).cloned().unwrap_or_default();
    let differences = differences(&recorded, &counts(report));
    Ok(Finding {
        check: CHECK.into(),
        go: None,
        mode: None,
        ok: differences.is_empty(),
        detail: match differences.as_slice() {
            [] => "as recorded".into(),
            some => format!(
                "{}; if it is meant: cargo xtask vm --all --write",
                some.join(", ")
            ),
        },
        took_ms: 0,
        figures: BTreeMap::new(),
    })
}

/// Describes programs whose counts have grown, that are not recorded, or that are missing.
fn differences(recorded: &BTreeMap<String, u64>, counted: &BTreeMap<String, u64>) -> Vec<String> {
    let grown = counted
        .iter()
        .filter_map(|(program, count)| match recorded.get(program) {
            None => Some(format!("{program} has {count} and is not recorded")),
            Some(before) if count * 100 > before * (100 + TOLERATED) => {
                Some(format!("{program} grew from {before} to {count}"))
            }
            Some(_) => None,
        });
    let gone = recorded.keys().filter(|program| !counted.contains_key(*program));
    grown
        .chain(gone.map(|program| format!("{program} did not load")))
        .collect()
}

/// Records the counts of these machines. The counts of other machines, and of those that loaded no program, stay.
pub fn write(reports: &[Report]) -> Result<()> {
    let mut table = read()?;
    let new = reports
        .iter()
        .map(|report| (report.machine.name(), counts(report)));
    table.extend(new.filter(|(_, counts)| !counts.is_empty()));
    let file = file();
    fs::write(&file, serde_json::to_string_pretty(&table)? + "\n")
        .with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_and_absence_are_seen() {
        let of = |counts: &[(&str, u64)]| counts.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect();
        let recorded: BTreeMap<String, u64> = of(&[("a", 100), ("b", 100)]);
        assert!(differences(&recorded, &of(&[("a", 105), ("b", 50)])).is_empty());
        assert_eq!(differences(&recorded, &of(&[("a", 106), ("b", 100)])).len(), 1);
        assert_eq!(differences(&recorded, &of(&[("a", 100)])).len(), 1);
        assert_eq!(
            differences(&recorded, &of(&[("a", 1), ("b", 1), ("c", 1)])).len(),
            1
        );
    }
}
