//! The findings of a guest, which it prints as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::Machine;
use crate::step;

/// The result of one check.
#[derive(Clone, Debug, Deserialize)]
pub struct Finding {
    /// Name of the check.
    pub check: String,
    /// Go version of the program that was traced, if one was.
    #[serde(default)]
    pub go: Option<String>,
    /// Mode of the capture, if there was one.
    #[serde(default)]
    pub mode: Option<String>,
    /// Whether the check passed.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
    /// Duration in milliseconds.
    #[serde(default)]
    pub took_ms: u64,
    /// Figures by name, if the check has any.
    #[serde(default)]
    pub figures: BTreeMap<String, u64>,
}

impl Finding {
    /// The name for people: `attach 1.27.3 exact`.
    pub fn name(&self) -> String {
        let parts = [Some(&self.check), self.go.as_ref(), self.mode.as_ref()];
        parts
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Prints one line, and for a failed check all details.
    pub fn print(&self) {
        let mut lines = self.detail.lines();
        let first = lines.next().unwrap_or_default();
        let (shown, more) = match self.check.as_str() {
            // The text of doctor is for the documents.
            "doctor" if self.ok => ("", 0),
            _ if self.ok => (first, 0),
            _ => (first, usize::MAX),
        };
        let how = if self.ok { "ok" } else { "FAILED" };
        println!(
            "   {:<32} {how:<7} {:>6.1} s  {shown}",
            self.name(),
            self.took_ms as f64 / 1e3
        );
        for line in lines.take(more) {
            println!("      {line}");
        }
    }
}

/// All findings of one machine.
#[derive(Clone, Debug)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// The package of its kernel.
    pub package: String,
    /// The findings, in the order in which they were printed.
    pub findings: Vec<Finding>,
    /// From the start of the emulator to its exit.
    pub took: Duration,
}

impl Report {
    /// The report of a machine that could not be started.
    pub fn without_findings(machine: Machine, why: &anyhow::Error) -> Self {
        let boots = Finding {
            check: "boots".into(),
            go: None,
            mode: None,
            ok: false,
            detail: format!("{why:#}"),
            took_ms: 0,
            figures: BTreeMap::new(),
        };
        boots.print();
        Self {
            machine,
            package: machine.name(),
            findings: vec![boots],
            took: Duration::ZERO,
        }
    }

    /// The findings of one check.
    pub fn of(&self, check: &str) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.check == check)
    }

    /// One line for each failed check.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.findings.iter().filter(|finding| !finding.ok);
        failed
            .map(|finding| {
                let first = finding.detail.lines().next().unwrap_or_default();
                format!("{}: {}: {first}", self.machine.name(), finding.name())
            })
            .collect()
    }

    /// Prints how many checks there were and how many failed.
    pub fn print(&self) {
        let failed = self.failures().len();
        println!(
            "   {}: {} checks, {failed} failed, {}",
            self.machine.name(),
            self.findings.len(),
            step::seconds(self.took)
        );
    }
}
