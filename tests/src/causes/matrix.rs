//! The table of docs/causes.md: for each workload and its twin the share of each cause.

use std::time::Duration;

use anyhow::Result;
use tracer_user::model::sched::Cause;

use super::pathology::Pathology;
use super::reading::Reading;
use super::running::Running;

/// How long each is captured.
pub const WINDOW: Duration = Duration::from_secs(2);

/// Runs every workload and its twin, and makes the table; `seen` gets each row once it is there.
pub fn table(mut seen: impl FnMut(&str)) -> Result<String> {
    let mut table = head();
    for Pathology {
        cause,
        workload,
        twin,
    } in Pathology::ALL
    {
        let name = format!("`{}`", cause.name());
        for (name, way) in [(name.clone(), workload), (format!("{name}, twin"), twin)] {
            let row = row(&name, cause, &Running::capture(&way, WINDOW)?);
            seen(&row);
            table.push_str(&row);
            table.push('\n');
        }
    }
    Ok(table)
}

fn head() -> String {
    let mut names = "| workload | waited, ms |".to_owned();
    let mut rule = "|---|---:|".to_owned();
    for cause in Cause::ALL {
        names.push_str(&format!(" {} |", cause.name()));
        rule.push_str("---:|");
    }
    format!("{names}\n{rule}\n")
}

/// A row, in which the cell of the workload's own cause stands out.
fn row(name: &str, own: Cause, reading: &Reading) -> String {
    let mut row = format!("| {name} | {} |", reading.sum_ns() / 1_000_000);
    for cause in Cause::ALL {
        let share = percent(reading.share(cause));
        row.push_str(&match cause == own {
            true => format!(" **{share}** |"),
            false => format!(" {share} |"),
        });
    }
    row
}

/// A share with one decimal; a dot where it rounds to nothing.
fn percent(share: f64) -> String {
    match 100.0 * share {
        percent if percent < 0.05 => "·".to_owned(),
        percent => format!("{percent:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_column_for_each_cause() {
        let head = head();
        let columns: Vec<usize> = head.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(columns, [Cause::COUNT + 3; 2]);
    }

    #[test]
    fn shares_are_rounded() {
        assert_eq!(percent(0.0), "·");
        assert_eq!(percent(0.000_4), "·");
        assert_eq!(percent(0.000_6), "0.1");
        assert_eq!(percent(0.987_6), "98.8");
    }
}
