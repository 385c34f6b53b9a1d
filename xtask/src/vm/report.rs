//! What a guest found.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::Machine;
use crate::step;

/// One thing that was checked, as the guest prints it.
#[derive(Clone, Debug, Deserialize)]
pub struct Finding {
    /// Which check.
    pub check: String,
    /// Of a program of which Go version, where there was one.
    #[serde(default)]
    pub go: Option<String>,
    /// In which mode.
    #[serde(default)]
    pub mode: Option<String>,
    /// Whether it holds.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
    /// How long it took.
    #[serde(default)]
    pub took_ms: u64,
    /// Figures by name, where the check has any.
    #[serde(default)]
    pub figures: BTreeMap<String, u64>,
}

impl Finding {
    /// `attach 1.27.3 exact`
    pub fn name(&self) -> String {
        let parts = [Some(&self.check), self.go.as_ref(), self.mode.as_ref()];
        parts
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// One line for a person; what a check that failed saw follows.
    pub fn print(&self) {
        let mut lines = self.detail.lines();
        let first = lines.next().unwrap_or_default();
        let (shown, more) = match self.check.as_str() {
            // Its text is for the documents.
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
    /// Which.
    pub machine: Machine,
    /// The kernel's package.
    pub package: String,
    /// In the order in which they came.
    pub findings: Vec<Finding>,
    /// From the start of the emulator to its end.
    pub took: Duration,
}

impl Report {
    /// Of a machine that did not come so far.
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

    /// What failed, each in a line.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.findings.iter().filter(|finding| !finding.ok);
        failed
            .map(|finding| {
                let first = finding.detail.lines().next().unwrap_or_default();
                format!("{}: {}: {first}", self.machine.name(), finding.name())
            })
            .collect()
    }

    /// How many there were.
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
