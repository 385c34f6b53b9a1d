//! `gmpscope doctor`.

use super::{columns::hanging, print};
use crate::{
    cli::{DoctorArgs, FormatArg},
    doctor::{self, Check, Report},
    error::{Error, Failure, Result},
    output::json,
    plan::Mode,
};

/// Column at which findings begin.
const FINDINGS: usize = 37;

/// Prints the checks of this machine.
///
/// # Errors
/// [`Failure::NotPermitted`], without a message, if a mode is impossible here: the table says why.
pub fn run(args: &DoctorArgs) -> Result<()> {
    let report = doctor::examine();
    print(&match args.form.format {
        FormatArg::Text => text(&report),
        FormatArg::Json => json(&report)?,
    })?;
    if Mode::ALL.iter().all(|&mode| report.allows(mode)) {
        return Ok(());
    }
    Err(Error {
        failure: Failure::NotPermitted,
        message: String::new(),
    })
}

fn json(report: &Report) -> Result<String> {
    json::pretty(report)
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    for check in &report.checks {
        out += &format!(
            "{:<26} {:<9} {}\n",
            check.name,
            check.status.name(),
            hanging(&check.detail, FINDINGS)
        );
        out += &remarks(check);
    }
    out += "\n";
    for verdict in &report.modes {
        let word = if verdict.possible {
            "possible"
        } else {
            "impossible"
        };
        let why = match verdict.prevented_by.as_slice() {
            [] => String::new(),
            names => format!(": {}", names.join(", ")),
        };
        out += &format!(
            "mode {:<8} {}\n",
            verdict.mode,
            hanging(&format!("{word}{why}"), 14)
        );
    }
    out
}

fn remarks(check: &Check) -> String {
    let remark = |mark: &str, text: &Option<String>| {
        text.as_deref().map_or_else(String::new, |text| {
            format!(
                "{:indent$}{mark} {}\n",
                "",
                hanging(text, FINDINGS + 3),
                indent = FINDINGS
            )
        })
    };
    remark("=>", &check.consequence) + &remark("->", &check.what_to_do)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{HitCost, Verified};

    #[test]
    fn the_table_fits_80_columns_and_names_what_prevents_a_mode() {
        let advice = "do this, and if that does not help do that, and then the other thing as well";
        let report = Report::new(
            "6.1.0".into(),
            vec![
                Check::ok("kernel", "Linux 6.1.0"),
                Check::degraded("perf_event_paranoid", "3", "something is slower than it could be")
                    .advise(advice),
                Check::missing("CAP_BPF", "not held", &[Mode::Sampled, Mode::Exact, Mode::Full])
                    .advise(advice),
            ],
            HitCost::new(),
            Verified::new(),
        );
        let shown = text(&report);
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert!(
            shown.contains("mode passive  possible\nmode sampled  impossible: CAP_BPF\n"),
            "{shown}"
        );
        assert!(shown.contains("=> no sampled, no exact"), "{shown}");
        assert!(json(&report).unwrap().contains("\"prevented_by\""));
    }
}
